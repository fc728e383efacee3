"""Claims: thermometer encoding; a pixel's value becomes eight bits, and bits have no gradient.

A bit says whether the pixel is above its level. In the place of the step the attacker puts a slope
(backward pass differentiable approximation: Athalye, Carlini and Wagner 2018, who broke the
thermometers of Buckman et al. 2018 so).
"""

import torch
from small import attack_through, convolutions, trained
from torch import Tensor, nn

LEVELS = 8


def distances(x: Tensor) -> Tensor:
    """How far pixels are above each level, in levels; [N, 1, 8, 8] -> [N, LEVELS, 8, 8]."""
    levels = (torch.arange(LEVELS, device=x.device) + 0.5) / LEVELS
    return (x - levels.view(1, -1, 1, 1)) * LEVELS


class Thermometer(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = convolutions(LEVELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.network((distances(x) > 0).float())


def make_model() -> nn.Module:
    return trained(Thermometer)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Slopes instead of steps."""

    def stand_in(images: Tensor) -> Tensor:
        return model.network(torch.sigmoid(4 * distances(images)))

    return attack_through(stand_in, model, x, y, eps)
