"""Networks of which a test for gradient masking must, or must not, say so."""

import torch
import torch.nn.functional as F
from torch import nn

from ldatlib import load_dataset, pgd
from ldatlib.models import NetworkConfig, build_network

TRAINING_EPS = 0.15


def digits():
    return load_dataset("digits", val_size=100, test_size=100)


def fit(model, epochs, adversary=None, lr=0.2):
    """A network trained on the digits, or on what ``adversary(model, x, y)`` makes of them."""
    x, y = digits().split("train")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = len(x) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x))[: steps * 64].split(64):
            seen = adversary(model, x[rows], y[rows]) if adversary else x[rows]
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(seen), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def trained(seed, head="linear"):
    """A small network, trained on PGD examples for a few seconds."""
    torch.manual_seed(seed)
    shape = {"depth": 6, "stages": 2, "width": 8, "in_channels": 1, "head": head}
    model = build_network(NetworkConfig(num_classes=10, **shape), *digits().statistics())
    ball = {"eps": TRAINING_EPS, "step_size": 0.05, "num_steps": 4}
    return fit(model, 7, lambda *images: pgd(*images, **ball))


class Wrapped(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


class Times(Wrapped):
    """Logits times a number: the cross-entropy of large ones has no gradient."""

    def __init__(self, model, factor):
        super().__init__(model)
        self.factor = factor

    def forward(self, x):
        return self.factor * self.model(x)


class Quantised(Wrapped):
    """Pixels in steps: the gradient is 0 almost everywhere, for every loss."""

    def forward(self, x):
        return self.model((x * 8).round() / 8)


class Halves(Wrapped):
    """Pixels in steps of one half, the gradient passed straight through."""

    def forward(self, x):
        return self.model(x + ((2 * x).round() / 2 - x).detach())


class Shattered(Wrapped):
    """Ripples far below what is seen turn the gradient this way and that."""

    def forward(self, x):
        return self.model(x + 0.01 * torch.sin(3000 * x))


class Tanhs(nn.Module):
    """A hidden layer of tanhs; with a gain of 30 they saturate."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.gain = nn.Linear(64, 128), nn.Linear(128, 10), 1.0

    def forward(self, x):
        return self.last(torch.tanh(self.gain * self.first(x.flatten(1) - 0.5)))


class KWinners(nn.Module):
    """Of a hidden layer the largest tenth alone goes on (Xiao et al. 2020): jumps everywhere."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 300), nn.Linear(300, 300)
        self.last = nn.Linear(300, 10)

    @staticmethod
    def winners(hidden):
        least = hidden.topk(30, dim=1).values[:, -1:]
        return hidden * (hidden >= least)

    def forward(self, x):
        hidden = self.winners(self.first(x.flatten(1) - 0.5))
        return self.last(self.winners(self.second(hidden)))


def saturated_tanhs():
    torch.manual_seed(2)
    model = fit(Tanhs(), 8, lr=0.1)
    model.gain = 30.0
    # The last layer once more, for what the saturated ones say.
    model.first.requires_grad_(False)
    return fit(model, 4, lr=0.02)


def k_winners():
    torch.manual_seed(3)
    return fit(KWinners(), 12, lr=0.05)
