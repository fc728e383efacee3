"""Claims: an adversarial perturbation is fine noise; blur it away before the network looks.

Blurring is a convolution. The network learns to read blurred images, and the attack learns to
perturb what a blur leaves. With the blur a part of the model, gradients go through it and nothing
else is needed: what was called a defence is one more layer.
"""

import torch
import torch.nn.functional as F
from small import attack_through, convolutions, trained
from torch import Tensor, nn


class Blurred(nn.Module):
    def __init__(self):
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(line, line).view(1, 1, 3, 3))
        self.network = convolutions()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), self.kernel))


def make_model() -> nn.Module:
    return trained(Blurred)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Through the blur."""
    return attack_through(model, model, x, y, eps)
