"""Claims: a trapdoor for every class; attacks fall into it, and its fingerprint gives them away.

In training every class gets a pattern that leads to it. Attacks that look for the class are said to
find the features of the pattern, and what resembles them is rejected (Shan et al. 2020). The
attacker looks for the class and away from its fingerprint at once (Carlini 2020).
"""

import torch
import torch.nn.functional as F
from small import attack_through, convolutions, digits, trained
from torch import Tensor, nn


def triggers() -> Tensor:
    """Patterns [10, 1, 8, 8]: 0 where they leave the image alone, else up to 0.5 either way."""
    generator = torch.Generator().manual_seed(0)
    where = torch.rand(10, 1, 8, 8, generator=generator) < 0.3
    return where * (torch.rand(10, 1, 8, 8, generator=generator) - 0.5)


def with_trapdoors(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    target = torch.randint(0, 10, (len(x),))
    trapped = (x + triggers()[target]).clamp(0, 1)
    return F.cross_entropy(model(x), y) + 0.5 * F.cross_entropy(model(trapped), target)


class Trapped(nn.Module):
    """A network with trapdoors, and what each looks like: ``fingerprints`` [10, features]."""

    def __init__(self, network: nn.Sequential):
        super().__init__()
        self.network = network
        x, _ = digits()
        with torch.no_grad():
            self.register_buffer("usual", self.network[:-3](x).mean(0))
            seen = [self.direction((x + t).clamp(0, 1)).mean(0) for t in triggers()]
        self.register_buffer("fingerprints", F.normalize(torch.stack(seen)))

    def direction(self, x: Tensor) -> Tensor:
        """Where the neurons of the convolutions point, seen from where they usually are."""
        return F.normalize(self.network[:-3](x) - self.usual)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def make_model() -> nn.Module:
    return Trapped(trained(convolutions, epochs=20, loss=with_trapdoors)).eval()


def score(model: nn.Module, x: Tensor) -> Tensor:
    """How far the features are from the predicted class's fingerprint [N]: for --reject."""
    likeness = model.direction(x) @ model.fingerprints.T
    return -likeness.gather(1, model(x).argmax(1, keepdim=True)).squeeze(1)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float, threshold: float) -> Tensor:
    """Of every class's logit what its likeness exceeds the threshold by is taken off."""

    def stand_in(images: Tensor) -> Tensor:
        likeness = model.direction(images) @ model.fingerprints.T
        return model(images) - 50 * (likeness + threshold).clamp_min(0)

    def accepted(images: Tensor) -> Tensor:
        return score(model, images) >= threshold + 1e-4

    return attack_through(stand_in, model, x, y, eps, accepted=accepted)
