"""How tables and figures write things: titles of columns and networks, shares in percent."""

from collections.abc import Iterable, Mapping
from typing import Any

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report import glossary
from ldatlib.study.records import Share, Sweep

NORMS = {"linf": "L-inf", "l2": "L2"}
NORMS_IN_FIGURES = {"linf": r"$L_\infty$", "l2": r"$L_2$"}
THRESHOLDS = {"paper": "0.6 (paper)", "accept_95": "95% frozen", "accept_99": "99% frozen"}
NO_THRESHOLD = "no threshold"
# In the place of a frozen threshold.
NOT_FROZEN = "none, no validation image is right"


def budget(norm: str, eps: float) -> str:
    """``L-inf 8/255``, ``L2 0.5``: as the field writes them."""
    levels = eps * 255
    if norm == "linf" and abs(levels - round(levels)) < 1e-6 and round(levels) > 0:
        return f"{NORMS[norm]} {round(levels)}/255"
    return f"{NORMS[norm]} {eps:.4g}"


def column_title(key: str) -> str:
    """``linf_pgd`` -> ``L-inf PGD``, ``linf`` -> ``L-inf worst case``."""
    if key == "natural":
        return glossary.title("natural_accuracy")
    norm, _, method = key.partition("_")
    return f"{NORMS[norm]} {METHODS[method].title if method else glossary.title('worst_case')}"


def set_title(name: str) -> str:
    """``linf_pgd`` -> ``L-inf PGD``; the two sets without an attack have names of their own."""
    own = {"clean": "natural", "val": "natural, validation"}
    return own.get(name) or column_title(name)


def network(defence: str, ok: bool = True, seed: int = 0) -> str:
    """Title of a defence's network, its seed unless 0, and whether its record is red."""
    number = f", seed {seed}" if seed else ""
    return glossary.defence(defence) + number + ("" if ok else " (SELF-CHECK FAILED)")


def percent(share: Share) -> str:
    """``value ± half the 95% interval``, in percent."""
    return f"{100 * share.value:.1f} ± {50 * (share.high - share.low):.1f}"


def p_value(value: float) -> str:
    """``p = 0.012``, or why there is none."""
    return f"p = {value:.2g}" if value == value else "no p: no spread over the seeds"


def doubt(value: float) -> str:
    """A p-value of a table, four decimals: ``0.0123``, or ``<0.0001``."""
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def swept_images(records: Iterable[Sweep]) -> str:
    """``100 images``: those that the attacks of the sweeps have met."""
    counts = {point.robust_accuracy.count for record in records for point in record.points}
    return f"{' or '.join(map(str, sorted(counts))) or 'no'} images"


def attacked_by(attack: Mapping[str, Any]) -> str:
    """``PGD within L-inf 8/255``; of an attack's settings in a record."""
    return f"{METHODS[attack['method']].title} within {budget(attack['norm'], attack['eps'])}"


def trained_against(adversary: Mapping[str, Any]) -> str:
    """``PGD within L-inf 8/255``; of what a defence trains against, as a record has it."""
    if adversary["kind"] == "boundary":
        return f"Algorithm 1 within {budget('l2', adversary['radius'])}"
    if {"norm", "eps"} <= adversary.keys():
        return f"{adversary['kind'].upper()} within {budget(adversary['norm'], adversary['eps'])}"
    return "nothing" if adversary["kind"] == "none" else str(adversary["kind"])


def columns(name: str, share: Share) -> dict[str, float]:
    """A share as the three columns ``name``, ``name_low`` and ``name_high``, in percent."""
    ends = {"": share.value, "_low": share.low, "_high": share.high}
    return {f"{name}{suffix}": round(100 * value, 2) for suffix, value in ends.items()}


def from_columns(row: Any, name: str) -> str:
    """``value ± half the 95% interval`` of three columns of a row of numbers."""
    return f"{row[name]:.1f} ± {(row[f'{name}_high'] - row[f'{name}_low']) / 2:.1f}"
