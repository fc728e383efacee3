"""LBGAT: guided by the boundary of a naturally trained teacher."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ldatlib.defences.base import Defence, Loss, accuracy, kl_divergence
from ldatlib.errors import UserError
from ldatlib.models import Classifier


@dataclass(frozen=True)
class LBGAT(Defence):
    """``MSE(z', z_T) + CE(z_T, y) + beta KL(p || p')``: Cui et al. 2021; beta at least 0.

    The natural teacher's logits z_T are trained jointly and not detached: each side is drawn to
    the other.
    """

    beta: float = 6.0

    passes = 9
    needs_teacher = True

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
        """Raises ``UserError`` without a teacher."""
        if teacher is None:
            raise UserError(f"{self.name} needs a teacher: a second network")
        logits, logits_adv, logits_teacher = model(x), model(x_adv), teacher(x)
        guidance = F.mse_loss(logits_adv, logits_teacher)
        natural = F.cross_entropy(logits_teacher, y)
        divergence = kl_divergence(logits, logits_adv).mean()
        return guidance + natural + self.beta * divergence, {
            "loss_guidance": guidance.detach(),
            "loss_teacher": natural.detach(),
            "loss_divergence": divergence.detach(),
            "natural_accuracy": accuracy(logits, y),
            "adversarial_accuracy": accuracy(logits_adv, y),
        }
