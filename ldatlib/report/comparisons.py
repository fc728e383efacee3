"""Networks against each other on the same images, and methods over their seeds."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.evaluation import robustness
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import paired
from ldatlib.report.paired import Pair
from ldatlib.report.words import NORMS
from ldatlib.study.records import (
    Adaptive,
    Autoattack,
    Basic,
    Masking,
    Search,
    Share,
    Transfer,
    Whitebox,
)

K = TypeVar("K", bound=Hashable)

# Trainings that a statement about a method takes.
METHOD_SEEDS = 3
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
    found = paired.pair(a, b)
    p_value = float(paired.mcnemar_p(found.first_only, found.second_only))
    return found.first_only, found.second_only, p_value


class Shown(NamedTuple):
    """Images crafted on a record's network, shown to the network of a label.

    ``key``: an attack, or ``"clean"`` for the images as they were.
    """

    record: Transfer
    label: str
    key: str

    @property
    def share(self) -> Share:
        return self.record.targets[self.label][self.key]

    @property
    def images(self) -> Tensor | None:
        """Right, bool [N]; None in records of before that was kept."""
        if self.record.right is None:
            return None
        return from_bits(self.record.right[self.label][self.key])


def transfer_pair(first: Shown, second: Shown) -> Pair:
    """The same test images, right or wrong, under two such attacks.

    Without the images the pairing is the least favourable one: what is significant under it is so
    under the true one. Of one network it lies within the images that it has right without an
    attack: no others count under one.
    """
    if first.images is not None and second.images is not None:
        return paired.pair(first.images, second.images)
    ours, theirs = (round(shown.share.value * shown.share.count) for shown in (first, second))
    found = paired.least_favourable(ours, theirs, first.share.count)
    if first.label != second.label:
        return found
    clean = first._replace(key="clean").share
    within = paired.least_favourable(ours, theirs, round(clean.value * clean.count))
    return replace(found, first_only=within.first_only, second_only=within.second_only)


def leaders(values: Mapping[K, float], against: Callable[[K, K], Pair]) -> tuple[K, set[K]]:
    """Who has the highest of several accuracies, and who is not told apart from it.

    ``against``: the pair of two of them on the same images. McNemar's exact test of the highest
    against each other, corrected for their number (Holm), at 5%. Of networks, not of methods.
    """
    best = max(values, key=values.__getitem__)
    others = [name for name in values if name != best]
    found = [against(best, name) for name in others]
    plain = [float(paired.mcnemar_p(each.first_only, each.second_only)) for each in found]
    corrected: list[float] = paired.holm(plain).tolist() if plain else []
    return best, {n for n, p in zip(others, corrected, strict=True) if p >= paired.ALPHA}


def leaders_of(right: Mapping[K, Tensor]) -> tuple[K, set[K]]:
    """The same of images right, bool [N], of which each name has the same N."""
    values = {name: images.double().mean().item() for name, images in right.items()}
    return leaders(values, lambda a, b: paired.pair(right[a], right[b]))


@dataclass(frozen=True)
class Methods:
    """Two defences over their seeds: the first's mean accuracy less the second's, in [-1, 1].

    ``low`` and ``high``: Welch's 95% interval of the difference; ``p``: of his t-test, two-sided.
    All three are NaN where neither varies over its seeds: the test measures differences by that.
    """

    difference: float
    low: float
    high: float
    p: float


def compare_methods(records: Sequence[Whitebox], first: str, second: str, key: str) -> Methods:
    """Two defences in one column (as for ``right_images``), over the trainings of each.

    Raises ``UserError`` where a defence has fewer than three trainings: too few for a method.
    """
    from scipy.stats import ttest_ind

    samples = []
    for name in (first, second):
        own = [record for record in records if record.defence == name]
        if len(own) < METHOD_SEEDS:
            raise UserError(
                f"{name} has {len(own)} training(s); a method needs at least {METHOD_SEEDS} seeds"
            )
        samples.append([right_images(record, key).double().mean().item() for record in own])
    difference = fmean(samples[0]) - fmean(samples[1])
    if all(min(sample) == max(sample) for sample in samples):
        return Methods(difference, *3 * [float("nan")])
    test = ttest_ind(*samples, equal_var=False)
    low, high = test.confidence_interval()
    return Methods(difference, float(low), float(high), float(test.pvalue))


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
