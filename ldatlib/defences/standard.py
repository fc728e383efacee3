"""Adversarial training on PGD examples: PGD-AT with an L-inf ball, L2-AT with an L2 one."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ldatlib.defences.base import Defence, Loss, accuracy
from ldatlib.models import Classifier


@dataclass(frozen=True)
class Standard(Defence):
    """``CE(p', y)``: Madry et al. 2018, Eq. 4 of the paper."""

    passes = 3

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
        logits = model(x_adv)
        return F.cross_entropy(logits, y), {"adversarial_accuracy": accuracy(logits, y)}
