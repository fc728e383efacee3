"""The attack on the detector, against what can be computed in closed form or by brute force."""

import math

import pytest
import torch
from helpers import Plane, images_around, snapshot
from test_robustness import COUNT, LOGITS, SIDE
from torch import nn

from ldatlib import Classifier, GaussianMixtureHead, UserError
from ldatlib.evaluation import adaptive, detection
from ldatlib.evaluation.adaptive import adaptive_attack, number_of_searches
from ldatlib.evaluation.ascent import ascend, margins, random_start
from ldatlib.evaluation.extreme_scores import highest_score
from ldatlib.evaluation.joint import UNIT, joint, look

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


def images_of(model, x, y, **settings):
    """The images at the only threshold."""
    (found,) = adaptive_attack(model, x, y, **settings)
    return found.images


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
    for cut, of_cut in zip(cuts, found, strict=True):
        x_adv = of_cut.images
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
        x_adv = images_of(plane, x, y, score="posterior", thresholds=[0.99], eps=0.3, norm="l2")
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
    x_adv = images_of(Detour(), x, y, **settings)
    assert missed(Detour(), x_adv, y, "posterior", 0.7).all()
    assert (Detour()(x_adv).argmax(1) == 2).all()
    merit = joint(look(Detour(), x, "posterior"), torch.ones(6).long(), 0.7)
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
    for cut, of_cut in zip(cuts, found, strict=True):
        x_adv = of_cut.images
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
    attack = adaptive._Attack(model, [x], y, "log_likelihood", UNIT, {})
    objectives = attack._objectives(float("inf"), restarts=1)
    assert len(objectives) == number_of_searches("log_likelihood", 2, 1)
    centroid = objectives[-2]
    images, _ = ascend(
        lambda images, rows: 2 * [centroid(images, rows)[0]],
        x,
        eps=0.6,
        norm="linf",
        num_steps=60,
    )
    torch.testing.assert_close(images, torch.full_like(images, 0.8), atol=5e-3, rtol=0)


# Restarts, and what others have found


def test_what_others_have_found_is_kept_and_not_attacked():
    """A search that can do nothing: what is given is all there is, and it counts for no restart."""
    plane, x, y = world()
    settings = {"score": "posterior", "thresholds": [0.6, 0.9], "norm": "l2", "eps": 0.25}
    strong = adaptive_attack(plane, x, y, **settings)
    given = [of_cut.images for of_cut in strong]
    again = adaptive_attack(plane, x, y, given=given, **settings | {"eps": 0.0})
    for cut, of_cut, alone in zip((0.6, 0.9), again, strong, strict=True):
        found = missed(plane, alone.images, y, "posterior", cut)
        assert found.any() and (of_cut.restart == -1).all()
        assert torch.equal(missed(plane, of_cut.images, y, "posterior", cut), found)
    nothing = adaptive_attack(plane, x, y, **settings | {"eps": 0.0})
    assert not missed(plane, nothing[1].images, y, "posterior", 0.9)[y == plane.predict(x)].any()


@both_norms
@pytest.mark.parametrize("score", ["posterior", "log_likelihood"])
def test_restarts_tell_who_found_an_image(norm, score):
    """Looser thresholds lose nothing that a stricter one has, and every new find has a restart."""
    model = mixture([[0.1, 0.1], [0.9, 0.2], [0.4, 0.9]])
    model.head.means.data *= 6
    model.std.fill_(1 / 6)
    x = torch.rand(60, 1, 1, 2)
    with torch.no_grad():
        y = model(x).argmax(1)
    values, _ = detection.score_images(model, x, score)
    cuts = values.quantile(torch.tensor([0.05, 0.3, 0.6])).tolist()
    settings = {"score": score, "eps": 0.3, "norm": norm, "num_steps": 12}
    found = adaptive_attack(model, x, y, thresholds=cuts, **settings)
    before = None
    for cut, of_cut in sorted(zip(cuts, found, strict=True), key=lambda pair: -pair[0]):
        got = missed(model, of_cut.images, y, score, cut)
        clean = missed(model, x, y, score, cut)
        by_restart = of_cut.restart >= 0
        assert not (by_restart & (clean | ~got)).any()
        if before is None or score == "posterior" and cut >= 0.5:
            assert torch.equal(by_restart, got & ~clean)
        else:
            assert not (by_restart & before).any()
        assert of_cut.restart.max() < number_of_searches(score, 3, 1)
        assert before is None or not (before & ~got).any()
        before = got
    assert got.any() and not got.all()


# The highest score


def test_the_highest_score_within_reach():
    """On a plane it is the log-odds at the far end of the ball, where that is wrong."""
    plane, x, y = world(scale=0.1)
    found = highest_score(plane, x, y, score="posterior", eps=0.25, norm="l2")
    value = (x.flatten(1) @ plane.w + plane.b).detach()
    odds = 0.1 * (torch.where(y == 1, -value, value) + 0.25 * plane.w.norm().item())
    values, predicted = detection.score_images(plane, found)
    wrong, unsure = predicted != y, odds.abs() < 1e-3
    assert torch.equal(wrong[~unsure], (odds > 0)[~unsure]) and 10 < wrong.sum() < COUNT - 10
    torch.testing.assert_close(values[wrong], odds[wrong].sigmoid(), atol=5e-3, rtol=0)
    assert torch.equal(found[~wrong], x[~wrong]) and inside(x, found, 0.25, "l2")


@pytest.mark.parametrize("score", ["posterior", "log_likelihood"])
def test_no_wrong_image_of_a_grid_scores_higher(score):
    model = mixture([[0.1, 0.1], [0.9, 0.2], [0.4, 0.9]])
    model.head.means.data *= 6
    model.std.fill_(1 / 6)
    x, eps = torch.rand(20, 1, 1, 2), 0.3
    with torch.no_grad():
        y = model(x).argmax(1)
    found = highest_score(model, x, y, score=score, eps=eps, norm="linf", restarts=4)
    values, predicted = detection.score_images(model, found, score)
    steps = torch.linspace(-eps, eps, 61)
    ball = torch.cartesian_prod(steps, steps).view(-1, 1, 1, 2)
    for image, label, value, prediction in zip(x, y, values, predicted, strict=True):
        seen, classes = detection.score_images(model, (image + ball).clamp(0, 1), score)
        wrong = seen[classes != label]
        # A sliver at the edge of the ball may be overlooked.
        if len(wrong) > 20:
            assert prediction != label
            assert value >= wrong.max() - (0.03 if score == "posterior" else 0.15)


def test_the_highest_score_begins_at_what_is_given():
    plane, x, y = world()
    given = highest_score(plane, x, y, score="posterior", eps=0.25, norm="l2")
    again = highest_score(
        plane, x, y, score="posterior", eps=0.25, norm="l2", given=[given], num_steps=1, restarts=1
    )
    before, after = (detection.score_images(plane, images)[0] for images in (given, again))
    wrong = plane.predict(given) != y
    assert (after >= before - 1e-6)[wrong].all() and (plane.predict(again) != y)[wrong].all()


# What it leaves alone


def test_already_missed_images_are_returned_as_they_are():
    plane, x, y = world()
    settings = {"score": "posterior", "thresholds": [0.6], "eps": 0.1, "norm": "l2"}
    (found,) = adaptive_attack(plane, x, y, **settings)
    before = missed(plane, x, y, "posterior", 0.6)
    assert before.any() and torch.equal(found.images[before], x[before])
    assert (found.restart[before] == -1).all() and (found.restart >= 0).any()


def test_reproducible_and_blind_to_the_order_of_thresholds():
    plane, x, y = world()
    settings = {"score": "posterior", "eps": 0.1, "norm": "l2", "seed": 5, "batch_size": 25}
    first = adaptive_attack(plane, x, y, thresholds=[0.6, 0.9], **settings)
    torch.manual_seed(99)
    again = adaptive_attack(plane, x, y, thresholds=[0.9, 0.6], **settings)
    for one, other in ((first[0], again[1]), (first[1], again[0])):
        assert torch.equal(one.images, other.images) and torch.equal(one.restart, other.restart)


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
    x_adv = images_of(plane, x, y, score="posterior", thresholds=[1.0], eps=0.5, norm="l2")
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
