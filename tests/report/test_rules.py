"""Every rule of a claim errs in at most about 5% of cases in which there is nothing to find.

Networks are permuted image by image: whatever was network A on one image is network C on the next,
so that none of them is better. The images are those of the published records.
"""

import numpy as np
import pytest

from ldatlib.report.claims import rules
from ldatlib.report.claims.rules import Support
from ldatlib.report.comparisons import right_images
from ldatlib.report.paired import MARGIN, Pair
from ldatlib.study.records import Whitebox, read

DRAWS = 2000
# 5%, and what 2,000 draws may be off by: three standard deviations.
AT_MOST = 0.05 + 3 * (0.05 * 0.95 / DRAWS) ** 0.5
NAMES = ("ldat_chosen", "standard", "trades", "mart", "lbgat", "l2_at")
COLUMNS = ("natural", "linf_pgd", "linf_fab", "linf_deepfool", "l2_pgd", "l2_cw", "l2_deepfool")


@pytest.fixture(scope="module")
def networks(run):
    """bool [networks, columns, images]."""
    trainings = {training.name: training for training in run.select_seed(run.trainings())}
    jobs = run.jobs_of("whitebox", [trainings[name] for name in NAMES])
    records = [read(job.path, Whitebox) for job in jobs]
    return np.stack([[right_images(r, key).numpy() for key in COLUMNS] for r in records])


def permuted(networks, rng, draws=DRAWS):
    """bool [draws, networks, columns, images]: the order of the networks drawn anew an image."""
    count, _, images = networks.shape
    order = np.argsort(rng.random((draws, count, images), dtype=np.float32), axis=1)
    return np.take_along_axis(networks[None], order[:, :, None, :], axis=1)


def against_the_first(drawn):
    """Pairs [draws, comparisons] of the first network with every other one, in every column."""
    first, others = drawn[:, :1], drawn[:, 1:]
    found = [(first & ~others).sum(-1), (~first & others).sum(-1)]
    return Pair(*(f.reshape(len(drawn), -1) for f in found), drawn.shape[-1])


def errs(verdicts, wrong=(-1, 1)):
    return np.isin(verdicts, wrong).mean()


@pytest.mark.parametrize("columns", (1, 2, len(COLUMNS)))
@pytest.mark.parametrize("images", (100, 500))
def test_no_lead_among_permuted_networks(networks, columns, images):
    """Ahead of every rival, in one column (natural accuracy), in two, in all of the table."""
    drawn = permuted(networks[:, :columns, :images], np.random.default_rng(columns))
    assert errs(rules.judge(rules.ahead(against_the_first(drawn)))) <= AT_MOST


def test_what_was_done_before_erred_more_often(networks):
    """Best of the rivals, tested alone, column by column: what the correction is for."""
    drawn = permuted(networks, np.random.default_rng(0))
    found = against_the_first(drawn)
    behind = rules.ahead(found).against.reshape(DRAWS, len(NAMES) - 1, -1)
    best = drawn[:, 1:].sum(-1).argmax(1)
    alone = np.take_along_axis(behind, best[:, None], 1)[:, 0]
    assert (alone < 0.05).any(-1).mean() > 0.15


@pytest.mark.parametrize("rule, error", ((rules.at_most, -1), (rules.far_ahead, 1)))
def test_permuted_networks_differ_by_no_margin(networks, rule, error):
    drawn = permuted(networks[:, :2], np.random.default_rng(3))
    assert errs(rules.judge(rule(against_the_first(drawn))), (error,)) <= AT_MOST


@pytest.mark.parametrize("images", (100, 300, 500))
@pytest.mark.parametrize("second_only", (0.0, 0.02, 0.1, 0.2))
@pytest.mark.parametrize("sign", (1, -1))
def test_a_difference_of_just_the_margin_is_neither(images, second_only, sign):
    """The edge of "at most" and of "far ahead", at several numbers of images that differ."""
    rng = np.random.default_rng(images)
    shares = [second_only + MARGIN, second_only, 1 - 2 * second_only - MARGIN]
    counts = rng.multinomial(images, shares, size=(DRAWS, 1))
    both = [counts[..., 0], counts[..., 1]][::sign]
    verdicts = rules.judge(rules.at_most(Pair(*both, images), sign * MARGIN))
    assert errs(verdicts, (1,)) <= AT_MOST + 0.01 and errs(verdicts, (-1,)) <= AT_MOST + 0.01


def test_a_mixture_of_rules_errs_no_more_often(networks):
    """The threshold helps against three attacks (ahead) and not against two (at most)."""
    drawn = permuted(networks[:2, :5], np.random.default_rng(5))
    found = against_the_first(drawn)
    near = Pair(found.first_only[:, :3], found.second_only[:, :3], found.count)
    far = Pair(found.first_only[:, 3:], found.second_only[:, 3:], found.count)
    parts = [rules.ahead(near), rules.at_most(far)]
    together = Support(*(np.concatenate(p, -1) for p in zip(*parts, strict=True)))
    assert errs(rules.judge(together)) <= AT_MOST


def test_half_is_not_most():
    successes = np.random.default_rng(6).binomial(180, 0.5, size=(DRAWS, 3))
    assert errs(rules.judge(rules.most(successes, 180))) <= AT_MOST


def test_numbers_of_permuted_networks_are_not_larger():
    """Silhouettes: skewed, and alike for both networks on the same image."""
    rng = np.random.default_rng(7)
    image = rng.gamma(2, 0.1, size=(1, 2, 200))
    values = image + rng.exponential(0.2, size=(2, 1, 200)) * [[[1.0]], [[1.5]]]
    order = rng.integers(2, size=(DRAWS, 1, 200))
    first, second = np.where(order, values[0], values[1]), np.where(order, values[1], values[0])
    assert errs(rules.judge(rules.larger(first, second))) <= AT_MOST


@pytest.mark.parametrize("seeds", (3, 5))
def test_methods_alike_are_not_told_apart(seeds):
    """Trainings scatter about one accuracy, one method more than another."""
    rng = np.random.default_rng(seeds)
    values = rng.normal(0.5, 0.02, size=(DRAWS, len(NAMES), len(COLUMNS), seeds))
    values[:, 0] += rng.normal(0, 0.03, size=values[:, 0].shape)
    supports = rules.methods_ahead(values[:, :1], values[:, 1:])
    flat = Support(*(p.reshape(DRAWS, -1) for p in supports))
    assert errs(rules.judge(flat)) <= AT_MOST


def test_epochs_in_any_order_do_not_rise():
    rng = np.random.default_rng(8)
    verdicts = [rules.verdict([rules.rises(rng.random(12), np.arange(12))]) for _ in range(500)]
    assert np.mean([v is not None for v in verdicts]) <= 0.05 + 3 * (0.05 * 0.95 / 500) ** 0.5


def test_what_is_there_is_found():
    far, near, none = Pair(60, 5, 300), Pair(4, 3, 300), Pair(5, 60, 300)
    assert rules.verdict([rules.ahead(far)] * 9) is True
    assert rules.verdict([*[rules.ahead(far)] * 8, rules.ahead(none)]) is False
    assert rules.verdict([*[rules.ahead(far)] * 8, rules.ahead(near)]) is None
    assert rules.verdict([*[rules.ahead(far)] * 8, rules.NONE]) is None
    assert rules.verdict([]) is None
    assert rules.verdict([rules.at_most(near)] * 5) is True
    assert rules.verdict([rules.at_most(far)]) is False
    assert rules.verdict([rules.far_ahead(far)]) is True
    assert rules.verdict([rules.far_ahead(near)]) is False
    assert rules.verdict([rules.most(50, 60)]) is True and rules.verdict([rules.most(0, 0)]) is None
    numbers = np.linspace(0, 1, 40)
    assert rules.verdict([rules.larger(numbers + 0.1, numbers)]) is True
    assert rules.verdict([rules.larger(numbers, numbers + 0.1)]) is False
    assert rules.verdict([rules.larger(numbers, numbers)]) is None
    assert rules.verdict([rules.rises(numbers, numbers)]) is True
    assert rules.verdict([rules.rises([1.0, 1.0], [1, 2])]) is None
    assert rules.verdict([rules.methods_ahead([0.5, 0.51, 0.52], [0.2, 0.21, 0.2])]) is True
    assert rules.verdict([rules.methods_ahead([0.5] * 3, [0.5] * 3)]) is None
