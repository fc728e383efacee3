"""What every defence is: settings, an adversary, and a loss.

``p = softmax(model(x))`` and ``p' = softmax(model(x_adv))`` in all that follows. Natural and
adversarial images pass through the network one after the other, in train mode (``docs/gaps.md``,
gap 8).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from ldatlib.defences.adversaries import Adversary
from ldatlib.defences.settings import Settings
from ldatlib.models import Classifier

# The scalar to minimise, and its parts for the log, detached.
Loss = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Defence(Settings, ABC):
    """Base class of the defences, also of your own: a frozen dataclass of the settings it uses.

    A subclass adds its settings as fields with defaults, checks them in ``__post_init__``, says
    ``passes`` and implements ``loss``. ``register_defence`` gives it a name; ``make_defence``
    makes it. ``docs/examples/label_smoothing.py`` is a complete one.

    ``passes`` is the cost of the loss step per image in forward passes (forward and backward of
    one image: 3). With ``needs_teacher`` a second network of the same kind, with weights of its
    own, is trained beside the first and handed to ``loss``.
    """

    name: str
    adversary: Adversary

    passes: ClassVar[float]
    needs_teacher: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.adversary, Adversary):
            raise self.error(f"adversary must be an Adversary, not {self.adversary!r}")

    @abstractmethod
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
        """The loss of images ``x``, adversarial ones ``x_adv`` [N, C, H, W] and labels ``y`` [N].

        ``progress`` is t / T in (0, 1], where t counts epochs from 1, or the share of the steps
        done where ``progress_by_step``.
        """

    @property
    def owner(self) -> str:
        return self.name

    @property
    def head(self) -> str:
        """Of the network it wants: ``"linear"`` or ``"gmm"``. A subclass may make it a field."""
        return "linear"

    @property
    def centroid_init(self) -> str:
        """How a Gaussian-mixture head's centroids start: ``"xavier"`` or ``"normal"``."""
        return "xavier"

    @property
    def progress_by_step(self) -> bool:
        """Whether ``progress`` grows with every step instead of every epoch."""
        return False

    def decays(self, parameter: str) -> bool:
        """Whether a parameter of the network, by name, has weight decay."""
        return True

    def log(self, progress: float) -> dict[str, float]:
        """What an epoch's line in the log says of its schedules."""
        return {}

    def as_dict(self) -> dict[str, Any]:
        """Every setting, ready for JSON; those of the adversary with its kind inside."""
        return {**super().as_dict(), "adversary": self.adversary.as_dict()}


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Share of right predictions, a scalar: of logits [N, C] and labels [N]."""
    return (logits.detach().argmax(1) == y).float().mean()


def kl_divergence(logits: Tensor, logits_adv: Tensor) -> Tensor:
    """``KL(p || p')`` per image, [N], in nats."""
    return F.kl_div(
        logits_adv.log_softmax(1), logits.log_softmax(1), reduction="none", log_target=True
    ).sum(1)
