"""TRADES: natural accuracy and a smooth neighbourhood, weighed against each other."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ldatlib.defences.base import Defence, Loss, accuracy, kl_divergence
from ldatlib.models import Classifier


@dataclass(frozen=True)
class TRADES(Defence):
    """``CE(p, y) + beta KL(p || p')``: Zhang et al. 2019, Eq. 5 of the paper; beta at least 0."""

    beta: float = 6.0

    passes = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_number("beta")

    def loss(
        self,
        model: Classifier,
        x: Tensor,
        x_adv: Tensor,
        y: Tensor,
        *,
        progress: float,
        teacher: Classifier | None = None,
    ) -> Loss:
        logits, logits_adv = model(x), model(x_adv)
        natural = F.cross_entropy(logits, y)
        divergence = kl_divergence(logits, logits_adv).mean()
        return natural + self.beta * divergence, {
            "loss_natural": natural.detach(),
            "loss_divergence": divergence.detach(),
            "natural_accuracy": accuracy(logits, y),
            "adversarial_accuracy": accuracy(logits_adv, y),
        }
