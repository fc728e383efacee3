"""What the records of the detector say."""

import pytest
from helpers import detection_record, record, synthetic_record, whitebox

from ldatlib import UserError
from ldatlib.evaluation import detection
from ldatlib.evaluation.robustness import wilson_interval
from ldatlib.report import detector, tables

THRESHOLDS = {"posterior": {"paper": 0.5, "accept_95": 0.5, "accept_99": 0.5}}


def test_roc_groups_leave_out_images_that_were_wrong_before():
    record = synthetic_record()
    clean, clean_right = detector.scored(record, "posterior", "clean")
    values, right = detector.scored(record, "posterior", "l2_cw")
    good, bad = detector.groups(record, "posterior", "l2_cw")
    assert len(good) == int(clean_right.sum()) == 38
    assert bad.tolist() == [
        v for v, now, before in zip(values, right, clean_right, strict=True) if before and not now
    ]
    good, bad = detector.groups(record, "posterior", "val")
    assert (len(good), len(bad)) == (36, 4)


def test_outcomes_of_a_record():
    record = synthetic_record()
    found = detector.outcomes(record, "posterior", 0.6)
    assert list(found) == ["clean", "linf_pgd", "l2_cw"]
    for name in ("clean", "linf_pgd", "l2_cw"):
        values, right = detector.scored(record, "posterior", name)
        assert found[name].counts.accepted_wrong == int(((values >= 0.6) & ~right).sum())
        assert found[name].rejection.value == pytest.approx(float((values < 0.6).double().mean()))
        success = detection.count(values, right, 0.6).defence_success
        assert found[name].defence_success.value == pytest.approx(success)
    # One attack a norm: its worst case is that attack.
    worst = detector.missed_at_worst(record, "posterior", 0.6)
    assert list(worst) == ["linf", "l2"]
    assert worst["linf"] == found["linf_pgd"].robust_error_under_rejection
    accepted = detector.outcomes(record, "posterior", None)["l2_cw"]
    assert accepted.counts.rejected_right == accepted.counts.rejected_wrong == 0
    assert accepted.rejection.value == 0


def test_the_worst_case_is_taken_image_by_image():
    sure = ([0.9] * 4, "1111")
    sets = {"val": sure, "clean": sure}
    sets["linf_pgd"] = ([0.9, 0.1, 0.9, 0.9], "0011")
    sets["linf_fab"] = ([0.1, 0.9, 0.9, 0.9], "0011")
    record = detection_record({"posterior": sets}, THRESHOLDS)
    found = detector.outcomes(record, "posterior", 0.5)
    for name in ("linf_pgd", "linf_fab"):
        assert found[name].robust_error_under_rejection.value == 0.25
    assert detector.missed_at_worst(record, "posterior", 0.5)["linf"].value == 0.5


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
        detector.outcomes(synthetic_record(), score, threshold)
    assert "\n" not in str(refusal.value)


def test_other_records_are_refused():
    with pytest.raises(UserError, match="a detection record is needed, not whitebox"):
        detector.scored(whitebox("1", {}), "posterior", "val")
    with pytest.raises(UserError, match="linear head has no likelihood"):
        detector.outcomes(synthetic_record(likelihood=False), "log_likelihood", -3.0)
    with pytest.raises(UserError, match="no images 'l2_fab' in this record; known: val"):
        detector.scored(synthetic_record(), "posterior", "l2_fab")


def test_the_last_stored_threshold_is_shown():
    frozen = detector.recorded_choice(synthetic_record())
    assert frozen.threshold == 0.58 and frozen.attack == "linf_pgd"
    entry = {"threshold": 0.7, "score": "posterior", "attack": "l2_cw", "split": "test"}
    entry |= {"defence": "ldat", "time": "2024-01-01T00:00:00+00:00"}
    chosen = detector.recorded_choice(synthetic_record(exploratory=[entry]))
    assert chosen.threshold == 0.7 and "exploratory" in chosen.source


def test_rows_of_a_table_are_the_outcomes_and_then_the_worst_cases():
    record = synthetic_record()
    rows = tables.outcome_rows(record, "posterior")
    assert [row["set"] for row in rows[:5]] == [
        *("clean", "linf_pgd", "l2_cw"),
        *("linf_worst_case", "l2_worst_case"),
    ]
    at_paper = [row for row in rows if row["threshold"] == "0.6 (paper)"]
    found = detector.outcomes(record, "posterior", 0.6)["l2_cw"]
    assert at_paper[2]["defence_success"] == pytest.approx(100 * found.defence_success.value)
    assert at_paper[2]["accepted_wrong"] == found.counts.accepted_wrong
    assert "auc" not in at_paper[3] and at_paper[3]["robust_error_under_rejection_high"] > 0


def test_one_threshold_by_hand():
    """Four images; clean all right and accepted; the ordinary attack misses 1, the adaptive 2."""
    sets = {
        "val": ([0.9] * 4, "1111"),
        "clean": ([0.9, 0.9, 0.9, 0.4], "1111"),
        "l2_pgd": ([0.9, 0.1, 0.9, 0.9], "0011"),
        "l2_fab": ([0.2, 0.2, 0.9, 0.9], "0011"),
    }
    seen = detection_record({"posterior": sets}, THRESHOLDS)
    own = {"cut": 0.5, "score": [0.3, 0.8, 0.7, 0.9], "right": "0001"}
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0, "count": 4}
    adaptive = record(
        "adaptive",
        norms={"l2": {"posterior": {"paper": own}}},
        half_budget={"l2": {"eps": 0.1, "robust_accuracy": nothing}},
        images=4,
        adversarial="images",
        self_checks=[],
        ok=True,
    )
    row = tables.adaptive_rows([adaptive], [seen]).iloc[0]
    assert (row.strongest_ordinary, row.ordinary, row.ordinary_all) == ("l2_pgd", 25, 25)
    assert (row.adaptive, row.union, row.clean_rejection) == (50, 75, 25)
    # Accepted and right when clean: the first three, each of which is missed by one or the other.
    assert row.detection_robust == 0 and row.consistent
    # Rejected and wrong (first), accepted and right (last).
    assert row.adaptive_defence_success == 50 and row.ordinary_defence_success == 75
    # An AUC under attack needs images of the highest score, which this record has not.
    assert row.adaptive_auc is None


def test_under_attack_the_highest_scores_count_and_the_best_network_is_the_measure():
    sets = {
        "val": ([0.9] * 4, "1111"),
        "clean": ([0.9, 0.8, 0.7, 0.6], "1111"),
        "l2_pgd": ([0.9, 0.1, 0.9, 0.9], "1111"),
    }
    own = {"cut": 0.5, "score": [0.9, 0.8, 0.7, 0.6], "right": "1111"}
    highest = {"score": [0.9, 0.55, 0.7, 0.6], "right": "1011", "auc": 0.75}
    lowest = {"score": [0.9, 0.55, 0.4, 0.6], "right": "1011"}

    def network(defence, half):
        low, high = wilson_interval(round(4 * half), 4)
        share = {"value": half, "low": low, "high": high, "count": 4}
        return record(
            "adaptive",
            defence=defence,
            norms={"l2": {"posterior": {"paper": own}}},
            highest={"l2": {"posterior": highest}},
            lowest={"l2": {"posterior": {"0.5": lowest}}},
            half_budget={"l2": {"eps": 0.1, "robust_accuracy": share}},
            images=4,
            adversarial="images",
            self_checks=[],
            ok=True,
        )

    seen = detection_record({"posterior": sets}, THRESHOLDS)
    weak, strong = network("ldat", 0.0), network("standard", 0.75)
    row = tables.adaptive_rows([weak], [seen]).iloc[0]
    # The second image is missed, though the attack on the threshold did not get it.
    assert (row.adaptive, row.union, row.detection_robust, row.adaptive_auc) == (25, 25, 75, 0.75)
    # 75% [30, 95] is not above 0% [0, 49]: no hint; nor beside a network that keeps 75%.
    assert row.consistent and tables.adaptive_rows([weak, strong], [seen] * 2).consistent.all()
    frame = tables.rejection_rows([weak], [seen])
    at = frame[frame.acceptance == 0.95].iloc[0]
    # All of validation scores 0.9: of the four clean images one is accepted, and not missed.
    assert (at.threshold, at.clean_acceptance, at.robust_0, at["robust_0.5"]) == (0.9, 25, 25, 25)
    whole = frame[frame.acceptance == 1].iloc[0]
    assert (whole.clean_acceptance, whole.robust_0, whole["robust_0.5"]) == (100, 75, 75)
    assert whole.error == 25
