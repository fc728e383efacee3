"""LDAT, the paper's method: Algorithm 1's images, a Gaussian-mixture head, Eq. 9 to 12."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ldatlib.defences.base import Defence, Loss, accuracy
from ldatlib.gmm import CENTROID_INITS, REGULARIZER_SCALES, GaussianMixtureHead
from ldatlib.models import HEADS, Classifier

LAMBDA_SCHEDULES = ("grow", "grow_by_step", "grow_from_half", "constant", "decay")

# LDAT for new users: the likelihood term that validation images of CIFAR-10 chose; 0 and 0.1 are
# level with it under PGD L2 (docs/regularizer.md). Table 1 has LDAT as written, too, ``"ldat"``.
CHOSEN = {"lambda_init": 0.01}


def lambda_at(progress: float, schedule: str, lambda_init: float) -> float:
    """The weight of L_lkd at ``progress = t / T`` in (0, 1].

    ``"grow"`` is Eq. 12, where t counts epochs; ``"grow_by_step"`` the same by the step, which
    differs where epochs are few. ``"grow_from_half"`` is 0 for half of the training and then grows
    to the same end. ``"decay"`` is Section 4.1.2 ("decreases linearly to 0"): the paper says both
    (``docs/gaps.md``, gap 1). By the epoch it begins at 1 - 1/T.
    """
    factors = {
        "constant": 1.0,
        "decay": 1.0 - progress,
        "grow_from_half": max(0.0, 2 * progress - 1),
    }
    return lambda_init * factors.get(schedule, progress)


def ldat_loss(
    model: Classifier,
    x: Tensor,
    x_adv: Tensor,
    y: Tensor,
    *,
    beta: float,
    margin: float,
    lambda_t: float,
    regularizer_scale: str = "sum",
) -> Loss:
    """``(1 - beta) [L_cls(x) + lambda_t L_lkd(x)] + beta [L_cls(x') + lambda_t L_lkd(x')]``.

    Algorithm 2, Eq. 9 to 11. L_cls is the cross-entropy of the posterior with the margin, L_lkd
    the likelihood regularisation of Eq. 7. With a linear head (an ablation) there is no margin
    and no L_lkd: what is left is the mixture of natural and adversarial cross-entropy.
    """
    parts: dict[str, Tensor] = {}
    total = x.new_zeros(())
    for images, name, weight in ((x, "natural", 1 - beta), (x_adv, "adversarial", beta)):
        if weight == 0:
            continue
        features = model.features(images)
        logits = model.head(features)
        if isinstance(model.head, GaussianMixtureHead):
            classification = F.cross_entropy(model.head.margin_logits(features, y, margin), y)
            regularizer = model.head.likelihood_regularization(features, y, regularizer_scale)
            parts[f"regularizer_{name}"] = regularizer.detach()
            total = total + weight * (classification + lambda_t * regularizer)
        else:
            classification = F.cross_entropy(logits, y)
            total = total + weight * classification
        parts[f"loss_{name}"] = classification.detach()
        parts[f"{name}_accuracy"] = accuracy(logits, y)
    return total, parts


@dataclass(frozen=True)
class LDAT(Defence):
    """Adversarial training with a learnable distribution: Algorithm 2 with ``ldat_loss``.

    ``beta`` in [0, 1] weighs the adversarial half of the loss, ``margin`` (alpha in the paper, at
    least 0) is in the training loss only, ``lambda_init`` (at least 0) and ``lambda_schedule`` are
    those of ``lambda_at``. ``head="linear"`` leaves the Gaussian mixture out; the other settings
    then have nothing to act on, but for ``beta``. What the paper leaves open about each of them:
    ``docs/gaps.md``.
    """

    head: str = "gmm"
    beta: float = 0.5
    margin: float = 0.1
    lambda_init: float = 1.0
    lambda_schedule: str = "grow"
    regularizer_scale: str = "sum"
    centroid_init: str = "xavier"
    centroid_weight_decay: bool = True

    passes = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("head", HEADS)
        self.check_number("beta", 0, 1)
        self.check_number("margin")
        self.check_number("lambda_init")
        self.check_choice("lambda_schedule", LAMBDA_SCHEDULES)
        self.check_choice("regularizer_scale", REGULARIZER_SCALES)
        self.check_choice("centroid_init", CENTROID_INITS)
        self.check_choice("centroid_weight_decay", (True, False))

    @property
    def progress_by_step(self) -> bool:
        return self.lambda_schedule == "grow_by_step"

    def decays(self, parameter: str) -> bool:
        return self.centroid_weight_decay or parameter != "head.means"

    def log(self, progress: float) -> dict[str, float]:
        return {"lambda": self._lambda(progress)} if self.head == "gmm" else {}

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
        return ldat_loss(
            model,
            x,
            x_adv,
            y,
            beta=self.beta,
            margin=self.margin,
            lambda_t=self._lambda(progress),
            regularizer_scale=self.regularizer_scale,
        )

    def _lambda(self, progress: float) -> float:
        return lambda_at(progress, self.lambda_schedule, self.lambda_init)
