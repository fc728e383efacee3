"""LDAT: adversarial training with a Gaussian-mixture head, and an evaluation that can be trusted.

The names below are the public ones; each is imported when it is first used, so that
``import ldatlib`` costs nothing.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "UserError": "errors",
    "GaussianMixtureHead": "gmm",
    "Classifier": "models",
    "NetworkConfig": "models",
    "build_network": "models",
    "boundary_attack": "attacks",
    "pgd": "attacks",
    "register_network": "models",
    "Defence": "defences",
    "make_defence": "defences",
    "register_defence": "defences",
    "Dataset": "data",
    "load_dataset": "data",
    "TrainConfig": "training.config",
    "train": "training.trainer",
    "load_model": "training.checkpoint",
    "Attack": "evaluation.named_attacks",
    "evaluate": "evaluation.robustness",
    "table1_attacks": "evaluation.named_attacks",
    "wilson_interval": "evaluation.robustness",
    "examine": "report.examination.run",
    "Profile": "study.settings",
    "load_profile": "study.profiles",
    "open_run": "study.run",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ldatlib' has no attribute {name!r}")
    value = getattr(import_module(f"ldatlib.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
