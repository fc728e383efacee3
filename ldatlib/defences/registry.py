"""The defences by name: those of the paper, and those that plug-ins register."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from ldatlib.defences.adversaries import Adversary, Budgets, NoAdversary
from ldatlib.defences.base import Defence
from ldatlib.defences.lbgat import LBGAT
from ldatlib.defences.ldat import CHOSEN, LDAT
from ldatlib.defences.mart import MART
from ldatlib.defences.natural import Natural
from ldatlib.defences.standard import Standard
from ldatlib.defences.trades import TRADES
from ldatlib.errors import UserError
from ldatlib.gmm import CENTROID_INITS
from ldatlib.models import HEADS
from ldatlib.registry import Registry, origin_of

Build = Callable[[Budgets], Mapping[str, Any]]
SomeDefence = TypeVar("SomeDefence", bound=type[Defence])


@dataclass(frozen=True)
class _Known:
    """How a defence is made: its class, and its fields from the budgets of a profile."""

    cls: type[Defence]
    build: Build


_KNOWN: Registry[_Known] = Registry("defence")
# Name -> title for tables and figures, in the order of registration.
TITLES: dict[str, str] = {}
# To try a registration with: the paper's, CIFAR-10.
_PAPER = Budgets(eps_linf=8 / 255, eps_l2=0.5, radius=1.5)


def register_defence(name: str, title: str, build: Build) -> Callable[[SomeDefence], SomeDefence]:
    """Make a defence known by name, everywhere a name is taken; a decorator of its class.

    Parameters
    ----------
    name : for command lines and file names: lower-case letters, digits and underscores.
    title : for tables and figures.
    build : ``budgets -> {"adversary": ..., ...}``, the fields of the class that depend on the
        budgets or are not at their default. It is tried at once.

    Raises
    ------
    UserError : the name or the title is taken or unusable, the class is no frozen dataclass
        derived from ``Defence`` or lacks something, or ``build`` does not fit it.
    """

    def register(cls: SomeDefence) -> SomeDefence:
        origin = (origin_of(build), getattr(cls, "__qualname__", None), title)
        _KNOWN.check(name, origin)
        _check_title(name, title)
        _check_class(name, cls)
        known = _Known(cls, build)
        _check_defence(_make(name, known, _PAPER, {}))
        _KNOWN.add(name, known, origin)
        TITLES[name] = title
        return cls

    return register


def unregister_defence(name: str) -> None:
    """Forget a defence; ``UserError`` where there is none of that name."""
    _KNOWN.remove(name)
    del TITLES[name]


def defence_names() -> tuple[str, ...]:
    """The names that ``make_defence`` takes, plug-ins included, in the order of registration."""
    return tuple(_KNOWN)


def make_defence(
    name: str,
    *,
    eps_linf: float,
    eps_l2: float,
    radius: float,
    num_steps: int = 10,
    **switches: Any,
) -> Defence:
    """A defence at the budgets of a profile, with any of its settings replaced by name.

    Parameters
    ----------
    eps_linf, eps_l2, radius, num_steps : ``Budgets``; a defence takes those it has a use for.
    switches : fields of the defence (``beta=0.3``) or of its adversary (``gamma=0.1``), or
        ``adversary=`` as a whole (``PGD("l2", 0.5, 0.1)`` for LDAT). A name that both have is the
        defence's.

    Raises
    ------
    UserError : for an unknown defence or switch, listing the known ones, or a value out of range.
    """
    budgets = Budgets(eps_linf, eps_l2, radius, num_steps)
    return _make(name, _KNOWN.find(name), budgets, switches)


def _make(name: str, known: _Known, budgets: Budgets, switches: Mapping[str, Any]) -> Defence:
    try:
        settings = dict(known.build(budgets))
    except UserError as error:  # an adversary does not know whose it is
        raise UserError(f"{name}: {error}") from None
    except Exception as error:
        raise UserError(
            f"{name}: build fails ({type(error).__name__}: {error}); it takes budgets and returns "
            'a dictionary such as {"adversary": budgets.pgd_linf()}'
        ) from error
    adversary = switches.get("adversary", settings.get("adversary"))
    if not isinstance(adversary, Adversary):
        raise UserError(f"{name}: adversary must be an Adversary, such as PGD, not {adversary!r}")
    own = _fields(known.cls) - {"name"}
    theirs = _fields(type(adversary)) - own
    if unknown := sorted(set(settings) - own):
        raise UserError(f"{name}: build sets {unknown[0]!r}; known: {', '.join(sorted(own))}")
    if unknown := sorted(set(switches) - own - theirs):
        known_ones = ", ".join(sorted(own | theirs))
        raise UserError(f"unknown switch {unknown[0]!r} of {name}; known: {known_ones}")
    try:
        adversary = replace(adversary, **{k: v for k, v in switches.items() if k in theirs})
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    settings |= {k: v for k, v in switches.items() if k in own} | {"adversary": adversary}
    try:
        return known.cls(name=name, **settings)
    except TypeError as error:  # an abstract method, or a field without a value
        raise UserError(f"{name}: {error}") from error


def _fields(cls: type) -> set[str]:
    return {field.name for field in fields(cls)}


def _check_class(name: str, cls: Any) -> None:
    if not (inspect.isclass(cls) and issubclass(cls, Defence)):
        raise UserError(f"{name}: {cls!r} is no class derived from ldatlib.Defence")
    # Without the decorator the fields that it adds itself would be none.
    if "__dataclass_fields__" not in vars(cls):
        raise UserError(
            f"{name}: {cls.__name__} must be a frozen dataclass; put @dataclass(frozen=True) "
            "below @register_defence"
        )
    if getattr(cls.loss, "__isabstractmethod__", False):
        raise UserError(f"{name}: {cls.__name__} has no method loss")
    try:
        given = ("self", "model", "x", "x_adv", "y")
        inspect.signature(cls.loss).bind(*given, progress=1.0, teacher=None)
    except TypeError as error:
        raise UserError(
            f"{name}: loss must take (model, x, x_adv, y, *, progress, teacher=None): {error}"
        ) from None


def _check_title(name: str, title: str) -> None:
    if not isinstance(title, str) or not title.strip() or not title.isprintable():
        raise UserError(f"{name}: title must be a line of text, not {title!r}")
    for other, taken in TITLES.items():
        if taken == title and other != name:
            raise UserError(f"{name}: the title {title!r} is that of {other}; choose another one")


def _check_defence(defence: Defence) -> None:
    """What a made one must be for trainings and records."""
    for field, known in (("head", HEADS), ("centroid_init", CENTROID_INITS)):
        defence.check_choice(field, known)
    passes: Any = getattr(defence, "passes", None)
    attack: Any = defence.adversary.passes
    if not _is_number(passes) or passes <= 0:
        raise defence.error(
            f"passes must be the cost of the loss step in forward passes, such as 3, not {passes!r}"
        )
    if not _is_number(attack) or attack < 0:
        raise defence.error(f"its adversary's passes must be a number from 0, not {attack!r}")
    try:
        json.dumps(defence.as_dict(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise defence.error(
            f"its settings go into records and must be numbers, text or lists: {error}"
        ) from None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# What each trains against, L-inf unless it says otherwise. Tables and figures keep this order.
register_defence("natural", "Undefended", lambda budgets: {"adversary": NoAdversary()})(Natural)
register_defence("standard", "PGD-AT", lambda budgets: {"adversary": budgets.pgd_linf()})(Standard)
register_defence("l2_at", "L2-AT", lambda budgets: {"adversary": budgets.pgd_l2()})(Standard)
register_defence(
    "l2_at_wide",
    "L2-AT (radius)",
    lambda budgets: {"adversary": budgets.pgd_l2(budgets.radius)},
)(Standard)
register_defence("trades", "TRADES", lambda budgets: {"adversary": budgets.pgd_linf("kl")})(TRADES)
register_defence("mart", "MART", lambda budgets: {"adversary": budgets.pgd_linf()})(MART)
register_defence("lbgat", "LBGAT", lambda budgets: {"adversary": budgets.pgd_linf("kl")})(LBGAT)
register_defence("ldat", "LDAT", lambda budgets: {"adversary": budgets.boundary()})(LDAT)
register_defence(
    "ldat_chosen",
    f"LDAT (lambda {CHOSEN['lambda_init']:g})",
    lambda budgets: {"adversary": budgets.boundary(), **CHOSEN},
)(LDAT)
