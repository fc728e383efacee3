"""Claims: what decides a verdict, and what is not swallowed on the way."""

from types import SimpleNamespace

import pytest
from helpers import detection_record, whitebox

from ldatlib.report import claims
from ldatlib.report.claims import black_box, detector, evidence, table, white_box
from ldatlib.report.claims.evidence import NoRecord, Records, all_hold


def of(ldat, rival, **more):
    """Evidence of two networks, as bits under one attack."""
    found = evidence.Evidence.__new__(evidence.Evidence)
    found.ldat, found.title, found.classes = "ldat", "LDAT", 10
    n = len(ldat)
    found.whitebox = Records(
        ldat=whitebox("1" * n, {"linf_pgd": ldat, "l2_pgd": ldat}),
        standard=whitebox("1" * n, {"linf_pgd": rival, "l2_pgd": rival}, defence="standard"),
    )
    vars(found).update(more)
    return found


def test_a_lead_is_significant_or_no_lead():
    ahead = of("1" * 20, "0" * 20).lead("linf_pgd")
    assert ahead.ahead is True and (ahead.ldat, ahead.rival) == (100, 0)
    assert of("0" * 20, "1" * 20).lead("linf_pgd").ahead is False
    assert of("1" * 10 + "0" * 10, "1" * 9 + "0" * 11).lead("linf_pgd").ahead is None
    assert "best rival" in str(ahead) and "p=1.9e-06" in str(ahead)


def test_best_against_all_needs_every_column():
    held, text = white_box.best_against_all_attacks(of("1" * 20, "0" * 20))
    assert held is True and "in 2 of 2 columns" in text
    assert white_box.best_against_all_attacks(of("0" * 20, "1" * 20))[0] is False


def test_one_verdict_of_several():
    assert all_hold([True, True]) is True and all_hold(iter([True, None])) is None
    assert all_hold([None, False, True]) is False


def test_a_missing_record_is_said_and_a_defect_is_not_swallowed(run, monkeypatch):
    with pytest.raises(NoRecord):
        of("1", "0", surrogates=Records(), labels={}).transferred("natural", "ldat", "clean")
    with pytest.raises(NoRecord):
        black_box.best_in_the_black_box(of("1", "0", surrogates=Records()))
    with pytest.raises(NoRecord):
        detector.spares_natural_images(of("1", "0", detection=Records()))

    def broken(found):
        return found.whitebox["ldat"].attacks["no such attack"]

    broken_claim = claims.Claim("0", "a defect of ours", broken)
    monkeypatch.setattr(table, "CLAIMS", (broken_claim,))
    with pytest.raises(KeyError, match="no such attack"):
        claims.claims(run)


def test_rejection_spares_natural_images_by_its_interval():
    def seen(rejected):
        scores = [0.1] * rejected + [0.9] * (200 - rejected)
        sets = {"val": (scores, "1" * 200), "clean": (scores, "1" * 200)}
        thresholds = {"posterior": {"paper": 0.6, "accept_95": 0.6, "accept_99": 0.6}}
        found = SimpleNamespace(
            ldat="ldat", detection={"ldat": detection_record({"posterior": sets}, thresholds)}
        )
        return detector.spares_natural_images(found)[0]

    assert seen(0) is True and seen(10) is None and seen(60) is False


def test_published_claims_have_a_verdict_of_this_scale(run):
    found = claims.claims(run)
    assert len(found) == len(claims.CLAIMS) == 23
    assert found.verdict.isin(
        [f"{v} at this scale" for v in ("holds", "does not hold", "cannot tell")]
    ).all()
    # LDAT as written is at chance at this scale: nothing holds of it.
    assert not (found["same here?"] == "yes").any()
    varied = claims.claims(run, run.profile.base)
    assert not varied["seen here"].str.contains("needs records").any()
