"""The defences: what each trains against, and the loss it minimises; one file each.

``make_defence`` makes one by name, ``register_defence`` adds one of your own.
"""

from ldatlib.defences.adversaries import PGD, Adversary, Boundary, Budgets, NoAdversary
from ldatlib.defences.base import Defence, Loss, accuracy, kl_divergence
from ldatlib.defences.lbgat import LBGAT
from ldatlib.defences.ldat import CHOSEN, LAMBDA_SCHEDULES, LDAT, lambda_at, ldat_loss
from ldatlib.defences.mart import MART
from ldatlib.defences.natural import Natural
from ldatlib.defences.registry import (
    TITLES,
    defence_names,
    make_defence,
    register_defence,
    unregister_defence,
)
from ldatlib.defences.standard import Standard
from ldatlib.defences.trades import TRADES

__all__ = [
    "CHOSEN",
    "LAMBDA_SCHEDULES",
    "LBGAT",
    "LDAT",
    "MART",
    "PGD",
    "TITLES",
    "TRADES",
    "Adversary",
    "Boundary",
    "Budgets",
    "Defence",
    "Loss",
    "Natural",
    "NoAdversary",
    "Standard",
    "accuracy",
    "defence_names",
    "kl_divergence",
    "lambda_at",
    "ldat_loss",
    "make_defence",
    "register_defence",
    "unregister_defence",
]
