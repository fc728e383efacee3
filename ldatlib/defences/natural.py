"""No defence, to compare with."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ldatlib.defences.base import Defence, Loss, accuracy
from ldatlib.models import Classifier


@dataclass(frozen=True)
class Natural(Defence):
    """``CE(p, y)``: cross-entropy on the images as they are."""

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
        logits = model(x)
        return F.cross_entropy(logits, y), {"natural_accuracy": accuracy(logits, y)}
