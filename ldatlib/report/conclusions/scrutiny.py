"""Notebook 09: worst cases, alarms for masking, and the attack that knows the threshold.

Of the frames of ``report.tables``: ``scrutiny``, ``masking_rows`` and ``adaptive_rows``.
"""

from collections.abc import Sequence

import pandas as pd

from ldatlib.report import glossary
from ldatlib.report.conclusions.saying import listed
from ldatlib.report.words import NORMS, THRESHOLDS
from ldatlib.study.records import Search


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
    """Which tests for gradient masking sound, network by network."""
    loud = rows[rows.verdict == "alarm"].groupby(["defence", "norm"], sort=False).test
    found = [
        f"Masking, {glossary.defence(defence)}, {NORMS[norm]}: "
        f"{listed([test.replace('_', ' ') for test in tests])}."
        for (defence, norm), tests in loud
    ]
    misled = rows[rows.misled].defence.unique()
    if len(misled):
        names = listed([glossary.defence(name) for name in misled])
        found.append(f"PGD alone is misled on {names}: never use its column there.")
    return found or ["No test for gradient masking sounds."]


def detectors(found: pd.DataFrame, defence: str) -> list[str]:
    """What the detector of one network misses, by the strongest ordinary attack and by all."""
    own = found[(found.defence == defence) & (found.threshold != THRESHOLDS["accept_99"])]
    said = [
        f"{glossary.defence(defence)}'s detector, {NORMS[row.norm]}, {row.score}, "
        f"{row.threshold}: missed {row.ordinary:.0f}% by the strongest ordinary attack, "
        f"{row.union:.0f}% by the adaptive one."
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
