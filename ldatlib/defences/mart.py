"""MART: misclassified images count more."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ldatlib.defences.base import Defence, Loss, accuracy, kl_divergence
from ldatlib.models import Classifier


@dataclass(frozen=True)
class MART(Defence):
    """``CE(p', y) - log(1.0001 - max_{k != y} p'_k) + beta mean[KL(p || p') (1 - p_y)]``.

    Wang et al. 2020; beta, at least 0, is 5 as in its ResNet-18 script.
    """

    beta: float = 5.0

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
        p, p_adv = logits.softmax(1), logits_adv.softmax(1)
        # Probabilities are positive, so -1 never is the largest of the other classes.
        others = p_adv.scatter(1, y.unsqueeze(1), -1).amax(1)
        boosted = F.cross_entropy(logits_adv, y) - torch.log(1.0001 - others).mean()
        own = p.gather(1, y.unsqueeze(1)).squeeze(1)
        divergence = (kl_divergence(logits, logits_adv) * (1.0000001 - own)).mean()
        return boosted + self.beta * divergence, {
            "loss_adversarial": boosted.detach(),
            "loss_divergence": divergence.detach(),
            "natural_accuracy": accuracy(logits, y),
            "adversarial_accuracy": accuracy(logits_adv, y),
        }
