"""Claims: trained on PGD examples of the budget 0.15, so robust there. It is, in part.

The honest control: nothing hides its gradient, and whoever reads this code has no better attack
than the usual ones. An evaluation should not sound an alarm here.
"""

import torch.nn.functional as F
from small import attack_through, convolutions, trained
from torch import Tensor, nn

from ldatlib import pgd


def on_pgd_examples(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x_adv = pgd(model, x, y, eps=0.15, step_size=0.05, num_steps=5)
    return F.cross_entropy(model(x_adv), y)


def make_model() -> nn.Module:
    return trained(convolutions, epochs=20, loss=on_pgd_examples)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The search itself: there is nothing to go around."""
    return attack_through(model, model, x, y, eps)
