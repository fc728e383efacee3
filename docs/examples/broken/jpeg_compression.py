"""Claims: JPEG throws away what the eye does not see, the perturbation with it.

An 8 x 8 block goes through the cosine transform, its coefficients are rounded to coarse steps, and
back. Rounding has a gradient of 0. Going back as if it were not there is enough (straight through:
Athalye, Carlini and Wagner 2018).
"""

import math

import torch
from small import attack_through, convolutions, trained
from torch import Tensor, nn

STEP = 0.25


def cosines() -> Tensor:
    """The orthonormal cosine transform of 8 values, [8, 8]."""
    k = torch.arange(8.0)
    rows = torch.cos(math.pi / 8 * (k + 0.5) * k.view(-1, 1)) / 2
    rows[0] /= math.sqrt(2)
    return rows


class Compressed(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("transform", cosines())
        self.network = convolutions()

    def forward(self, x: Tensor) -> Tensor:
        coefficients = self.transform @ x @ self.transform.T
        rounded = (coefficients / STEP).round() * STEP
        return self.network(self.transform.T @ rounded @ self.transform)


def make_model() -> nn.Module:
    return trained(Compressed)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Forwards with the rounding, backwards without."""

    def stand_in(images: Tensor) -> Tensor:
        with torch.no_grad():
            coefficients = model.transform @ images @ model.transform.T
            rounded = (coefficients / STEP).round() * STEP
            seen = model.transform.T @ rounded @ model.transform
        return model.network(images + (seen - images).detach())

    return attack_through(stand_in, model, x, y, eps)
