"""Rejection over all thresholds, with scores of one's own, against closed forms and by hand."""

import json

import pytest
import torch
from helpers import Plane, images_around, mostly_right, smooth_net, snapshot

from ldatlib import UserError
from ldatlib.evaluation import detection, rejection
from ldatlib.evaluation.adaptive import adaptive_attack, number_of_searches
from ldatlib.evaluation.ascent import ascend
from ldatlib.evaluation.extreme_scores import highest_score, lowest_score
from ldatlib.evaluation.joint import (
    UNIT,
    Scale,
    check_score,
    differentiable,
    joint,
    scale_of,
    strongest_wrong,
    sureness,
)
from ldatlib.evaluation.joint import look as look_at
from ldatlib.evaluation.rejection import attack_detector, curve, judge, reject
from ldatlib.evaluation.robustness import predict
from ldatlib.evaluation.search import search, strongest
from ldatlib.evaluation.square import square

SIDE, COUNT = 5, 40
both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def world():
    """A plane, images on both sides of it, a sixth of the labels wrong."""
    plane = Plane(torch.randn(SIDE * SIDE), classes=3)
    x = images_around(plane, COUNT, SIDE)
    y = plane.predict(x)
    y[::6] = 1 - y[::6]
    return plane, x, y


def brightness(model, images):
    """A score of one's own, with a gradient."""
    return images.flatten(1).mean(1)


def counted(model, images):
    """Without one: how many pixels are bright."""
    return (images > 0.5).flatten(1).sum(1)


def size(x, x_adv, norm):
    delta = (x_adv - x).flatten(1)
    return delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)


# The curve


def judged(text):
    """``"0.9+ 0.3-"``: scores, and whether the image is right."""
    words = text.split()
    scores = torch.tensor([float(word[:-1]) for word in words], dtype=torch.float64)
    return scores, torch.tensor([word[-1] == "+" for word in words])


def test_the_curve_by_hand():
    val = judged("0.2+ 0.4+ 0.6+ 0.8+ 0.9-")
    clean = judged("0.9+ 0.7+ 0.5+ 0.3- 0.8-")
    # The second is missed up to 0.6, the third not at all; the wrong ones are so anyway.
    highest = judged("0.9+ 0.6- 0.5+ 0.35- 0.95-")
    half = judged("0.7+ 0.4+ 0.4+ 0.1- 0.2-")
    whole = judged("0.5+ 0.6- 0.3+ 0.1- 0.2-")
    points = curve(val, clean, highest, {0.5: half, 1.0: whole}, (0.5, 0.75, 1.0))
    strict, loose, everything = points
    # Half of the right validation images score 0.6 and more.
    assert (strict.threshold, loose.threshold, everything.threshold) == (0.6, 0.4, None)
    assert [round(p.clean_acceptance["value"], 3) for p in points] == [0.667, 1, 1]
    # At 0.6: of the two that are accepted and right the second is missed.
    assert {k: v["value"] for k, v in strict.robust.items()} == {"0": 0.2, "0.5": 0.2, "1": 0.0}
    # Missed: the second and the last; accepted besides: the first.
    assert strict.error_among_accepted["value"] == pytest.approx(2 / 3)
    # At 0.4 the third stands, too, and within half of the budget it is not refused: 0.4 is not.
    assert {k: v["value"] for k, v in loose.robust.items()} == {"0": 0.4, "0.5": 0.4, "1": 0.2}
    assert loose.error_among_accepted["value"] == 0.5
    # Without a threshold: right, and nothing wrong in the ball.
    assert everything.robust["0"]["value"] == 0.4 == everything.robust["1"]["value"]
    assert everything.error_among_accepted["value"] == pytest.approx(3 / 5)
    assert all(p.robust["0"]["count"] == 5 and p.robust["0"]["low"] < 0.4 for p in points)


def test_where_nothing_is_accepted_there_is_no_error_among_it():
    val, clean = judged("0.9+ 0.8+"), judged("0.2+ 0.1-")
    (point,) = curve(val, clean, judged("0.3+ 0.2-"), {}, (0.5,))
    assert point.error_among_accepted is None and point.clean_acceptance["value"] == 0
    with pytest.raises(UserError, match="no validation image is classified correctly"):
        curve(judged("0.9-"), clean, clean, {}, (0.5,))


# The least sure images


@both_norms
def test_the_lowest_score_within_reach(norm):
    """On a plane: wrong where the boundary is in the ball, else the log-odds at its near end."""
    plane, x, y = world()
    eps = {"linf": 0.02, "l2": 0.1}[norm]
    found = lowest_score(plane, x, y, score="posterior", eps=eps, norm=norm, num_steps=20)
    value = (x.flatten(1) @ plane.w + plane.b).detach()
    dual = (plane.w.norm() if norm == "l2" else plane.w.abs().sum()).item()
    odds = torch.where(y == 1, value, -value) - eps * dual
    values, predicted = detection.score_images(plane, found)
    right, unsure = predicted == y, odds.abs() < 2e-3
    assert torch.equal(right[~unsure], (odds > 0)[~unsure]) and 5 < right.sum() < COUNT - 5
    torch.testing.assert_close(values[right], odds[right].sigmoid(), atol=2e-3, rtol=0)
    assert size(x, found, norm).max() <= eps + 1e-5


def test_what_is_given_is_kept():
    net = smooth_net()
    x, y = mostly_right(net, 20)
    ball = {"score": "posterior", "norm": "linf", "num_steps": 8}
    near = lowest_score(net, x, y, eps=0.01, **ball)
    far = lowest_score(net, x, y, eps=0.03, given=[near], **ball)
    wrong = [predict(net, images) != y for images in (near, far)]
    assert not (wrong[0] & ~wrong[1]).any()
    assert torch.equal(far[wrong[0]], near[wrong[0]])
    scores = [detection.score_images(net, images)[0] for images in (near, far)]
    still = ~wrong[1]
    assert (scores[1] <= scores[0] + 1e-6)[still].all() and still.any()


def test_one_attack_feeds_the_next():
    net = smooth_net()
    x, y = mostly_right(net, 24)
    cuts = [0.35, 0.25]
    found = attack_detector(
        net, x, y, score="posterior", thresholds=cuts, eps=0.15, norm="linf", num_steps=8
    )
    highest, right = judge(net, found.highest, y, "posterior")
    for cut, of_cut in zip(cuts, found.at, strict=True):
        values, still = judge(net, of_cut.images, y, "posterior")
        missed = ~still & (values >= cut)
        assert missed.any() and not (missed & ~(~right & (highest >= cut - 1e-5))).any()
    assert list(found.lowest) == list(rejection.FRACTIONS)
    wrong = {f: predict(net, images) != y for f, images in found.lowest.items()}
    assert not (wrong[0.25] & ~wrong[0.5]).any() and not (wrong[0.5] & ~wrong[1.0]).any()
    # In the whole ball every wrong image that any attack found counts.
    assert not (~right & ~wrong[1.0]).any()
    for fraction, images in found.lowest.items():
        assert size(x, images, "linf").max() <= fraction * 0.15 + 1e-6


# Scores of one's own


def test_which_scores_have_a_gradient():
    net = smooth_net()
    x, _ = mostly_right(net, 12)
    assert differentiable(net, x, "posterior") and differentiable(net, x, brightness)
    assert not differentiable(net, x, counted)
    # A gradient that is 0 almost everywhere is none, nor is one that is cut off.
    assert not differentiable(
        net, x, lambda m, i: (i * 1e-9).round().flatten(1).sum(1) + 0 * m(i)[:, 0]
    )
    assert not differentiable(net, x, lambda m, i: brightness(m, i).detach())
    assert not differentiable(net, x, lambda m, i: m(torch.ones_like(i))[:, 0])


@pytest.mark.parametrize(
    ("score", "named"),
    [
        (lambda m, i: m(i), r"one number an image, \[8\] here, not \(8, 5\)"),
        (lambda m, i: 0.5, "not float"),
        (lambda m, i: i.flatten(1).sum(1) / 0, "NaN or infinite"),
    ],
)
def test_a_score_that_is_none_is_refused(score, named):
    net = smooth_net()
    x, _ = mostly_right(net, 8)
    with pytest.raises(UserError, match=named) as refused:
        detection.score_images(net, x, score)
    assert "\n" not in str(refused.value)


def test_margin_and_score_are_scaled_on_validation_images():
    net = smooth_net()
    x, y = mostly_right(net, 101)
    assert scale_of(net, x, y, "posterior") == UNIT
    found = scale_of(net, x, y, lambda m, i: 1000 * brightness(m, i), batch_size=7)
    values = 1000 * brightness(net, x).double()
    low, high = values.quantile(torch.tensor([0.25, 0.75]).double())
    assert found.score == pytest.approx(float(high - low) / 2, rel=1e-5)
    with torch.no_grad():
        logits = net(x)
    own = logits.gather(1, y[:, None]).squeeze(1)
    margin = logits.scatter(1, y[:, None], float("-inf")).amax(1) - own
    assert found.margin == pytest.approx(float(margin.abs().median()), rel=1e-5)
    # A score that is the same everywhere has no spread to be measured by.
    assert scale_of(net, x, y, lambda m, i: 0 * brightness(m, i)).score == 1
    with pytest.raises(UserError, match="there are none"):
        scale_of(net, x[:0], y[:0], brightness)
    with pytest.raises(UserError, match="share their unit"):
        adaptive_attack(
            net, x, y, score="posterior", thresholds=[0.5], eps=0.1, norm="l2", scale=Scale(2.0)
        )


def test_the_joint_objective_of_ones_own_score():
    net = smooth_net()
    x, y = mostly_right(net, 10)
    margin, surplus = joint(look_at(net, x, brightness), y, 0.4, Scale(2.0, 0.1))
    plain, _ = joint(look_at(net, x, "posterior"), y, 0.4)
    torch.testing.assert_close(2 * margin, plain)
    torch.testing.assert_close(surplus, (brightness(net, x) - 0.4) / 0.1)
    sure = sureness(look_at(net, x, brightness), Scale(1.0, 0.1))
    torch.testing.assert_close(sure, brightness(net, x) / 0.1)
    check_score(net, brightness)


@pytest.mark.slow
@both_norms
def test_ones_own_posterior_is_the_librarys(norm):
    """The same score by another road: its own function, scaled, against the built-in one."""
    plane, x, y = world()

    def log_odds(model, images):
        return model(images).log_softmax(1).amax(1).exp().logit(1e-6)

    eps = {"linf": 0.05, "l2": 0.25}[norm]
    ball = {"eps": eps, "norm": norm}
    cut = 0.6
    (named,) = adaptive_attack(plane, x, y, score="posterior", thresholds=[cut], **ball)
    own_cut = float(torch.tensor(cut).logit())
    scale = scale_of(plane, x, y, log_odds)
    (own,) = adaptive_attack(plane, x, y, score=log_odds, thresholds=[own_cut], scale=scale, **ball)
    found = [judge(plane, f.images, y, "posterior") for f in (named, own)]
    missed = [~right & (values >= cut - 1e-6) for values, right in found]
    assert torch.equal(*missed) and 5 < missed[0].sum() < COUNT - 5


@both_norms
def test_square_where_there_is_no_gradient(norm):
    """It finds much of what ascent finds on the same objective, inside the ball."""
    net = smooth_net()
    x, y = mostly_right(net, 24)
    eps = {"linf": 0.08, "l2": 0.3}[norm]

    def objective(images, rows):
        seen = look_at(net, images, "posterior")
        both = joint(seen, strongest_wrong(seen.logits, y[rows]), 0.3)
        return torch.minimum(*both), torch.minimum(*both)

    state = torch.get_rng_state()
    found, merit = square(objective, x, eps=eps, norm=norm, queries=300, goal=0.0, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    again, _ = square(objective, x, eps=eps, norm=norm, queries=300, goal=0.0, seed=1)
    assert torch.equal(found, again)
    rows = torch.arange(len(x))
    with torch.no_grad():
        torch.testing.assert_close(objective(found, rows)[0], merit)
        begin = objective(x, rows)[1].double().mean()
    _, best = ascend(objective, x, eps=eps, norm=norm, num_steps=60, goal=0.0)
    assert merit.double().mean() - begin > 0.4 * (best.double().mean() - begin) > 0.05
    assert size(x, found, norm).max() <= eps + 1e-5 and found.min() >= 0 and found.max() <= 1
    nothing, _ = square(objective, x[:0], eps=eps, norm=norm, queries=3)
    assert nothing.shape == (0, 1, 5, 5)
    with pytest.raises(UserError, match="unknown norm 'l1'"):
        square(objective, x, eps=eps, norm="l1", queries=3)


def test_a_score_without_a_gradient_is_attacked_by_square():
    net = smooth_net()
    x, y = mostly_right(net, 16)
    settings = {"score": counted, "eps": 0.25, "norm": "linf", "queries": 60}
    scale = scale_of(net, x, y, counted)
    (found,) = adaptive_attack(net, x, y, thresholds=[13.0], scale=scale, **settings)
    values, right = judge(net, found.images, y, counted)
    missed = ~right & (values >= 13)
    before, clean = judge(net, x, y, counted)
    assert missed.sum() > (~clean & (before >= 13)).sum()
    assert found.restart.max() < number_of_searches(counted, 5, 1, steep=False) == 2
    searched = found.restart >= 0
    assert missed[searched].all() and not (~clean & (before >= 13))[searched].any()
    highest = highest_score(net, x, y, scale=scale, given=[found.images], **settings)
    top, still = judge(net, highest, y, counted)
    assert (~still & (top >= 13)).sum() >= missed.sum()
    lowest = lowest_score(net, x, y, scale=scale, **settings)
    least, right = judge(net, lowest, y, counted)
    assert (least <= before)[right].all() and (least < before)[right].any()
    with pytest.raises(UserError, match="queries must be at least 1, not 0"):
        adaptive_attack(net, x, y, thresholds=[1.0], **settings | {"queries": 0})
    with pytest.raises(UserError, match="restarts must be at least 1, not 0"):
        highest_score(net, x, y, restarts=0, **settings)


def test_a_score_without_a_gradient_falls_far_behind_the_boundary():
    """It is high where the margin is: whoever climbs that needs no look at the score."""

    def sure(model, images):
        top = model(images).topk(2, dim=1).values
        return ((top[:, 0] - top[:, 1]) > 0.3).float()

    net = smooth_net()
    x, y = mostly_right(net, 24)
    settings = {"score": sure, "thresholds": [1.0], "eps": 0.5, "norm": "linf", "queries": 1}
    assert not differentiable(net, x, sure)
    (found,) = adaptive_attack(net, x, y, **settings)
    values, right = judge(net, found.images, y, sure)
    ball = {"eps": 0.5, "norm": "linf", "num_steps": 40, "goal": 9e9}
    far = search([strongest(net, y)] * 5, x, generator=torch.Generator().manual_seed(0), **ball)
    reached = far.progress.amax(1) > 0.31
    assert reached.sum() > 5 and (~right & (values >= 1))[reached].all()


@pytest.mark.parametrize("score", ["posterior", brightness, counted])
def test_the_whole_of_it_as_a_record(score):
    net = smooth_net()
    x, y = mostly_right(net, 40)
    before = snapshot(net)
    effort = {"num_steps": 5, "queries": 20}
    record = reject(
        net, x[:24], y[:24], x[24:], y[24:], score=score, eps=0.2, norm="linf", **effort
    )
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["differentiable"] is (score is not counted)
    assert [point["acceptance"] for point in record["curve"]] == list(rejection.ACCEPTANCES)
    at_95 = next(p for p in record["curve"] if p["acceptance"] == 0.95)
    assert at_95["threshold"] == record["thresholds"]["accept_95"]
    assert set(at_95["robust"]) == {"0", "0.25", "0.5", "1"}
    left = [at_95["robust"][f]["value"] for f in ("0", "0.25", "0.5", "1")]
    assert left == sorted(left, reverse=True)
    assert at_95["robust"]["0"]["value"] + record["missed"]["accept_95"]["value"] <= 1
    assert record["auc"] is None or 0 <= record["auc"] <= 1
    assert snapshot(net) == before
    with pytest.raises(UserError, match="images and .* labels"):
        reject(net, x[:24], y, x[24:], y[24:], score=score, eps=0.2, norm="linf")
