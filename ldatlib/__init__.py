"""LDAT: adversarial training with a Gaussian-mixture head, and an evaluation that can be trusted.

The names below are the public ones; each is imported when it is first used, so that
``import ldatlib`` costs nothing.
"""

from importlib import import_module

_PUBLIC = {
    "UserError": "errors",
    "GaussianMixtureHead": "gmm",
    "Classifier": "models",
    "NetworkConfig": "models",
    "build_network": "models",
    "boundary_attack": "attacks",
    "pgd": "attacks",
    "DefenceConfig": "defences",
    "make_defence": "defences",
    "Dataset": "data",
    "load_dataset": "data",
    "TrainConfig": "train_config",
    "train": "trainer",
    "load_model": "checkpoint",
    "Attack": "attack_methods",
    "evaluate": "robustness",
    "table1_attacks": "attack_methods",
    "wilson_interval": "robustness",
    "Profile": "profiles",
    "load_profile": "profiles",
    "open_run": "experiments",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ldatlib' has no attribute {name!r}")
    value = getattr(import_module(f"ldatlib.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
