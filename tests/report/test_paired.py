"""Paired tests against closed forms and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm

from ldatlib.report import paired
from ldatlib.report.paired import Pair


def test_mcnemar_is_the_binomial_test_of_what_differs():
    for b, c in ((0, 0), (1, 0), (7, 2), (2, 7), (20, 20), (0, 12)):
        expected = binomtest(b, b + c).pvalue if b + c else 1.0
        assert paired.mcnemar_p(b, c) == pytest.approx(expected)
    assert paired.mcnemar_p([7, 0], [2, 0]).shape == (2,)


def test_a_pair_counts_the_images_that_differ():
    first, second = (torch.tensor([c == "1" for c in bits]) for bits in ("11100", "10011"))
    found = paired.pair(first, second)
    assert (found.first_only, found.second_only, found.count) == (2, 2, 5)
    assert found.difference == 0


def test_the_least_favourable_pairing_has_the_largest_p_value():
    for first, second, count in ((7, 3, 10), (2, 8, 12), (9, 9, 10), (10, 4, 10)):
        found = paired.least_favourable(first, second, count)
        worst = paired.mcnemar_p(found.first_only, found.second_only)
        every = [
            paired.mcnemar_p(first - both, second - both)
            for both in range(max(0, first + second - count), min(first, second) + 1)
        ]
        assert found.difference == pytest.approx((first - second) / count) and not found.known
        assert worst == pytest.approx(max(every))


def test_a_margin_of_nothing_is_mcnemars_statistic():
    assert paired.margin_z(Pair(30, 12, 200), 0.0) == pytest.approx(18 / np.sqrt(42))
    assert paired.margin_z(Pair(0, 0, 200), 0.0) == 0


def test_without_a_difference_the_margin_is_a_share_of_all_images():
    """Nothing differs: the score test of a binomial share that is 0."""
    expected = -100 * 0.05 / np.sqrt(100 * 0.05 * 0.95)
    assert paired.margin_z(Pair(0, 0, 100), 0.05) == pytest.approx(expected)


def test_the_score_statistic_is_that_of_the_restricted_maximum_likelihood():
    """Tango's closed form against a search for the maximum, at several margins."""
    b, c, n = 18, 9, 120
    for margin in (-0.2, -0.05, 0.05, 0.15):
        grid = np.linspace(max(0, -margin), (1 - margin) / 2, 400_001)[1:-1]
        with np.errstate(divide="ignore"):
            likelihood = (
                b * np.log(grid + margin)
                + c * np.log(grid)
                + (n - b - c) * np.log1p(-2 * grid - margin)
            )
        best = grid[np.argmax(likelihood)]
        variance = n * (2 * best + margin - margin**2)
        expected = (b - c - n * margin) / np.sqrt(variance)
        assert paired.margin_z(Pair(b, c, n), margin) == pytest.approx(expected, abs=1e-4)


def test_the_interval_is_what_the_tests_do_not_refuse():
    for found in (Pair(18, 9, 120), Pair(0, 0, 50), Pair(40, 0, 40), Pair(1, 30, 300)):
        low, high = paired.interval(found)
        assert low <= found.difference <= high
        for end, test in ((low, paired.above_margin_p), (high, paired.below_margin_p)):
            if abs(end) < 0.999:
                assert test(found, end) == pytest.approx(0.05, abs=1e-6)
    wide, narrow = paired.interval(Pair(18, 9, 120), 0.95), paired.interval(Pair(18, 9, 120), 0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert norm.sf(paired.margin_z(Pair(18, 9, 120), wide[0])) == pytest.approx(0.025, abs=1e-6)


def test_holm_is_stepwise_bonferroni():
    assert paired.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.5, 0.6]).tolist() == pytest.approx([1.0, 1.0])
    assert paired.holm([[0.02], [0.7]]).tolist() == [[0.02], [0.7]]
    rows = np.random.default_rng(0).random((4, 6))
    assert np.allclose(paired.holm(rows)[2], paired.holm(rows[2]))
