import pytest
import torch

from ldatlib import GaussianMixtureHead, UserError
from ldatlib.evaluation import detection
from ldatlib.models import NetworkConfig, build_network


@pytest.mark.parametrize(
    ("accept", "threshold"), [(0.95, 5.0), (0.99, 1.0), (0.5, 50.0), (0.951, 4.0), (0.01, 99.0)]
)
def test_the_frozen_threshold_is_a_quantile_of_the_right_images(accept, threshold):
    """99, 98, … 0 are right: 0.95 of 100 are the scores from 5 on; wrong ones do not count."""
    scores = torch.cat([torch.arange(100.0), torch.full((50,), 1000.0)])[torch.randperm(150)]
    right = scores < 1000
    assert detection.freeze_threshold(scores, right, accept) == threshold


def test_ties_at_the_frozen_threshold_are_accepted():
    scores = torch.tensor([0.9] * 10 + [0.5] * 10)
    threshold = detection.freeze_threshold(scores, torch.ones(20, dtype=torch.bool), 0.6)
    assert threshold == pytest.approx(0.5) and (scores >= threshold).all()
    accepted = detection.freeze_threshold(scores, torch.ones(20, dtype=torch.bool), 0.5)
    assert int((scores >= accepted).sum()) == 10


@pytest.mark.parametrize("accept", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 7, 20, 61, 300])
def test_at_least_the_promised_share_is_accepted_and_no_larger_threshold_does(accept, count):
    scores = torch.rand(count, dtype=torch.float64)
    threshold = detection.freeze_threshold(scores, torch.ones(count, dtype=torch.bool), accept)
    assert (scores >= threshold).double().mean() >= accept - 1e-12
    assert (scores > threshold).double().mean() < accept


def test_freezing_needs_a_share_and_a_right_image():
    scores, right = torch.rand(5), torch.ones(5, dtype=torch.bool)
    for accept in (0, 1, 1.5, float("nan")):
        with pytest.raises(UserError, match="between 0 and 1"):
            detection.freeze_threshold(scores, right, accept)
    with pytest.raises(UserError, match="no validation image"):
        detection.freeze_threshold(scores, ~right, 0.95)


def test_the_four_counts_add_up_and_give_the_defence_success():
    scores = torch.tensor([0.9, 0.6, 0.6, 0.59, 0.2, 0.1])
    right = torch.tensor([True, True, False, True, False, False])
    counts = detection.count(scores, right, 0.6)  # a score equal to the threshold is accepted
    assert counts == detection.Counts(2, 1, 1, 2) and counts.total == 6
    assert counts.defence_success == pytest.approx((2 + 2) / 6)
    for threshold in torch.linspace(-0.1, 1.1, 30):
        assert detection.count(scores, right, float(threshold)).total == 6


def test_roc_against_numbers_worked_out_by_hand():
    """Of the six pairs (good, bad) the good one is larger in five: AUC 5/6."""
    good, bad = torch.tensor([0.9, 0.8, 0.4]), torch.tensor([0.5, 0.3])
    curve = detection.roc(good, bad)
    assert curve["auc"] == pytest.approx(5 / 6)
    points = list(zip(curve["false_acceptance"], curve["true_acceptance"], strict=True))
    for point in ((0, 0), (0, 2 / 3), (0.5, 2 / 3), (0.5, 1), (1, 1)):
        assert point in points
    assert detection.roc_point(good, bad, 0.45) == pytest.approx((1 / 2, 2 / 3))
    assert detection.roc_point(good, bad, 0.0) == (1, 1)
    assert detection.roc(bad, good)["auc"] == pytest.approx(1 / 6)
    assert detection.roc(good, good)["auc"] == pytest.approx(0.5)
    assert detection.roc(good, bad[:0])["auc"] is None


def test_histograms_count_every_image_once():
    scores, right = torch.tensor([-1.0, 0.0, 0.49, 0.5, 1.0, 7.0]), torch.arange(6) % 2 == 0
    bins = detection.histogram(scores, right, 0.0, 1.0, bins=2)
    assert [b.tolist() for b in bins] == [[2, 1], [1, 2]]


def network(head):
    return build_network(NetworkConfig(num_classes=3, head=head, depth=4, stages=1, width=4)).eval()


def test_scores_of_a_gaussian_mixture_head():
    model, x = network("gmm"), torch.rand(5, 3, 8, 8)
    assert isinstance(model.head, GaussianMixtureHead)
    posterior, classes = detection.score_images(model, x, batch_size=2)
    likelihood, same = detection.score_images(model, x, "log_likelihood", batch_size=2)
    with torch.no_grad():
        features = model.features(x)
        distances = (features[:, None] - model.head.means[None]).square().sum(2) / 2
        constant = (
            torch.tensor(3.0).log() + features.shape[1] / 2 * torch.tensor(torch.pi * 2).log()
        )
    expected = (-distances).logsumexp(1) - constant
    assert torch.allclose(likelihood, expected, atol=1e-4)
    assert torch.allclose(posterior, (-distances).softmax(1).amax(1), atol=1e-5)
    assert torch.equal(classes, same) and torch.equal(classes, distances.argmin(1))


def test_a_linear_head_has_no_likelihood():
    model = network("linear")
    assert detection.scores_of(model) == ("posterior",)
    with pytest.raises(UserError, match="linear head has no likelihood"):
        detection.score_images(model, torch.rand(2, 3, 8, 8), "log_likelihood")
    with pytest.raises(UserError, match="unknown score 'entropy'"):
        detection.score_images(model, torch.rand(2, 3, 8, 8), "entropy")
