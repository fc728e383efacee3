"""Claims: an adversarial image sits on an edge; reject what random transforms do not read alike.

The score is the share of eight shifted, noisy views on which the prediction stays. It is counted,
so it has no gradient. The attacker climbs the mean over views of his own (expectation over
transformations): an image deep in a wrong class is as stable as any other.
"""

import torch
import torch.nn.functional as F
from small import attack_through, convolutions, trained
from torch import Tensor, nn

VIEWS, NOISE = 8, 0.1


def views(x: Tensor, count: int) -> Tensor:
    """Shifted by up to a pixel, with noise: [N, ...] -> [count * N, ...], view by view."""
    padded = F.pad(x, (1, 1, 1, 1))
    shifts = torch.randint(0, 3, (count, 2)).tolist()
    moved = torch.cat([padded[:, :, a : a + 8, b : b + 8] for a, b in shifts])
    return moved + NOISE * torch.randn_like(moved)


def on_views(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(views(x, 1)), y)


def make_model() -> nn.Module:
    return trained(convolutions, epochs=20, loss=on_views)


def score(model: nn.Module, x: Tensor) -> Tensor:
    """Share of views [N] that are read as the image is: for --reject."""
    with torch.no_grad():
        seen = model(views(x, VIEWS)).argmax(1).view(VIEWS, len(x))
        return (seen == model(x).argmax(1)).float().mean(0)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float, threshold: float) -> Tensor:
    """The mean over 24 views; done where the image is accepted three times."""

    def stand_in(images: Tensor) -> Tensor:
        seen = model(views(images, 24)).log_softmax(1).view(24, len(images), -1)
        return seen.mean(0)

    def accepted(images: Tensor) -> Tensor:
        return torch.stack([score(model, images) >= threshold for _ in range(3)]).all(0)

    return attack_through(stand_in, model, x, y, eps, accepted=accepted)
