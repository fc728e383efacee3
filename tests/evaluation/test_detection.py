import pytest
import torch
from helpers import synthetic_record

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
    record = detection.summary(counts)
    assert record["defence_success"]["value"] == pytest.approx(4 / 6)
    assert record["robust_error_under_rejection"]["value"] == pytest.approx(1 / 6)
    assert record["defence_success"]["count"] == 6
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


def test_roc_groups_leave_out_images_that_were_wrong_before():
    record = synthetic_record()
    clean, clean_right = detection.scored(record, "posterior", "clean")
    values, right = detection.scored(record, "posterior", "l2_cw")
    good, bad = detection.groups(record, "posterior", "l2_cw")
    assert len(good) == int(clean_right.sum()) == 38
    assert bad.tolist() == [
        v for v, now, before in zip(values, right, clean_right, strict=True) if before and not now
    ]
    good, bad = detection.groups(record, "posterior", "val")
    assert (len(good), len(bad)) == (36, 4)


def test_histograms_count_every_image_once():
    scores, right = torch.tensor([-1.0, 0.0, 0.49, 0.5, 1.0, 7.0]), torch.arange(6) % 2 == 0
    bins = detection.histogram(scores, right, 0.0, 1.0, bins=2)
    assert [b.tolist() for b in bins] == [[2, 1], [1, 2]]


def test_outcomes_of_a_record():
    record = synthetic_record()
    found = detection.outcomes(record, "posterior", 0.6)
    assert list(found) == ["clean", "linf_pgd", "l2_cw", "linf", "l2"]
    for name in ("clean", "linf_pgd", "l2_cw"):
        values, right = detection.scored(record, "posterior", name)
        assert found[name]["accepted_wrong"] == int(((values >= 0.6) & ~right).sum())
        assert found[name]["rejection"]["value"] == pytest.approx(
            float((values < 0.6).double().mean())
        )
    # One attack a norm: its worst case is that attack.
    assert found["linf"] == {
        "robust_error_under_rejection": found["linf_pgd"]["robust_error_under_rejection"]
    }
    accepted = detection.outcomes(record, "posterior", None)["l2_cw"]
    assert accepted["rejected_right"] == accepted["rejected_wrong"] == 0
    assert accepted["rejection"]["value"] == 0


def test_the_worst_case_is_taken_image_by_image():
    record = synthetic_record(likelihood=False, images=4)
    sets = record["scores"]["posterior"]["sets"]
    sets["linf_pgd"] = {"score": [0.9, 0.1, 0.9, 0.9], "right": "0011"}
    sets["linf_fab"] = {"score": [0.1, 0.9, 0.9, 0.9], "right": "0011"}
    found = detection.outcomes(record, "posterior", 0.5)
    for name in ("linf_pgd", "linf_fab"):
        assert found[name]["robust_error_under_rejection"]["value"] == 0.25
    assert found["linf"]["robust_error_under_rejection"]["value"] == 0.5


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
    record = synthetic_record(likelihood=False)
    with pytest.raises(UserError, match="linear head has no likelihood"):
        detection.outcomes(record, "log_likelihood", -3.0)


@pytest.mark.parametrize(
    ("score", "threshold"),
    [
        ("posterior", 1.2),
        ("posterior", -0.1),
        ("posterior", float("nan")),
        ("log_likelihood", -200.0),
        ("log_likelihood", float("inf")),
    ],
)
def test_a_threshold_outside_the_range_is_refused(score, threshold):
    with pytest.raises(UserError, match="lies between") as refusal:
        detection.outcomes(synthetic_record(), score, threshold)
    assert "\n" not in str(refusal.value)


def test_other_records_are_refused():
    with pytest.raises(UserError, match="a detection record is needed, not train"):
        detection.scored({"kind": "train"}, "posterior", "val")
    with pytest.raises(UserError, match="no images 'l2_fab' in this record; known: val"):
        detection.scored(synthetic_record(), "posterior", "l2_fab")


def test_the_last_stored_threshold_is_shown():
    record = synthetic_record()
    assert detection.recorded_choice(record)["threshold"] == 0.58
    assert detection.recorded_choice(record)["attack"] == "linf_pgd"
    entry = {"threshold": 0.7, "score": "posterior", "attack": "l2_cw", "split": "test"}
    chosen = detection.recorded_choice({**record, "exploratory": [entry]})
    assert chosen["threshold"] == 0.7 and "exploratory" in chosen["source"]
