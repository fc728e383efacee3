"""The attack on the detector, against what can be computed in closed form or by brute force."""

import math

import pytest
import torch
from helpers import Plane, images_around, snapshot
from test_robustness import COUNT, LOGITS, SIDE
from torch import nn

from ldatlib import Classifier, GaussianMixtureHead, UserError
from ldatlib.evaluation import adaptive, detection
from ldatlib.evaluation.adaptive import adaptive_attack
from ldatlib.evaluation.ascent import ascend, margins, random_start

pytestmark = pytest.mark.slow

EPS = {"linf": 0.05, "l2": 0.25}
both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def world(scale=1.0):
    """A plane, images on both sides of it, and labels of which a sixth is wrong."""
    plane = Plane(torch.randn(SIDE * SIDE), classes=3, scale=scale)
    x = images_around(plane, COUNT, SIDE)
    y = plane.predict(x)
    y[::6] = 1 - y[::6]
    return plane, x, y


def missed(model, x_adv, y, score, cut):
    values, predicted = detection.score_images(model, x_adv, score)
    return (values >= cut) & (predicted != y)


def inside(x, x_adv, eps, norm):
    delta = (x_adv - x).flatten(1)
    size = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    return size.max() <= eps + 1e-5 and x_adv.min() >= 0 and x_adv.max() <= 1


# The joint objective


@both_norms
@pytest.mark.parametrize("kind", LOGITS)
def test_exactly_the_images_that_can_be_wrong_and_accepted(norm, kind):
    """On a plane the other class has posterior p where the value is the log-odds of p beyond it."""
    plane, x, y = world()
    model, cuts = LOGITS[kind](plane), [0.6, 0.8, 0.3]
    found = adaptive_attack(
        model, x, y, score="posterior", thresholds=cuts, eps=EPS[norm], norm=norm
    )
    value = (x.flatten(1) @ plane.w + plane.b).detach()
    ahead = torch.where(y == 1, value, -value)
    dual = (plane.w.norm() if norm == "l2" else plane.w.abs().sum()).item()
    for cut, x_adv in zip(cuts, found, strict=True):
        needed = max(math.log(cut / (1 - cut)), 0) + ahead
        expected, unsure = needed <= EPS[norm] * dual, (needed / EPS[norm] / dual - 1).abs() < 0.05
        got = missed(model, x_adv, y, "posterior", cut)
        assert torch.equal(got[~unsure], expected[~unsure])
        assert inside(x, x_adv, EPS[norm], norm)
        assert 8 <= expected.sum() <= COUNT - 8


def test_logits_on_another_scale():
    """Larger logits make every posterior extreme, and the objective must not saturate with it."""
    for scale in (0.2, 1e4):
        plane, x, y = world(scale)
        (x_adv,) = adaptive_attack(
            plane, x, y, score="posterior", thresholds=[0.99], eps=0.3, norm="l2"
        )
        value = (x.flatten(1) @ plane.w + plane.b).detach()
        needed = math.log(99) / scale + torch.where(y == 1, value, -value)
        unsure = (needed / 0.3 / plane.w.norm().item() - 1).abs() < 0.05
        expected = needed <= 0.3 * plane.w.norm().item()
        got = missed(plane, x_adv, y, "posterior", 0.99)
        assert torch.equal(got[~unsure], expected[~unsure])


class Detour(nn.Module):
    """The strongest wrong class can never be accepted; another one can, in the other direction."""

    def forward(self, x):
        t = x.flatten(1).mean(1) - 0.5
        nothing = torch.zeros_like(t)
        first = (8 * t + 0.2).clamp_max(0.3)
        return torch.stack([nothing, first, -2 - 30 * t], 1)


def test_every_wrong_class_is_tried():
    x, y = torch.full((6, 1, 4, 4), 0.5), torch.zeros(6).long()
    settings = {"score": "posterior", "thresholds": [0.7], "eps": 0.2, "norm": "linf"}
    (x_adv,) = adaptive_attack(Detour(), x, y, **settings)
    assert missed(Detour(), x_adv, y, "posterior", 0.7).all()
    assert (Detour()(x_adv).argmax(1) == 2).all()
    merit = adaptive.joint(Detour(), x, torch.ones(6).long(), "posterior", 0.7)
    assert (merit[0] > 0).all() and (merit[1] < 0).all()


def mixture(means):
    head = GaussianMixtureHead(2, len(means))
    head.means.data = torch.tensor(means)
    return Classifier(nn.Flatten(), head, mean=(0.0,), std=(1.0,)).eval()


@both_norms
@pytest.mark.parametrize("score", ["posterior", "log_likelihood"])
def test_nothing_that_a_grid_finds_is_overlooked(norm, score):
    """Two pixels: every image of the ball is looked at."""
    model = mixture([[0.1, 0.1], [0.9, 0.2], [0.4, 0.9]])
    # Sharper, so that the density differs within the unit square.
    model.head.means.data *= 6
    model.std.fill_(1 / 6)
    x = torch.rand(40, 1, 1, 2)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[::5] = (y[::5] + 1) % 3
    values, _ = detection.score_images(model, x, score)
    cuts, eps = values.quantile(torch.tensor([0.4, 0.8])).tolist(), 0.3
    found = adaptive_attack(
        model, x, y, score=score, thresholds=cuts, eps=eps, norm=norm, restarts=2
    )
    steps = torch.linspace(-eps, eps, 61)
    ball = torch.cartesian_prod(steps, steps).view(-1, 1, 1, 2)
    if norm == "l2":
        ball = ball[ball.flatten(1).norm(dim=1) <= eps]
    for cut, x_adv in zip(cuts, found, strict=True):
        got = missed(model, x_adv, y, score, cut)
        assert inside(x, x_adv, eps, norm)
        possible = torch.stack(
            [
                missed(model, (i + ball).clamp(0, 1), label, score, cut).any()
                for i, label in zip(x, y, strict=True)
            ]
        )
        assert not (possible & ~got).any()
        assert 4 <= possible.sum() <= len(x) - 4


def test_features_are_matched_to_a_wrong_centroid():
    """The last resort of the likelihood: on its own it reaches the wrong centroid itself."""
    model = mixture([[0.2, 0.2], [0.8, 0.8]])
    x, y = torch.full((3, 1, 1, 2), 0.3), torch.zeros(3).long()
    settings = {"eps": 0.6, "norm": "linf", "num_steps": 60}
    attack = adaptive._Attack(
        model, x, y, "log_likelihood", generator=torch.Generator().manual_seed(0), **settings
    )
    attack.threshold = float("inf")
    attack.merit = torch.full((3,), float("-inf"))
    images, _ = ascend(
        lambda images, rows: (
            (v := attack._centroid(attack.ranked[:, 0])(attack._seen(images), rows, None)),
            v,
        ),
        x,
        **settings,
    )
    torch.testing.assert_close(images, torch.full_like(images, 0.8), atol=5e-3, rtol=0)


# What it leaves alone


def test_already_missed_images_are_returned_as_they_are():
    plane, x, y = world()
    (x_adv,) = adaptive_attack(plane, x, y, score="posterior", thresholds=[0.6], eps=0.1, norm="l2")
    before = missed(plane, x, y, "posterior", 0.6)
    assert before.any() and torch.equal(x_adv[before], x[before])


def test_reproducible_and_blind_to_the_order_of_thresholds():
    plane, x, y = world()
    settings = {"score": "posterior", "eps": 0.1, "norm": "l2", "seed": 5, "batch_size": 25}
    first = adaptive_attack(plane, x, y, thresholds=[0.6, 0.9], **settings)
    torch.manual_seed(99)
    again = adaptive_attack(plane, x, y, thresholds=[0.9, 0.6], **settings)
    assert torch.equal(first[0], again[1]) and torch.equal(first[1], again[0])


def test_model_and_random_state_are_left_as_they_were():
    model = mixture([[0.2, 0.2], [0.8, 0.8]]).train()
    x = torch.rand(5, 1, 1, 2)
    before, state, pixels = snapshot(model), torch.get_rng_state(), x.clone()
    adaptive_attack(
        model,
        x,
        torch.zeros(5).long(),
        score="log_likelihood",
        thresholds=[-3.0],
        eps=0.1,
        norm="l2",
    )
    assert snapshot(model) == before and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, pixels)


def test_a_threshold_of_one_can_be_reached():
    """A frozen threshold is rounded to six digits; what rounds to it is accepted."""
    plane, x, y = world()
    plane.scale = 100.0
    (x_adv,) = adaptive_attack(plane, x, y, score="posterior", thresholds=[1.0], eps=0.5, norm="l2")
    values, predicted = detection.score_images(plane, x_adv)
    assert ((values.double() * 1e6).round() / 1e6 >= 1)[predicted != y].sum() >= COUNT / 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"score": "entropy"}, "unknown score 'entropy'; known: posterior, log_likelihood"),
        ({"score": "log_likelihood"}, "linear head has no likelihood"),
        ({"norm": "l1"}, "unknown norm 'l1'"),
        ({"eps": -0.1}, "eps must be a number of at least 0"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"restarts": 0}, "restarts must be at least 1"),
    ],
)
def test_bad_input(change, named):
    plane, x, y = world()
    settings = {"score": "posterior", "thresholds": [0.6], "eps": 0.1, "norm": "l2"} | change
    with pytest.raises(UserError, match=named):
        adaptive_attack(plane, x, y, **settings)


# The search beneath it


@both_norms
def test_ascent_reaches_the_boundary_and_no_further(norm):
    plane, x, _ = world()
    y = plane.predict(x)
    found, merit = ascend(
        lambda images, rows: 2 * [margins(plane(images), y[rows])],
        x,
        eps=EPS[norm],
        norm=norm,
        num_steps=30,
    )
    within = plane.distance(x, norm)
    unsure = (within / EPS[norm] - 1).abs() < 0.03
    assert torch.equal((plane.predict(found) != y)[~unsure], (within < EPS[norm])[~unsure])
    assert inside(x, found, EPS[norm], norm)
    with torch.no_grad():
        torch.testing.assert_close(merit, margins(plane(found), y))


def test_ascent_keeps_the_image_of_greatest_merit():
    """The objective walks past the place where the merit is greatest."""
    x = torch.full((3, 1, 1, 1), 0.2)

    def objective(images, rows):
        value = images.flatten(1).sum(1)
        return value, -(value - 0.5).abs()

    found, merit = ascend(objective, x, eps=0.7, norm="linf", num_steps=1, start=x + 0.3)
    torch.testing.assert_close(found, torch.full_like(found, 0.5))
    assert (merit > -1e-6).all()


def test_images_of_a_batch_do_not_touch_each_other():
    plane, x, y = world()
    model = LOGITS["mixture"](plane)

    def attack(images, labels, start):
        def objective(seen, rows):
            value = margins(model(seen), labels[rows])
            return value, value

        return ascend(objective, images, eps=0.1, norm="l2", num_steps=20, start=start, goal=0)[0]

    start = random_start(x, 0.1, "l2", torch.Generator().manual_seed(0))
    whole = attack(x, y, start)
    for rows in (slice(0, 7), slice(30, 31)):
        alone = attack(x[rows], y[rows], start[rows])
        torch.testing.assert_close(alone, whole[rows], atol=1e-3, rtol=0)


@both_norms
def test_random_starts_lie_on_the_rim(norm):
    x = torch.full((20, 1, 4, 4), 0.5)
    delta = (random_start(x, 0.2, norm, torch.Generator().manual_seed(0)) - x).flatten(1)
    size = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    torch.testing.assert_close(size, torch.full_like(size, 0.2))
