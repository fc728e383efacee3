"""Networks against each other on the same images, and methods over their seeds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.evaluation import robustness
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report.words import NORMS
from ldatlib.study.records import Adaptive, Autoattack, Basic, Masking, Share, Whitebox

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
    whitebox: Whitebox, auto: Autoattack, others: Sequence[Masking | Adaptive], norm: str
) -> dict[str, Tensor]:
    """Images still right, bool [N], on the first N of the test split that AutoAttack saw.

    ``whitebox``, ``auto``: records of one network; ``others``: its masking and adaptive records,
    as far as there are any. Keys: the attacks of Table 1 in this norm, ``"table1"`` (all of them),
    ``"autoattack"`` and ``"worst_case"``: right under everything that was run on these images.
    An image that an attack was not shown counts as not fooled by it.
    """
    right = from_bits(auto.norms[norm].right)
    keys = [key for key in whitebox.attacks if key.startswith(f"{norm}_")]
    found = {key: _first(whitebox.attacks[key].right, right) for key in keys}
    every = [*found.values(), right]
    for record in others:
        every += [_first(bits, right) for bits in _verdicts(record, norm)]
    table1 = torch.stack([found[key] for key in keys]).all(0)
    return found | {
        "table1": table1,
        "autoattack": right,
        "worst_case": torch.stack(every).all(0),
    }


def _verdicts(record: Masking | Adaptive, norm: str) -> list[str]:
    """What each attack of a record left right in this norm, as bits."""
    if norm not in record.norms:
        return []
    if isinstance(record, Masking):
        return list(record.norms[norm].right.values())
    return [entry.right for scores in record.norms[norm].values() for entry in scores.values()]


def _first(bits: str, like: Tensor) -> Tensor:
    """As many verdicts as ``like`` has; images that were not shown count as right."""
    right, result = from_bits(bits), torch.ones_like(like)
    result[: len(right)] = right[: len(like)]
    return result
