"""Networks against each other on the same images, and methods over their seeds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.evaluation import robustness
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report.words import NORMS
from ldatlib.study.records import Adaptive, Autoattack, Basic, Masking, Search, Share, Whitebox

# What is compared between methods: one column a threat model, and its worst case.
SEED_COLUMNS = ("natural", "linf_pgd", "linf", "l2_pgd", "l2")


def share(right: Tensor) -> Share:
    """A proportion of images, bool [N], with its interval."""
    return Share(**robustness.share(right))


def right_images(record: Whitebox | Basic, key: str) -> Tensor:
    """Images a record has right, [N] bool.

    ``key``: an attack, ``"natural"``, or ``"linf"`` / ``"l2"`` for the worst case of that norm.
    """
    if key == "natural":
        return from_bits(record.clean_right)
    if key in NORMS:
        columns = [c for name, c in record.attacks.items() if name.startswith(f"{key}_")]
        return torch.stack([from_bits(column.right) for column in columns]).all(0)
    return from_bits(record.attacks[key].right)


def mcnemar(first: Whitebox | Basic, second: Whitebox | Basic, key: str) -> tuple[int, int, float]:
    """Two networks on the same images: exact McNemar test. ``key`` as for ``right_images``.

    Returns how many images only the first, and only the second, still has right, and the
    two-sided p-value. It speaks of these two networks, not of the two methods.
    """
    return mcnemar_of(right_images(first, key), right_images(second, key))


def mcnemar_of(a: Tensor, b: Tensor) -> tuple[int, int, float]:
    """``mcnemar`` of two bool tensors [N]: the same images, right or wrong."""
    from scipy.stats import binomtest

    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    if only_first + only_second == 0:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second).pvalue)


def compare_methods(records: Sequence[Whitebox], first: str, second: str, key: str) -> float:
    """Two-sided p-value of Welch's t-test on the accuracies of two defences over their seeds.

    Raises ``UserError`` where a defence has fewer than three trainings: too few for a method.
    """
    from scipy.stats import ttest_ind

    samples = []
    for name in (first, second):
        own = [record for record in records if record.defence == name]
        if len(own) < 3:
            raise UserError(f"{name} has {len(own)} training(s); a method needs at least 3 seeds")
        samples.append([right_images(record, key).double().mean().item() for record in own])
    return float(ttest_ind(*samples, equal_var=False).pvalue)


def survivors(
    whitebox: Whitebox,
    auto: Autoattack,
    others: Sequence[Search | Masking | Adaptive],
    norm: str,
) -> dict[str, Tensor]:
    """Images still right, bool [N], on the first N of the test split: as many as any record saw.

    ``whitebox``, ``auto``: records of one network; ``others``: its records of the search, of
    masking and of the detector, as far as there are any. Keys: the attacks of Table 1 in this norm,
    ``"table1"`` (all of them), ``"search"`` (with the search from larger balls), ``"autoattack"``
    (alone) and ``"worst_case"``: right under everything. An image that an attack was not shown
    counts as not fooled by it.
    """
    keys = [key for key in whitebox.attacks if key.startswith(f"{norm}_")]
    bits = {key: whitebox.attacks[key].right for key in keys}
    ensemble = [auto.norms[norm].right] if norm in auto.norms else []
    searched = [r.norms[norm].right for r in others if isinstance(r, Search) and norm in r.norms]
    rest = [b for r in others if not isinstance(r, Search) for b in _verdicts(r, norm)]
    count = max(map(len, [*bits.values(), *ensemble, *searched, *rest]))

    def together(several: Sequence[str]) -> Tensor:
        right = torch.ones(count, dtype=torch.bool)
        for each in several:
            right[: len(each)] &= from_bits(each)
        return right

    table1 = list(bits.values())
    return {key: together([right]) for key, right in bits.items()} | {
        "table1": together(table1),
        "search": together([*table1, *searched]),
        "autoattack": together(ensemble),
        "worst_case": together([*table1, *searched, *ensemble, *rest]),
    }


def _verdicts(record: Masking | Adaptive, norm: str) -> list[str]:
    """What each attack of a record left right in this norm, as bits."""
    if norm not in record.norms:
        return []
    if isinstance(record, Masking):
        return list(record.norms[norm].right.values())
    found = [entry.right for scores in record.norms[norm].values() for entry in scores.values()]
    found += [entry.right for entry in (record.highest or {}).get(norm, {}).values()]
    for fractions in (record.lowest or {}).get(norm, {}).values():
        found += [entry.right for entry in fractions.values()]
    return found
