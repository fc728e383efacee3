"""Tests of pairs: the same images under two networks, or under two attacks of one network.

Every function takes numbers or arrays of them and works elementwise, so that thousands of permuted
networks are judged by the code that judges a run.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

ALPHA = 0.05
# What "hardly", "approaches", "almost no" may hide, as a share of all images. The paper's own gaps
# behind such words are up to 2.6 points (Tables 3 and 4).
MARGIN = 0.05


@dataclass(frozen=True)
class Pair:
    """``count`` images under two conditions: how many only the first, only the second has right.

    Numbers, or arrays of them. ``known`` is False where only both totals are: then the pairing is
    the least favourable one.
    """

    first_only: Any
    second_only: Any
    count: Any
    known: bool = True

    @property
    def difference(self) -> Any:
        """Share right under the first less that under the second, in [-1, 1]."""
        return (self.first_only - self.second_only) / self.count


def pair(first: Tensor, second: Tensor) -> Pair:
    """The pair of two bool tensors [N]: the same images, right or wrong."""
    return Pair(int((first & ~second).sum()), int((second & ~first).sum()), len(first))


def least_favourable(first: int, second: int, count: int) -> Pair:
    """The pair of two totals of the same images whose pairing nobody kept.

    No pairing with these totals has more images that only one of the two has right, and none a
    larger p-value: what is significant here is so whatever the images were.
    """
    return Pair(min(first, count - second), min(second, count - first), count, known=False)


def mcnemar_p(first_only: Any, second_only: Any) -> np.ndarray:
    """Two-sided p-value of McNemar's exact test."""
    from scipy.stats import binom

    first_only, second_only = np.asarray(first_only), np.asarray(second_only)
    smaller, both = np.minimum(first_only, second_only), first_only + second_only
    return np.minimum(2 * binom.cdf(smaller, both, 0.5), 1.0)


def margin_z(found: Pair, margin: float) -> np.ndarray:
    """Score statistic of "the difference is ``margin``", in (-1, 1); about N(0, 1) if it is.

    Tango (1998, Statistics in Medicine 17, 891-908). With a margin of 0 it is McNemar's statistic;
    0 there where no image differs.
    """
    counts = (found.first_only, found.second_only, found.count)
    b, c, n = (np.asarray(value, dtype=float) for value in counts)
    linear = -b - c + (2 * n - b + c) * margin
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * margin * (1 - margin), 0))
    only_second = (root - linear) / (4 * n)
    variance = n * (2 * only_second + margin * (1 - margin))
    return (b - c - n * margin) / np.sqrt(np.where(variance > 0, variance, np.inf))


def interval(found: Pair, confidence: float = 1 - 2 * ALPHA) -> tuple[float, float]:
    """Interval of ``found.difference``: where Tango's test does not refuse it.

    At 90% it lies within a margin exactly where both one-sided tests at 5% say so (TOST).
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, edge = norm.ppf((1 + confidence) / 2), 1 - 1e-9
    near = min(max(found.difference, -edge), edge)

    def end(side: int) -> float:
        """Where the statistic, which falls as the margin rises, is ``z`` on that side."""

        def excess(margin: float) -> float:
            return float(margin_z(found, margin)) + side * z

        limit = side * edge
        if (excess(near) > 0) == (excess(limit) > 0):
            return float(side)
        return float(brentq(excess, *sorted((near, limit))))

    return end(-1), end(1)


def above_margin_p(found: Pair, margin: float) -> np.ndarray:
    """One-sided p-value of "the difference is more than the margin"."""
    from scipy.stats import norm

    return norm.sf(margin_z(found, margin))


def below_margin_p(found: Pair, margin: float) -> np.ndarray:
    """One-sided p-value of "the difference is less than the margin"."""
    from scipy.stats import norm

    return norm.cdf(margin_z(found, margin))


def holm(p_values: Any) -> np.ndarray:
    """p-values [..., m] corrected for being m along the last axis (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, axis=-1)
    ordered = np.take_along_axis(p, order, -1)
    steps = np.maximum.accumulate(ordered * np.arange(p.shape[-1], 0, -1), axis=-1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(steps, 1.0), -1)
    return adjusted
