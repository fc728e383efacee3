"""What decides a training's result, and how its weights are kept."""

from dataclasses import dataclass, fields
from typing import Any

from ldatlib.defences import Defence
from ldatlib.defences.settings import Settings
from ldatlib.errors import UserError
from ldatlib.execution import PRECISIONS
from ldatlib.models import NetworkConfig

# Of torch's generators.
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Everything that decides a training's result, apart from the data.

    ``network=None`` trains a model handed to ``train``. ``val_*`` is the attack on the validation
    split that chooses the best checkpoint: PGD of ``val_steps`` steps, L-inf ``val_eps`` in pixel
    units, on the first ``val_limit`` images, every ``val_every`` epochs and after the last.
    ``ema_decay`` 0 keeps the weights as they are trained; 0.9995 validates and saves their
    exponential average, warmed up over the first steps. ``precision`` is what the backbone
    computes in while it trains: ``"float32"``, ``"bfloat16"``, or ``"auto"``, the latter where
    the hardware is fast at it; validation is in float32 always. Types and ranges are checked when
    it is made: ``UserError``.
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
        if not isinstance(self.network, NetworkConfig | None):
            raise UserError(
                f"network must be a NetworkConfig, or None for a model of your own that train is "
                f"handed, not {self.network!r}"
            )
        for name in ("epochs", "batch_size", "val_every", "val_limit"):
            self.check_count(name)
        for name in ("seed", "padding", "val_steps"):
            self.check_count(name, 0)
        if self.seed > _LARGEST_SEED:
            raise UserError(f"seed must be at most {_LARGEST_SEED}, not {self.seed}")
        for name in ("lr", "val_eps"):
            self.check_number(name, open=True)
        self.check_number("weight_decay")
        for name in ("momentum", "ema_decay"):
            self.check_number(name, 0, 1)
            if getattr(self, name) == 1:
                raise UserError(f"{name} must be below 1, not 1")
        self.check_truth("flip")
        self.check_choice("precision", PRECISIONS)

    def as_dict(self) -> dict[str, Any]:
        """Every setting, ready for JSON: defence and network as their own ``as_dict``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        network = self.network.as_dict() if self.network else None
        return values | {"defence": self.defence.as_dict(), "network": network}


@dataclass(frozen=True)
class Storage(Settings):
    """How the finished weights are kept: ``half`` and ``shard_bytes`` as in ``save_tensors``.

    With ``half`` the weights are rounded once, at the end; whoever loads them gets the rounded
    ones, so that evaluations speak of what is kept.
    """

    half: bool = False
    shard_bytes: int | None = None

    def __post_init__(self) -> None:
        self.check_truth("half")
        if self.shard_bytes is not None:
            self.check_count("shard_bytes")
