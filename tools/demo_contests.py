"""Whom LDAT is ahead of in the demo, and whom behind: contests of a record, in words.

What ``demo_pages`` and ``demo_elsewhere`` say of one; ``ldatlib.report.conclusions`` counts it.
"""

from collections.abc import Sequence
from typing import Any

from markers import percent, title


def contests(found: Sequence[dict]) -> dict[str, Any]:
    """The record's contests, by name."""
    from ldatlib.evaluation.robustness import from_bits
    from ldatlib.report.conclusions import Contest

    return {
        one["name"]: Contest(
            one["name"], one["under"], {n: from_bits(b) for n, b in one["right"].items()}
        )
        for one in found
    }


def sides(contest, own: str) -> dict[str, list[str]]:
    """Whom ``own`` is ahead of, behind, and not told apart from; an undefended network apart.

    McNemar's exact test on the same images, corrected for their number (Holm), at 5%.
    """
    from ldatlib.report import paired
    from ldatlib.report.claims import rules
    from ldatlib.report.conclusions.saying import told_apart

    others = [name for name in contest.right if name not in (own, "natural")]
    pairs = [paired.pair(contest.right[own], contest.right[name]) for name in others]
    found = told_apart(others, [rules.ahead(pair) for pair in pairs])
    return {"ahead of": found.favour, "behind": found.against, "level with": found.neither}


def standing(contest, own: str) -> str:
    """ "ahead of the paper's four rivals (at most LBGAT's 31.7%), level with L2-AT (57.3%)"."""
    from ldatlib.report.claims.contests import RIVALS
    from ldatlib.report.comparisons import share
    from ldatlib.report.conclusions.saying import listed

    left = {name: 100 * share(right).value for name, right in contest.right.items()}
    said = []
    for side, names in sides(contest, own).items():
        if not names:
            continue
        whom = []
        if set(RIVALS) <= set(names):
            best = max(RIVALS, key=left.__getitem__)
            whom.append(f"the paper's four rivals (at most {title(best)}'s {percent(left[best])})")
            names = [name for name in names if name not in RIVALS]
        whom += [f"{title(name)} ({percent(left[name])})" for name in names]
        said.append(f"{side} {listed(whom)}")
    return ", ".join(said)


def kept(contest, own: str) -> str:
    """``58.7% [53.0, 64.1]``."""
    from ldatlib.report.comparisons import share

    found = share(contest.right[own])
    return f"{percent(100 * found.value)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
