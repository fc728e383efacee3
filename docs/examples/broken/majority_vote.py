"""Claims: three networks vote; an image that fools one is outvoted by the others.

Votes are counted, so there is no gradient at all. But the networks have learnt the same task: the
mean of their logits is a stand-in with a gradient, and what it misreads, two of three do.
"""

import torch
import torch.nn.functional as F
from small import attack_through, convolutions, trained
from torch import Tensor, nn


class Vote(nn.Module):
    """Images -> votes [N, 10]; among classes with as many the first one counts."""

    def __init__(self, networks: list[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        votes = [F.one_hot(network(x).argmax(1), 10) for network in self.networks]
        return torch.stack(votes).sum(0).float()


def make_model() -> nn.Module:
    return Vote([trained(convolutions, seed) for seed in range(3)]).eval()


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The mean of what the three would have said, each by its own probabilities."""

    def stand_in(images: Tensor) -> Tensor:
        return torch.stack([network(images) for network in model.networks]).mean(0)

    return attack_through(stand_in, model, x, y, eps)
