"""What a defence trains against, with its settings, and the budgets it is built from.

An adversary is called with the network, images ``x`` [N, C, H, W] in [0,1] and labels ``y`` [N],
and returns images of that shape, detached; ``finalise`` then brings them to where the loss may see
them. The network is attacked in eval mode (``docs/gaps.md``, gap 8).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib import attacks
from ldatlib.defences.settings import Settings

# For the log: a mean over images, a scalar, and how many images it is of.
Mean = tuple[Tensor, int | Tensor]


@dataclass(frozen=True)
class Adversary(Settings, ABC):
    """Base class: a frozen dataclass of settings, ``__call__`` and ``passes``."""

    @property
    def kind(self) -> str:
        """Its name in records: that of the class, in lower case, unless it says another."""
        return type(self).__name__.lower()

    @property
    @abstractmethod
    def passes(self) -> float:
        """Cost per image in forward passes; an input gradient costs as much as a forward."""

    @abstractmethod
    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The adversarial images as the attack leaves them; random numbers from ``generator``."""

    def finalise(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """What the loss sees; here the images as they are, because they are inside the ball."""
        return x_adv

    def logged(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Mean]]:
        """What a call returns, and what the log says of it beside the mean length."""
        return self(model, x, y, generator), {}

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **super().as_dict()}


@dataclass(frozen=True)
class NoAdversary(Adversary):
    """The images themselves, for nothing."""

    kind = "none"
    passes = 0.0

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        return x


@dataclass(frozen=True)
class PGD(Adversary):
    """Projected gradient descent from a random start, Eq. 2 of the paper: ``attacks.pgd``.

    ``norm`` is ``"linf"`` or ``"l2"``; ``eps`` and ``step_size``, in pixel units, are at least 0,
    ``num_steps`` at least 1. ``loss`` is ``"ce"``, or ``"kl"`` as in TRADES.
    """

    norm: str
    eps: float
    step_size: float
    num_steps: int = 10
    loss: str = "ce"

    def __post_init__(self) -> None:
        self.check_choice("norm", attacks.NORMS)
        self.check_choice("loss", attacks.LOSSES)
        self.check_number("eps")
        self.check_number("step_size")
        self.check_count("num_steps")

    @property
    def passes(self) -> float:
        # The divergence is from the clean prediction, one forward pass more.
        return 2 * self.num_steps + (self.loss == "kl")

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        return attacks.pgd(
            model,
            x,
            y,
            eps=self.eps,
            step_size=self.step_size,
            num_steps=self.num_steps,
            norm=self.norm,
            loss=self.loss,
            generator=generator,
        )


@dataclass(frozen=True)
class Boundary(Adversary):
    """Algorithm 1, ``attacks.boundary_attack``, and Algorithm 2's projection as ``finalise``.

    ``num_steps`` is K, at least 1; ``gamma`` lies in (0, 1); ``radius`` of the L2 ball is at least
    0, in pixel units; ``optimizer`` is ``"unit"`` or ``"adam"`` (``docs/gaps.md``, gap 3).
    """

    num_steps: int = 10
    gamma: float = 0.2
    radius: float = 1.5
    optimizer: str = "unit"

    def __post_init__(self) -> None:
        self.check_count("num_steps")
        self.check_number("gamma", 0, 1, open=True)
        self.check_number("radius")
        self.check_choice("optimizer", attacks.ATTACK_OPTIMIZERS)

    @property
    def passes(self) -> float:
        return 2 * self.num_steps

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.logged(model, x, y, generator)[0]

    def finalise(self, x: Tensor, x_adv: Tensor) -> Tensor:
        return attacks.finalise(x, x_adv, self.radius)

    def logged(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Mean]]:
        """Beside it lengths and the share beyond the radius, of right and wrong images apart.

        Two populations: what is wrong from the start mostly shrinks, to ``(1 - gamma) ** K``.
        """
        x_adv, right = attacks.boundary_walk(
            model, x, y, self.num_steps, self.gamma, self.optimizer, generator
        )
        lengths = attacks.l2_norm(x_adv - x)
        result: dict[str, Mean] = {"attacked_right": (right.float().mean(), len(y))}
        for name, side in (("right", right), ("wrong", ~right)):
            # Means by a sum: a side without images must not be 0/0.
            count = side.sum()
            for what, values in (
                ("attack_norm", lengths),
                ("projected", (lengths > self.radius).float()),
            ):
                result[f"{what}_{name}"] = ((values * side).sum() / count.clamp_min(1), count)
        return x_adv, result


@dataclass(frozen=True)
class Budgets:
    """What a profile gives to every defence, in pixel units; each takes what it needs.

    ``eps_linf`` and ``eps_l2`` are the budgets of evaluation, ``radius`` that of LDAT's training
    images, ``num_steps`` the steps of every training attack. The methods are the adversaries that
    are usual at these budgets.
    """

    eps_linf: float
    eps_l2: float
    radius: float
    num_steps: int = 10

    def pgd_linf(self, loss: str = "ce") -> PGD:
        """PGD inside ``eps_linf`` with steps of a quarter of it."""
        return PGD("linf", self.eps_linf, self.eps_linf / 4, self.num_steps, loss)

    def pgd_l2(self, eps: float | None = None) -> PGD:
        """PGD inside ``eps`` (``eps_l2`` unless said) with steps of a fifth of it."""
        eps = self.eps_l2 if eps is None else eps
        return PGD("l2", eps, eps / 5, self.num_steps)

    def boundary(self) -> Boundary:
        """Algorithm 1, projected onto the ball of ``radius``."""
        return Boundary(num_steps=self.num_steps, radius=self.radius)
