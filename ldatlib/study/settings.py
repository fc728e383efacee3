"""The settings of a run: every number by name, with its type, its range and what it decides.

A field may be replaced by name (``--set epochs=5``); an unknown name, a value of another type or
out of range is refused. The profiles that give the fields their values: ``profiles``.
"""

import difflib
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction

from ldatlib.attacks import NORMS
from ldatlib.data import DATASETS
from ldatlib.defences.registry import defence_names
from ldatlib.errors import UserError
from ldatlib.execution import COMPILE, PRECISIONS
from ldatlib.models import network_names
from ldatlib.study.switches import LIKELIHOOD_SWITCHES, OTHER_SWITCHES, REPLACED_ATTACKS


def _number(default, low, high, about):
    return field(default=default, metadata={"low": low, "high": high, "about": about})


def _choice(default, known: Sequence[str] | Callable[[], Sequence[str]], about, empty=False):
    """One of ``known``; a function, where plug-ins may add to them. ``empty``: or none of them."""
    return field(default=default, metadata={"known": known, "about": about, "empty": empty})


@dataclass(frozen=True)
class Profile:
    """The settings of a run. Budgets are in pixel units of images in [0,1]."""

    name: str
    title: str = field(default="", metadata={"about": "what the profile is, for the report"})

    plugins: tuple[str, ...] = field(
        default=(), metadata={"about": "files of your own that register defences or networks"}
    )
    dataset: str = _choice("digits", DATASETS, "where the images come from")
    data_root: str | None = field(
        default=None, metadata={"about": "folder of train/ and test/, or of CIFAR's archives"}
    )
    image_size: int | None = _number(None, 8, 512, "side of the images of a folder")
    data_title: str | None = field(default=None, metadata={"about": "name of the data in records"})
    flip: bool | None = field(
        default=None,
        metadata={"about": "whether training mirrors images; empty: as the data set has it"},
    )
    val_size: int = _number(300, 2, 10**6, "validation images, taken out of the training split")
    train_size: int | None = _number(None, 2, 10**6, "training images used; empty: all")
    test_size: int | None = _number(None, 2, 10**6, "test images that are loaded; empty: all")

    architecture: str = _choice("preact_resnet", network_names, "kind of network")
    depth: int = _number(18, 4, 1000, "its layers, as its authors count them")
    width: int = _number(64, 1, 1024, "channels of its first stage")
    stages: int = _number(4, 1, 6, "its stages, each of half the size and twice the width")
    stem_stride: int = _number(1, 1, 4, "2 halves the image in the first convolution")

    epochs: int = _number(250, 1, 10000, "epochs, the same for every defence")
    batch_size: int = _number(128, 1, 65536, "images a step")
    lr: float = _number(0.1, 1e-8, 100, "initial learning rate of SGD, cosine to 0")
    momentum: float = _number(0.9, 0, 0.9999, "of SGD")
    weight_decay: float = _number(5e-4, 0, 1, "of SGD, on everything, centroids included")
    padding: int = _number(4, 0, 64, "random crops of the image padded by this many pixels")
    ema_decay: float = _number(0.0, 0, 0.999999, "0: off; else exponential average of weights")
    val_every: int = _number(1, 1, 10000, "epochs between validations")
    seeds: int = _number(1, 1, 100, "trainings of each defence, seeds 0, 1, ...")
    seeded: tuple[str, ...] = _choice((), defence_names, "defences with more seeds than 0")
    precision: str = _choice("float32", PRECISIONS, "of trainings; auto: bfloat16 where it is fast")
    compile: str = _choice("auto", COMPILE, "torch.compile in trainings; auto: on CUDA")
    storage: str = _choice("full", ("full", "half"), "float32 or float16 in checkpoints")
    shard_mib: int | None = _number(None, 1, 10**6, "checkpoints in files of this many MiB")

    eps_linf: float = _number(8 / 255, 1e-6, 1, "L-inf budget of evaluation and of L-inf defences")
    eps_l2: float = _number(0.5, 1e-6, 100, "L2 budget of evaluation and of L2-AT")
    radius: float = _number(1.5, 1e-6, 100, "L2 ball of LDAT's training examples")
    beta: float = _number(0.5, 0, 1, "LDAT: weight of the adversarial half of the loss")
    margin: float = _number(0.1, 0, 10, "LDAT: classification margin, in training only")
    lambda_init: float = _number(1.0, 0, 1e6, "LDAT: likelihood regularisation at the last epoch")
    attack_steps: int = _number(10, 1, 1000, "steps of every training attack, K of Algorithm 1")

    defences: tuple[str, ...] = _choice(
        ("natural", "standard", "l2_at", "trades", "mart", "lbgat", "ldat"),
        defence_names,
        "what is trained and compared",
    )
    steps: int = _number(40, 1, 10000, "iterations of the evaluation's attacks")
    fab_targets: int = _number(0, 0, 999, "FAB: targeted at so many classes; 0: untargeted")
    cw_step_size: float = _number(0.01, 1e-6, 10, "learning rate of C&W in its tanh space")
    eval_images: int = _number(1000, 2, 10**6, "test images of Table 1")
    eval_batch: int = _number(128, 1, 65536, "images an attack holds at a time")
    saved_images: int = _number(200, 1, 10**6, "adversarial images kept per attack, for pictures")
    sweep_images: int = _number(500, 2, 10**6, "test images of Figures 4 and 5")
    sweep_eps: tuple[float, ...] = _number(
        (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0), 0, 1000, "Fig. 4: multiples of the budget"
    )
    sweep_steps: tuple[int, ...] = _number((1, 5, 10, 20, 40, 100), 1, 10000, "Fig. 5: PGD")
    sweep_cw_steps: tuple[int, ...] = _number((5, 10, 20, 40, 100), 1, 10000, "Fig. 5: C&W")
    surrogate_architecture: str = _choice(
        "preact_resnet", network_names, "Tables 4, 5: the undefended surrogate"
    )
    surrogate_depth: int = _number(18, 4, 1000, "its layers")
    surrogate_width: int = _number(128, 1, 4096, "its width")
    surrogate_stages: int = _number(4, 1, 6, "its stages")
    search_steps: int = _number(25, 1, 10000, "09: each restart of the search from larger balls")
    search_restarts: int = _number(13, 1, 1000, "09: its restarts")
    scrutiny_images: int = _number(500, 2, 10**6, "09: of eval_images, scrutinised")
    autoattack_norms: tuple[str, ...] = _choice(("linf", "l2"), NORMS, "09: norms of AutoAttack")
    scrutiny_norms: tuple[str, ...] = _choice(
        ("linf", "l2"), NORMS, "09: norms of the tests for masking and of the detector"
    )
    masking_restarts: int = _number(5, 1, 1000, "09: random starts of the tests for masking")
    masking_queries: int = _number(1000, 1, 10**6, "09: queries of Square among those tests")
    adaptive_steps: int = _number(40, 1, 10000, "09: each search of the attack on the detector")
    adaptive_restarts: int = _number(1, 1, 1000, "09: its random starts, for every wrong class")
    ablations: str = _choice(
        "paper", ("paper", "switches", "all"), "05: Table 3, Fig. 6; every switch; a factorial too"
    )
    base: str = _choice("ldat", ("ldat", "ldat_chosen"), "05: the LDAT that is varied")
    replaced_attacks: tuple[str, ...] = _choice(
        ("PGD-CE", "PGD-KL", "PGD-CE*", "PGD-KL*"),
        tuple(REPLACED_ATTACKS),
        "Fig. 6: attacks in the place of Algorithm 1, L2 or L-inf (*); a factorial takes them too",
    )
    likelihood_switches: tuple[str, ...] = _choice(
        tuple(LIKELIHOOD_SWITCHES),
        tuple(LIKELIHOOD_SWITCHES),
        "05: changes of the likelihood term of LDAT as written",
    )
    other_switches: tuple[str, ...] = _choice(
        tuple(OTHER_SWITCHES), tuple(OTHER_SWITCHES), "05: changes of the base", empty=True
    )
    betas: tuple[float, ...] = _number((0.0, 0.2, 0.5, 0.8, 1.0), 0, 1, "Table 3")
    tsne_images: int = _number(1000, 20, 10**5, "Fig. 7: images, each natural and adversarial")
    plane_classes: tuple[int, ...] = _number((0, 1, 2), 0, 10**6, "Fig. 1 and 2: the classes drawn")
    plane_images: int = _number(2000, 2, 10**6, "Fig. 1 and 2: training images of those classes")
    plane_epochs: int = _number(40, 1, 10000, "Fig. 1 and 2: epochs")

    @property
    def budgets(self) -> dict[str, float]:
        """The budget of evaluation by norm, in pixel units."""
        return {"linf": self.eps_linf, "l2": self.eps_l2}


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """``["epochs=5", ...]`` -> ``{"epochs": "5"}``."""
    result = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise UserError(f"--set takes name=value, not {assignment!r}")
        result[name.strip()] = value.strip()
    return result


def parse_value(name: str, value: object) -> object:
    """A field's value from text or a Python value, of the field's type and in its range."""
    settable = {f.name: f for f in fields(Profile) if f.name not in ("name", "title")}
    if name not in settable:
        close = difflib.get_close_matches(name, settable, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"unknown parameter {name!r}; {hint}known: {', '.join(settable)}")
    spec = settable[name]
    kind = typing.get_type_hints(Profile)[name]
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if type(None) in options:
        if value is None or value == "":
            return None
        kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple:
        element = typing.get_args(kind)[0]
        parts = value.split(",") if isinstance(value, str) else value
        parts = parts if isinstance(parts, (list, tuple)) else [parts]
        result = tuple(_element(name, part, element, spec.metadata) for part in parts)
        if not result and getattr(Profile, name) and not spec.metadata.get("empty"):
            raise UserError(f"{name} needs at least one value")
        if len(set(result)) < len(result):
            raise UserError(f"{name} names something twice: {', '.join(map(str, result))}")
        return result
    return _element(name, value, kind, spec.metadata)


def _text(value: object) -> str:
    """Of text, a path or a number; ``ValueError`` for anything else, and for what no path has."""
    if isinstance(value, bool) or not isinstance(value, str | os.PathLike | int | float):
        raise ValueError
    text = str(value).strip()
    if "\0" in text:
        raise ValueError
    return text


_TRUTH = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def _element(name: str, value: object, kind: type, limits) -> object:
    try:
        if kind is str:
            parsed = _text(value)
        elif kind is bool:
            parsed = _TRUTH[str(value).strip().lower()]
        elif isinstance(value, bool):
            raise ValueError
        elif kind is int:
            parsed = int(value) if not isinstance(value, float) or value.is_integer() else None
            if parsed is None:
                raise ValueError
        else:
            # Budgets are written as the field writes them: 8/255. Nothing else is a fraction: the
            # digits of 1e999999999 as one would fill the memory.
            fraction = isinstance(value, str) and "/" in value
            parsed = float(Fraction(value)) if fraction else float(value)
            if isinstance(value, str) and not math.isfinite(parsed):
                raise ValueError
    except (TypeError, ValueError, ArithmeticError, KeyError):
        word = {int: "a whole number", float: "a number", bool: "yes or no", str: "text"}[kind]
        raise UserError(f"{name} must be {word}, not {value!r}") from None
    if "known" in limits:
        known = limits["known"]() if callable(limits["known"]) else limits["known"]
        if parsed not in known:
            raise UserError(f"{name}: unknown {parsed!r}; known: {', '.join(known)}")
    if "low" in limits and not limits["low"] <= parsed <= limits["high"]:
        raise UserError(
            f"{name} must lie between {limits['low']} and {limits['high']}, not {value}"
        )
    return parsed


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """``"90"``, ``"90s"``, ``"9m"``, ``"1.5h"`` -> seconds; ``UserError`` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise UserError(f"a time limit is a number of s, m or h, such as 9m, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]
