"""The paper's oddity: accuracy under APGD above that under PGD. For the paper and for a run alike.

APGD is PGD with a step size that it chooses itself, so on the same loss it should leave fewer
images. The paper's APGD, and Table 1's here, ascends another loss, DLR. So a run is asked for APGD
on the cross-entropy, too, which AutoAttack begins with: where that leaves no more than PGD, the
odd number is the loss's.

Each p-value is corrected (Holm) for all the networks and norms that are told together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import glossary, paired
from ldatlib.report.comparisons import right_images
from ldatlib.report.paired import ALPHA, Pair
from ldatlib.report.words import NORMS
from ldatlib.study.records import Autoattack, Whitebox

# Test images of CIFAR, on which the paper's numbers are.
PAPER_IMAGES = 10_000


@dataclass(frozen=True)
class Odd:
    """APGD-DLR and PGD as a pair; the same of APGD on the cross-entropy, where it was run."""

    pair: Pair
    cross_entropy: Pair | None = None


def measured(record: Whitebox, auto: Autoattack | None) -> dict[str, Odd]:
    """By norm, of one network; ``auto``: its AutoAttack, as far as there is one."""
    found = {}
    for norm in NORMS:
        pgd = right_images(record, f"{norm}_pgd")
        same_loss = None
        if auto is not None and norm in auto.norms:
            first = from_bits(auto.norms[norm].attacks["apgd-ce"].right)
            same_loss = paired.pair(first, pgd[: len(first)])
        found[norm] = Odd(paired.pair(right_images(record, f"{norm}_apgd"), pgd), same_loss)
    return found


def printed(table: pd.DataFrame, defence: str) -> dict[str, Odd]:
    """The same of a row of the paper's Table 1 or 2, in percent, by the least favourable pairing.

    ``table``: ``paper.table(1)`` or ``(2)``.
    """
    row = table.set_index("defence").loc[defence]

    def images(key: str) -> int:
        return round(row[key] / 100 * PAPER_IMAGES)

    return {
        norm: Odd(
            paired.least_favourable(images(f"{norm}_apgd"), images(f"{norm}_pgd"), PAPER_IMAGES)
        )
        for norm in NORMS
    }


def sentences(found: Sequence[tuple[str, Mapping[str, Odd]]]) -> list[str]:
    """What was found of each network, norm by norm; (title, by norm).

    The p-values are corrected over all of it; those of APGD on the cross-entropy, which is asked
    next, among themselves.
    """
    odds = [odd for _, norms in found for odd in norms.values()]
    asked = [odd.cross_entropy for odd in odds if odd.cross_entropy is not None]
    doubts, again = iter(_corrected([odd.pair for odd in odds])), iter(_corrected(asked))

    def words(odd: Odd) -> str:
        doubt = next(doubts)
        said = _words(odd.pair, doubt)
        if odd.cross_entropy is None:
            return said
        too = _above(odd.cross_entropy, next(again))
        said += f"; APGD on the cross-entropy {_gap(odd.cross_entropy)} PGD"
        if not _above(odd.pair, doubt):
            return said
        return f"{said}: {'odd on the same loss, too' if too else 'the loss makes the difference'}"

    return [
        f"{title}: " + "; ".join(f"{NORMS[norm]} {words(odd)}" for norm, odd in norms.items())
        for title, norms in found
    ]


def _words(found: Pair, p_value: float) -> str:
    bound = "=" if found.known else " at most "
    text = f"APGD-DLR {_gap(found)} PGD (p{bound}{p_value:.2g}): "
    if found.difference <= 0:
        return f"{text}as it should be"
    if _above(found, p_value):
        return f"{text}odd"
    return text + ("no more than chance may do" if found.known else "undecided without the images")


def _above(found: Pair, p_value: float) -> bool:
    return found.difference > 0 and p_value < ALPHA


def _gap(found: Pair) -> str:
    points = 100 * found.difference
    if not found.first_only - found.second_only:
        return "leaves as many as"
    return f"leaves {abs(points):.1f} points {'more' if points > 0 else 'fewer'} than"


def _corrected(found: Sequence[Pair]) -> list[float]:
    plain = [float(paired.mcnemar_p(each.first_only, each.second_only)) for each in found]
    corrected: list[float] = paired.holm(plain).tolist() if plain else []
    return corrected


def of_the_paper(table: pd.DataFrame) -> list[str]:
    """The sentences of every row of the paper's table."""
    return sentences([(glossary.defence(name), printed(table, name)) for name in table.defence])
