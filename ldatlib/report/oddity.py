"""The paper's oddity: accuracy under APGD above that under PGD. For the paper and for a run alike.

APGD is PGD with a step size that it chooses itself, so on the same loss it should leave fewer
images. The paper's APGD, and Table 1's here, ascends another loss, DLR. So a run is asked for APGD
on the cross-entropy, too, which AutoAttack begins with: where that leaves no more than PGD, the
odd number is the loss's.
"""

from collections.abc import Mapping
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


def sentences(title: str, found: Mapping[str, Odd]) -> str:
    """What was found, norm by norm."""
    return f"{title}: " + "; ".join(f"{NORMS[norm]} {_words(odd)}" for norm, odd in found.items())


def _words(odd: Odd) -> str:
    bound = "=" if odd.pair.known else " at most "
    text = f"APGD-DLR {_gap(odd.pair)} PGD (p{bound}{_p(odd.pair):.2g}): "
    if odd.pair.difference <= 0:
        text += "as it should be"
    elif _above(odd.pair):
        text += "odd"
    else:
        text += "no more than chance may do" if odd.pair.known else "undecided without the images"
    if odd.cross_entropy is None:
        return text
    text += f"; APGD on the cross-entropy {_gap(odd.cross_entropy)} PGD"
    if not _above(odd.pair):
        return text
    again = _above(odd.cross_entropy)
    return text + (": odd on the same loss, too" if again else ": the loss makes the difference")


def _above(found: Pair) -> bool:
    return found.difference > 0 and _p(found) < ALPHA


def _gap(found: Pair) -> str:
    points = 100 * found.difference
    if not found.first_only - found.second_only:
        return "leaves as many as"
    return f"leaves {abs(points):.1f} points {'more' if points > 0 else 'fewer'} than"


def _p(found: Pair) -> float:
    return float(paired.mcnemar_p(found.first_only, found.second_only))


def of_the_paper(table: pd.DataFrame) -> list[str]:
    """The sentences of every row of the paper's table."""
    return [sentences(glossary.defence(name), printed(table, name)) for name in table.defence]
