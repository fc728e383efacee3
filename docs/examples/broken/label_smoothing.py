"""Claims: trained towards smoothed labels, so less sure of itself, with smaller gradients.

Smaller, but in the same directions: a step along the sign of the gradient does not see its length.
Any attack that does not stop early goes through.
"""

import torch.nn.functional as F
from small import attack_through, convolutions, trained
from torch import Tensor, nn


def smoothed(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y, label_smoothing=0.8)


def make_model() -> nn.Module:
    return trained(convolutions, loss=smoothed)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The margin, which is blind to how sure the network is."""
    return attack_through(model, model, x, y, eps)
