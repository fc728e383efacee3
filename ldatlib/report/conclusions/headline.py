"""The report's first screen: what a reader takes away of a run, in three or four sentences.

What is said of a network, and not of a method, is so because most runs have one training of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from ldatlib.report import glossary, words
from ldatlib.report.claims.evidence import Evidence
from ldatlib.report.comparisons import leaders_of, mcnemar_of, right_images, share, survivors
from ldatlib.report.conclusions.saying import listed
from ldatlib.report.conclusions.scrutiny import unrefused
from ldatlib.report.words import NORMS
from ldatlib.study.records import Share


@dataclass(frozen=True)
class Contest:
    """Everybody on the same images: ``right`` by defence, bool [N]; ``under``: what was done."""

    name: str
    under: str
    right: Mapping[str, Tensor]

    @property
    def leaders(self) -> tuple[str, set[str]]:
        """Who has most right, and who is not told apart from it."""
        return leaders_of(self.right)

    def leads(self, defence: str) -> bool:
        """Whether nobody is told apart ahead of it."""
        best, level = self.leaders
        return defence == best or defence in level

    def behind(self, defence: str) -> float:
        """Points that the highest has more."""
        best, _ = self.leaders
        shares = [100 * share(self.right[name]).value for name in (best, defence)]
        return shares[0] - shares[1]


@dataclass(frozen=True)
class Advice:
    """When to build on a defence, and when not: ends of "Build on it if ..."."""

    good: list[str]
    bad: list[str]


def contests(evidence: Evidence) -> list[Contest]:
    """Without an attack, and in each norm under everything that all networks have met.

    Without an attack the undefended network is no rival: whatever defends pays for it there.
    """
    attacked = dict(evidence.whitebox)
    if not attacked:
        return []
    defended = {name: record for name, record in attacked.items() if name != "natural"}
    clean = {
        name: right_images(record, "natural") for name, record in (defended or attacked).items()
    }
    found = [Contest("natural", "without an attack", clean)]
    for norm in NORMS:
        if all(norm in record.worst_case for record in attacked.values()):
            found.append(_in_norm(evidence, norm))
    return found


def _in_norm(evidence: Evidence, norm: str) -> Contest:
    budgets = {
        column.settings.eps
        for record in evidence.whitebox.values()
        for key, column in record.attacks.items()
        if key.startswith(f"{norm}_")
    }
    where = words.budget(norm, max(budgets))
    scrutinised = all(name in evidence.autoattack for name in evidence.whitebox)
    right = {}
    for name, record in evidence.whitebox.items():
        if scrutinised:
            kinds = (evidence.search, evidence.masking, evidence.adaptive)
            others = [records[name] for records in kinds if name in records]
            found = survivors(record, evidence.autoattack[name], others, norm)
            right[name] = found["worst_case"]
        else:
            right[name] = right_images(record, norm)
    what = "all attacks" if scrutinised else "Table 1's attacks"
    return Contest(norm, f"under {what} within {where}", right)


def standing(contest: Contest, own: str) -> str:
    """Who has most images right, by how much, and where ``own`` stands."""
    best, level = contest.leaders
    most = "the most of the defences" if contest.name == "natural" else "the most"
    begun = f"{contest.under[:1].upper()}{contest.under[1:]} {_of(best, contest)}"
    if own not in contest.right:
        return f"{begun}, the most of {len(contest.right)} networks."
    if own == best:
        even = [glossary.defence(name) for name in contest.right if name in level]
        told = f"not told apart from {listed(even)}" if even else "ahead of everybody"
        return f"{begun}, {most}, {told}."
    _, _, p_value = mcnemar_of(contest.right[best], contest.right[own])
    told = "not told apart from it" if own in level else f"behind (p={p_value:.1g})"
    mine = _interval(share(contest.right[own]))
    return f"{begun}, {most}; {glossary.defence(own)} {mine}, {told}."


def rejecting(rows: pd.DataFrame, own: str, helps: bool | None, curves: pd.DataFrame) -> str | None:
    """What its detector is worth against an attack that knows it; ``rows``: ``adaptive_at_frozen``.

    ``helps``: whether more is right so than without, as the claim about it was judged. ``curves``:
    ``rejection_rows``, for what is left of it where no image of the ball may be refused.
    """
    mine = rows[(rows.defence == own) & (rows.score == "posterior")]
    if not len(mine):
        return None
    said = [
        f"{NORMS[row.norm]} {row.detection_robust:.1f}% [{row.detection_robust_low:.1f}, "
        f"{row.detection_robust_high:.1f}]"
        for _, row in mine.iterrows()
    ]
    first = mine.iloc[0]
    told = {
        True: "more than without rejection",
        False: "no more than without rejection",
        None: "not told apart from what it keeps without",
    }
    return (
        f"Rejecting {first.clean_rejection:.1f}% of the clean images (threshold {first.cut:.2f}), "
        f"against an attack that knows it: {glossary.defence(own)} keeps {listed(said)} robust of "
        f"{first.images} images, {told[helps]}{_unrefused(curves, own)}."
    )


def _unrefused(curves: pd.DataFrame, own: str) -> str:
    """The end of a sentence; nothing where the records do not tell."""
    found = unrefused(curves, own)
    said = [
        f"{NORMS[row.norm]} {row.robust_1:.1f}% [{row.robust_1_low:.1f}, {row.robust_1_high:.1f}]"
        for _, row in found[found.score == "posterior"].iterrows()
    ]
    return f"; {listed(said)} if it may refuse no image of the ball" if said else ""


def advice(found: Sequence[Contest], own: str, scrutiny: pd.DataFrame | None) -> Advice:
    """When to build on ``own``; ``scrutiny``: of ``tables.scrutiny``, where it was run."""
    good, bad = [], []
    for contest in found:
        if own not in contest.right:
            continue
        what = "what counts is accuracy" if contest.name == "natural" else "the threat is"
        where = contest.under if contest.name == "natural" else contest.under.split("within ")[1]
        best = glossary.defence(contest.leaders[0])
        if contest.leads(own):
            good.append(f"{what} {where} (nobody here is told apart ahead of it)")
        else:
            more = contest.behind(own)
            bad.append(f"{what} {where} ({best} has {more:.1f} points more)")
    if scrutiny is not None and len(scrutiny):
        over = scrutiny[scrutiny.overstated]
        if len(over):
            worst = over.loc[over.gap.idxmax()]
            who = f"{glossary.defence(worst.defence)}, {NORMS[worst.norm]}"
            bad.append(
                f"you would quote Table 1's attacks (they leave up to {worst.gap:.1f} points more "
                f"than all attacks do: {who})"
            )
    return Advice(good, bad)


def _of(name: str, contest: Contest) -> str:
    """ "LDAT has 58.7% [53.0, 64.1] of the images right"."""
    found = _interval(share(contest.right[name]))
    return f"{glossary.defence(name)} has {found} of the images right"


def _interval(found: Share) -> str:
    return f"{100 * found.value:.1f}% [{100 * found.low:.1f}, {100 * found.high:.1f}]"
