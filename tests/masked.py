"""Networks of which a test for gradient masking must, or must not, say so."""

import torch
import torch.nn.functional as F
from torch import nn

from ldatlib import load_dataset, make_defence, pgd
from ldatlib.models import NetworkConfig, build_network

TRAINING_EPS = 0.15


def digits():
    return load_dataset("digits", val_size=100, test_size=100)


def fit(model, epochs, loss=None, lr=0.2):
    """A network trained on the digits; ``loss(model, x, y, progress)``, else cross-entropy."""
    x, y = digits().split("train")
    loss = loss or (lambda model, x, y, progress: F.cross_entropy(model(x), y))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = len(x) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    for epoch in range(epochs):
        for rows in torch.randperm(len(x))[: steps * 64].split(64):
            model.train()
            optimizer.zero_grad()
            loss(model, x[rows], y[rows], (epoch + 1) / epochs).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def small_network(seed, head):
    torch.manual_seed(seed)
    shape = {"depth": 6, "stages": 2, "width": 8, "in_channels": 1, "head": head}
    return build_network(NetworkConfig(num_classes=10, **shape), *digits().statistics())


def pgd_trained(seed):
    """A small network, trained on PGD examples for a few seconds."""
    ball = {"eps": TRAINING_EPS, "step_size": 0.05, "num_steps": 4}
    return fit(
        small_network(seed, "linear"),
        7,
        lambda model, x, y, progress: F.cross_entropy(model(pgd(model, x, y, **ball)), y),
    )


def ldat_trained(seed):
    """The same trained by LDAT as the paper writes it."""
    defence = make_defence("ldat", eps_linf=TRAINING_EPS, eps_l2=0.5, radius=1.5, num_steps=4)

    def loss(model, x, y, progress):
        x_adv = defence.adversary.finalise(x, defence.adversary(model, x, y))
        return defence.loss(model, x, x_adv, y, progress=progress)[0]

    return fit(small_network(seed, "gmm"), 7, loss)


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


class Noisy(Wrapped):
    """Pixels under noise: the gradient leads somewhere, each time elsewhere."""

    def forward(self, x):
        return self.model(x + 0.03 * torch.randn_like(x))


class Shattered(Wrapped):
    """Ripples far below what is seen turn the gradient this way and that."""

    def forward(self, x):
        return self.model(x + 0.01 * torch.sin(3000 * x))


class Tanhs(nn.Module):
    """A hidden layer of tanhs; with a large gain they saturate."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.gain = nn.Linear(64, 128), nn.Linear(128, 10), 1.0

    def forward(self, x):
        return self.last(torch.tanh(self.gain * self.first(x.flatten(1) - 0.5)))


class KWinners(nn.Module):
    """Of each hidden layer the largest twentieth alone goes on (Xiao et al. 2020): it jumps."""

    def __init__(self):
        super().__init__()
        widths = (64, 400, 400, 400)
        pairs = zip(widths, widths[1:], strict=False)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.last = nn.Linear(400, 10)

    def forward(self, x):
        values = x.flatten(1) - 0.5
        for layer in self.hidden:
            values = layer(values)
            values = values * (values >= values.topk(20, dim=1).values[:, -1:])
        return self.last(values)


def saturated_tanhs():
    torch.manual_seed(2)
    model = fit(Tanhs(), 8, lr=0.1)
    model.gain = 1000.0
    # The last layer once more, for what the saturated ones say.
    model.first.requires_grad_(False)
    return fit(model, 4, lr=0.02)


def k_winners():
    torch.manual_seed(3)
    return fit(KWinners(), 15, lr=0.05)
