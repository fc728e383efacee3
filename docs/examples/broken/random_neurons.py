"""Claims: noise on every layer's neurons, drawn anew in each pass; no gradient is right twice.

The mean over passes is what such a model predicts, and has a gradient: expectation over
transformations (Athalye, Carlini and Wagner 2018). Noise that leaves the digits readable leaves
that mean as easy to attack as the network below it.
"""

import torch
from small import attack_through, convolutions, trained
from torch import Tensor, nn

from ldatlib.evaluation.gate.wrappers import Averaged

NOISE = 0.5


class NoisyNeurons(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = convolutions()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.network:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                x = x * (1 + NOISE * torch.randn_like(x))
        return x


def make_model() -> nn.Module:
    return trained(NoisyNeurons)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The network without its noise shows the way; a mean of passes says whether it is there."""
    judge = Averaged(model, 20, seed=1)
    return attack_through(model.network, judge, x, y, eps, restarts=4)
