"""When a claim holds: one rule for all of them, and what each comparison says to it.

A claim is made of comparisons. Each says how likely it would be by chance to look so much *for*
the claim, and so much *against* it. The claim **holds** where all of them speak for it, **does not
hold** where one speaks against it, both after Holm's correction over the comparisons of the claim;
in all other cases nobody can tell. ``tests/report/test_rules.py`` permutes networks image by image:
every rule errs in at most about 5% of such cases.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ldatlib.report import paired
from ldatlib.report.paired import ALPHA, MARGIN, Pair


class Support(NamedTuple):
    """p-values, numbers or arrays: of what speaks for a claim, and of what speaks against it."""

    favour: Any
    against: Any


# Of a network that guesses: no comparison with it says anything.
NONE = Support(1.0, 1.0)


@dataclass(frozen=True)
class Seen:
    """What a run says to a claim.

    ``holds`` is None where it cannot tell. ``scope`` narrows a verdict ("under L2 alone"); ``of``
    is whom it speaks of: one network, unless there were three trainings of each. ``missing``: the
    run has no record of it.
    """

    holds: bool | None
    text: str
    scope: str = ""
    of: str = "this network"
    missing: bool = False


def judge(supports: Support) -> np.ndarray:
    """1: holds, -1: does not, 0: cannot tell; of arrays [..., m], m comparisons of one claim."""
    favour, against = (paired.holm(p) for p in np.broadcast_arrays(*supports))
    holds, fails = (favour < ALPHA).all(-1), (against < ALPHA).any(-1)
    return np.where(fails, -1, np.where(holds, 1, 0))


def verdict(supports: Sequence[Support]) -> bool | None:
    """The same of comparisons one by one; without any nobody can tell."""
    if not supports:
        return None
    favour, against = zip(*supports, strict=True)
    return {1: True, -1: False, 0: None}[int(judge(Support(np.array(favour), np.array(against))))]


def doubts(supports: Sequence[Support]) -> list[float]:
    """The p-values of the comparisons of a claim, whichever way they look, after the correction."""
    plain = [float(min(support.favour, support.against)) for support in supports]
    return paired.holm(plain).tolist() if plain else []


def directed(p_value: Any, favourable: Any) -> Support:
    """Of a two-sided p-value and the direction that was seen."""
    return Support(np.where(favourable, p_value, 1.0), np.where(favourable, 1.0, p_value))


def ahead(found: Pair) -> Support:
    """ "The first has more images right": McNemar's exact test."""
    p_value = paired.mcnemar_p(found.first_only, found.second_only)
    return directed(p_value, np.greater(found.first_only, found.second_only))


def at_most(found: Pair, margin: float = MARGIN) -> Support:
    """ "The first has at most ``margin`` (a share) more right": score tests, one-sided each way."""
    return Support(paired.below_margin_p(found, margin), paired.above_margin_p(found, margin))


def margin_p(margin: float = MARGIN) -> str:
    """What the p-value of the two rules about a margin is of: another question than "no less"."""
    return f"p of a difference of {100 * margin:g} points"


def far_ahead(found: Pair, margin: float = MARGIN) -> Support:
    """ "The first has more than ``margin`` more right"."""
    favour, against = at_most(found, margin)
    return Support(against, favour)


def most(successes: Any, count: Any) -> Support:
    """ "More than half": the exact binomial test. Of no cases: nothing."""
    rest = np.asarray(count) - np.asarray(successes)
    return directed(paired.mcnemar_p(successes, rest), np.asarray(successes) > rest)


def larger(first: Any, second: Any) -> Support:
    """ "The first is the larger": Wilcoxon's signed-rank test of numbers [..., N] of N images."""
    from scipy.stats import rankdata, wilcoxon

    gap = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    with np.errstate(invalid="ignore"):  # all equal: NaN, which says nothing
        # The normal approximation takes ties and any number of images.
        p_value = wilcoxon(gap, axis=-1, method="asymptotic").pvalue
    ranks = np.sign(gap) * rankdata(np.abs(gap), axis=-1)
    return directed(np.where(np.isnan(p_value), 1.0, p_value), ranks.sum(-1) > 0)


def methods_ahead(first: Any, second: Any) -> Support:
    """ "The first method is ahead": Welch's test of accuracies [..., seeds] over trainings."""
    from scipy.stats import ttest_ind

    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of accuracies that are all alike
        p_value = ttest_ind(first, second, axis=-1, equal_var=False).pvalue
    p_value = np.where(np.isnan(p_value), 1.0, p_value)
    return directed(p_value, first.mean(-1) > second.mean(-1))


def rises(values: Any, along: Any) -> Support:
    """ "The one rises with the other", over the epochs of a training: Kendall's tau."""
    from scipy.stats import kendalltau

    found = kendalltau(values, along)
    if np.isnan(found.pvalue):
        return NONE
    return directed(found.pvalue, found.statistic > 0)
