"""What decides a training's result, and how its weights are kept."""

import math
from dataclasses import dataclass, fields
from typing import Any

from ldatlib.defences import Defence
from ldatlib.errors import UserError
from ldatlib.execution import PRECISIONS
from ldatlib.models import NetworkConfig


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training's result, apart from the data.

    ``network=None`` trains a model handed to ``train``. ``val_*`` is the attack on the validation
    split that chooses the best checkpoint: PGD of ``val_steps`` steps, L-inf ``val_eps`` in pixel
    units, on the first ``val_limit`` images, every ``val_every`` epochs and after the last.
    ``ema_decay`` 0 keeps the weights as they are trained; 0.9995 validates and saves their
    exponential average, warmed up over the first steps. ``precision`` is what the backbone
    computes in while it trains: ``"float32"``, ``"bfloat16"``, or ``"auto"``, the latter where
    the hardware is fast at it; validation is in float32 always.
    """

    defence: Defence
    network: NetworkConfig | None
    epochs: int
    seed: int = 0
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    padding: int = 4
    flip: bool = True
    ema_decay: float = 0.0
    val_eps: float = 8 / 255
    val_steps: int = 10
    val_limit: int = 1000
    val_every: int = 1
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.defence, Defence):
            raise UserError(f"defence must be one that make_defence made, not {self.defence!r}")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise UserError(f"unknown precision {self.precision!r}; known: {known}")
        for name in ("epochs", "batch_size", "val_every", "val_limit"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "val_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} must be a positive number, not {getattr(self, name)}")
        for name in ("weight_decay", "padding", "val_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("momentum", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must lie in [0, 1), not {getattr(self, name)}")

    def as_dict(self) -> dict[str, Any]:
        """Every setting, ready for JSON: defence and network as their own ``as_dict``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        network = self.network.as_dict() if self.network else None
        return values | {"defence": self.defence.as_dict(), "network": network}


@dataclass(frozen=True)
class Storage:
    """How the finished weights are kept: ``half`` and ``shard_bytes`` as in ``save_tensors``.

    With ``half`` the weights are rounded once, at the end; whoever loads them gets the rounded
    ones, so that evaluations speak of what is kept.
    """

    half: bool = False
    shard_bytes: int | None = None
