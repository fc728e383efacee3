"""A score that draws anew at every look, of which the mean is known."""

import pytest
import torch
from helpers import Plane, images_around, mostly_right, smooth_net, snapshot
from torch import nn

from ldatlib import UserError
from ldatlib.evaluation.adaptive import adaptive_attack
from ldatlib.evaluation.extreme_scores import highest_score, lowest_score
from ldatlib.evaluation.gate.wrappers import Averaged, AveragedScore
from ldatlib.evaluation.joint import differentiable
from ldatlib.evaluation.random_score import fresh_looks, randomness
from ldatlib.evaluation.rejection import judge, reject

BALL = {"eps": 0.25, "norm": "linf", "queries": 30, "num_steps": 6}


def brightness(model, images):
    return images.flatten(1).mean(1)


def counted(model, images):
    return (images > 0.5).flatten(1).sum(1)


def noisy(model, images):
    """Its mean is the brightness, and so is that of its gradient."""
    return brightness(model, images) + 0.1 * torch.randn(len(images))


def noisy_counts(model, images):
    return counted(model, images) + 2 * torch.randn(len(images))


def coin(model, images):
    """One half on average, whatever the image."""
    return torch.rand(len(images))


def one_for_all(model, images):
    """One draw of three for the whole batch."""
    return brightness(model, images) * (1 + torch.randint(3, ()))


@pytest.fixture(scope="module")
def net():
    return smooth_net()


@pytest.fixture(scope="module")
def images(net):
    return mostly_right(net, 16)


@pytest.mark.parametrize("score", [noisy, noisy_counts, coin, one_for_all])
def test_a_randomised_score_is_noticed_and_refused_with_the_remedy(net, images, score):
    x, y = images
    before = torch.get_rng_state()
    assert "looks differ on 32 of 32 images" in randomness(net, x, score)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(UserError, match=r"is randomised.*AveragedScore\(score, 20\)") as refusal:
        adaptive_attack(net, x, y, score=score, thresholds=[0.5], **BALL)
    assert "\n" not in str(refusal.value)
    for attack in (highest_score, lowest_score):
        with pytest.raises(UserError, match="is randomised"):
            attack(net, x, y, score=score, **BALL)
    with pytest.raises(UserError, match="is randomised"):
        reject(net, x, y, x, y, score=score, **BALL)


def test_what_is_computed_from_the_image_is_not_randomised(net, images):
    x, _ = images
    dropping = nn.Sequential(nn.Dropout(0.2), net).eval()
    dropping[0].train()
    averaged = Averaged(dropping, 3)
    for score in ("posterior", brightness, counted, lambda model, x: model(x).amax(1)):
        assert randomness(net, x, score) is None
        assert randomness(averaged, x, score) is None
    assert averaged.calls == 0
    assert randomness(net, x, AveragedScore(noisy, 2)) is None
    assert randomness(net, x[:0], noisy) is None


def test_a_mean_over_looks_goes_on_by_itself(net, images):
    x, _ = images
    score, again = AveragedScore(noisy, 400, seed=3), AveragedScore(noisy, 400, seed=3)
    before, model = torch.get_rng_state(), snapshot(net)
    first, second = score(net, x), score(net, x)
    assert torch.equal(torch.get_rng_state(), before) and snapshot(net) == model
    torch.rand(5)
    assert torch.equal(first, again(net, x)) and not torch.equal(first, second)
    # Five standard errors of 400 draws of 0.1.
    assert (first - brightness(net, x)).abs().max() < 0.025
    assert score.__qualname__ == "noisy" and differentiable(net, x, score)
    assert AveragedScore(counted, 2)(net, x).is_floating_point()


def test_lucky_draws_are_not_taken_for_images_that_are_missed(net, images):
    """No image has a mean above 0.8; a mean of four of a coin has in one of 70 looks."""
    score = AveragedScore(coin, 4)
    settings = BALL | {"queries": 200}
    (found,) = adaptive_attack(net, *images, score=score, thresholds=[0.8], **settings)
    values, _ = judge(net, found.images, images[1], score)
    assert (found.restart == -1).all() and (values < 0.8).all()


@pytest.mark.parametrize(("score", "mean"), [(noisy, brightness), (noisy_counts, counted)])
def test_its_mean_falls_where_the_score_without_noise_does(score, mean):
    """Judged by the mean in closed form, which the attack has not seen."""
    torch.manual_seed(1)
    plane = Plane(torch.randn(25))
    x = images_around(plane, 40, 5)
    y = plane.predict(x)
    cut = float(mean(plane, x).float().quantile(0.8))
    settings = {"thresholds": [cut], "eps": 0.05, "norm": "linf", "queries": 100}

    def missed(attacked):
        (found,) = adaptive_attack(plane, x, y, score=attacked, **settings)
        values, right = judge(plane, found.images, y, mean)
        return int((~right & (values >= cut)).sum())

    known = missed(mean)
    assert 5 < known < len(x) and missed(AveragedScore(score, 20)) >= 0.8 * known


def test_judged_is_the_mean_of_several_fresh_ones(net, images):
    score, count = AveragedScore(noisy, 2), fresh_looks(AveragedScore(noisy, 2))
    values, _ = judge(net, *images, score)
    again = AveragedScore(noisy, 2)
    looks = torch.stack([again(net, images[0]) for _ in range(count)])
    assert torch.allclose(values, looks.mean(0).double(), atol=1e-6) and score.calls == count > 1
    assert fresh_looks(noisy) == fresh_looks("posterior") == 1
