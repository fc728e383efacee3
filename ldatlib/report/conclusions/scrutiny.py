"""Notebook 09: worst cases, alarms for masking, and the attack that knows the threshold.

Of the frames of ``report.tables``: ``scrutiny``, ``masking_rows``, ``adaptive_rows`` and
``rejection_rows``.
"""

from collections.abc import Sequence

import pandas as pd

from ldatlib.evaluation.masking.verdicts import TELLS, TITLES, tells
from ldatlib.report import glossary
from ldatlib.report.conclusions.saying import listed
from ldatlib.report.words import NORMS, THRESHOLDS
from ldatlib.study.records import Search

# What an alarm tells of a network in a norm; after it stand the tests that say so.
_ALARMS = {
    "misled": "MASKING, a gradient or a loss misleads",
    "overstated": "Table 1's number is too high",
    "stuck": "searches from starts in the ball are stuck at local maxima, which is no masking",
}
_ACCEPTANCE = 0.95


def worst_cases(table: pd.DataFrame) -> list[str]:
    """What Table 1's attacks leave and what all leave, and who is overstated."""
    found = [
        f"{glossary.defence(row.defence)}, {NORMS[row.norm]}: Table 1's attacks leave "
        f"{row.table1_worst_case:.0f}%, all attacks {row.worst_case:.0f}% "
        f"({row.worst_case_low:.0f} to {row.worst_case_high:.0f})"
        + ("; OVERSTATED." if row.overstated else ".")
        for _, row in table.iterrows()
    ]
    over = [
        f"{glossary.defence(r.defence)} ({NORMS[r.norm]})"
        for _, r in table.iterrows()
        if r.overstated
    ]
    found.append(
        f"Table 1 reports too much for {listed(over)}: quote the worst case of all attacks."
        if over
        else "No number of Table 1 is above what all attacks leave by more than its interval."
    )
    return found


def masks(rows: pd.DataFrame) -> list[str]:
    """What the tests for gradient masking tell, network by network, in each norm they ran in."""
    where = listed([NORMS[norm] for norm in rows.norm.unique()])
    loud = rows[rows.verdict == "alarm"].groupby(["defence", "norm"], sort=False)
    found: list[str] = []
    misled: list[str] = []
    for (defence, norm), own in loud:
        told: dict[str, list[str]] = {kind: [] for kind in TELLS}
        for row in own.itertuples():
            for kind in tells(row.test, row.misled, row.overstated):
                told[kind].append(TITLES[row.test])
        title = f"{glossary.defence(defence)}, {NORMS[norm]}"
        found += [f"{title}: {_ALARMS[k]} ({'; '.join(t)})." for k, t in told.items() if t]
        misled += [f"{glossary.defence(defence)} ({NORMS[norm]})"] if told["misled"] else []
    if not found:
        return [f"No test for gradient masking sounds under {where}."]
    if not misled:
        return [*found, f"No gradient or loss misleads under {where}: no test says masking."]
    return [*found, f"PGD alone is misled on {listed(misled)}: never use its column there."]


def detectors(found: pd.DataFrame, defence: str) -> list[str]:
    """What the detector of one network misses, by the strongest ordinary attack and by all."""
    own = found[(found.defence == defence) & (found.threshold != THRESHOLDS["accept_99"])]
    said = [
        f"{glossary.defence(defence)}'s detector, {NORMS[row.norm]}, "
        f"{glossary.title(row.score)}, {row.threshold}: missed {row.ordinary:.0f}% by the "
        f"strongest ordinary attack, {row.union:.0f}% by the adaptive one."
        for _, row in own.iterrows()
    ]
    strange = int((~found.consistent).sum())
    said.append(
        f"{strange} of {len(found)} detectors are above the best network at half the budget: a "
        "hint that their attack is too weak."
        if strange
        else f"None of {len(found)} detectors is above the best network at half the budget."
    )
    return said


def unrefused(curves: pd.DataFrame, defence: str) -> pd.DataFrame:
    """Rows of one network where 95% are accepted, that tell what is left if nothing is refused.

    ``robust_1`` there: robust with rejection, and no image of the ball refused or wrong. Empty
    where the records do not have it.
    """
    own = curves[(curves.defence == defence) & (curves.acceptance == _ACCEPTANCE)]
    return own.dropna(subset=["robust_1"]) if "robust_1" in own else own.iloc[:0]


def refusals(curves: pd.DataFrame, defence: str) -> list[str]:
    """What one network's detector keeps, and what of it if it may refuse no image of the ball."""
    return [
        f"{glossary.defence(row.defence)}'s detector, {NORMS[row.norm]}, "
        f"{glossary.title(row.score)}, 95% accepted: robust with rejection {row.robust_0:.0f}%; "
        f"{row.robust_1:.0f}% if no image of the ball may be refused."
        for _, row in unrefused(curves, defence).iterrows()
    ]


def searches(records: Sequence[Search]) -> list[str]:
    """Whose search from larger balls still found images at its last restart."""
    restless = [
        f"{glossary.defence(record.defence)} ({NORMS[norm]})"
        for record in records
        for norm, found in record.norms.items()
        if found.converged is False
    ]
    if not restless:
        return ["Every search has converged: its last restart found no new image."]
    return [f"The search has not converged for {listed(restless)}: read its numbers as bounds."]
