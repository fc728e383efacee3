"""Notebook 09's jobs from end to end, its tables, and models in other people's tools."""

import sys

import msgspec
import pandas as pd
import pytest
import torch
from tiny import TINY, silent
from torch import nn

from ldatlib import load_model
from ldatlib.evaluation import autoattack, rejection
from ldatlib.evaluation.robustness import from_bits, predict, share
from ldatlib.files import load_tensors, read_json, write_json
from ldatlib.report import claims, figures, summary, tables
from ldatlib.study.kinds import adaptive as adaptive_kind
from ldatlib.study.kinds import scrutiny as scrutiny_kinds
from ldatlib.study.kinds import search as search_kind
from ldatlib.study.records import Scored, content, read
from ldatlib.study.run import open_run

pytestmark = pytest.mark.slow

NORMS = ("linf", "l2")
TINY_SCRUTINY = TINY | {
    "epochs": 5,
    # Little is left there: the queries of Square are what takes time.
    "eps_l2": 2.5,
    "scrutiny_images": 10,
    "scrutiny_norms": NORMS,
    "autoattack_norms": NORMS,
    "masking_restarts": 1,
    "masking_queries": 20,
    "adaptive_steps": 4,
    "search_steps": 5,
    "search_restarts": 3,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = open_run("demo", TINY_SCRUTINY, tmp_path_factory.mktemp("scrutiny"), jobs=1)
    run.compute("09", say=silent)
    return run


@pytest.fixture(scope="module")
def records(run):
    trainings = run.trainings()
    return {
        kind: run.records(kind, trainings, say=silent)
        for kind in ("whitebox", "detection", "search", "autoattack", "masking", "adaptive")
    }


def others(records):
    found = zip(records["search"], records["masking"], records["adaptive"], strict=True)
    return {several[0].defence: list(several) for several in found}


def test_everything_planned_is_there(run, records):
    plan = run.plan("09")
    assert plan and all(job.done for job in plan)
    assert {job.kind for job in plan} == {"train", *records}
    for job in plan:
        assert job.operations > 0
    for kind in ("autoattack", "masking", "adaptive"):
        for record in records[kind]:
            assert record.ok and record.self_checks and record.images == 10
            assert set(record.norms) == {"linf", "l2"}
    for record in records["search"]:
        # Every image of Table 1, not the first ten.
        assert record.ok and record.images == 20 and set(record.norms) == {"linf", "l2"}


@pytest.mark.parametrize("kind", ["autoattack", "masking", "adaptive"])
def test_no_image_is_scrutinised_that_table_1_has_not(kind, tmp_path):
    """Its numbers stand beside Table 1's, image by image."""
    few = open_run("demo", TINY_SCRUTINY | {"scrutiny_images": 20}, tmp_path, jobs=1)
    many = open_run("demo", TINY_SCRUTINY | {"scrutiny_images": 60}, tmp_path, jobs=1)
    assert few.profile.eval_images == 20
    (job,), (same,) = (r.jobs_of(kind, [r.training("ldat")]) for r in (few, many))
    assert job.path == same.path and job.operations == same.operations
    assert scrutiny_kinds.images_of(many) == 20


def test_a_second_run_computes_nothing(run, monkeypatch):
    monkeypatch.setattr("ldatlib.study.schedule.work", lambda *_: pytest.fail("computed again"))
    open_run("demo", TINY_SCRUTINY, run.root, jobs=1).compute("09", say=silent)


def test_saved_images_give_the_recorded_numbers(run, records):
    x, y = run.test_images(10, torch.device("cpu"))
    for training, record in zip(run.trainings(), records["autoattack"], strict=True):
        for norm, found in record.norms.items():
            path = scrutiny_kinds.AUTOATTACK.images_path(run, training, norm)
            saved = load_tensors(path)[0]["x_adv"]
            right = predict(run.model(training), saved) == y
            assert torch.equal(right, from_bits(found.right))
            assert content(found.robust_accuracy) == share(right)


def test_an_interrupted_job_goes_on(run, monkeypatch):
    """The record is gone, the state is not: no attack runs twice."""
    (job,) = run.jobs_of("autoattack", run.trainings()[:1])
    before = read(job.path)
    kept = {path: path.read_bytes() for path in (job.path, *job.products)}
    job.path.unlink()
    monkeypatch.setattr(autoattack, "_run", lambda *_: pytest.fail("attacked again"))
    (again,) = run.records("autoattack", run.trainings()[:1], say=silent)
    assert again.norms == before.norms
    # Forgotten on demand, it must not stand in for the attacks.
    run.forget(job)
    assert not job.path.exists() and not any(path.exists() for path in job.products)
    ran = []
    monkeypatch.setattr(autoattack, "_run", lambda *a: ran.append((a[5]["norm"], a[3])) or [])
    try:
        run.records("autoattack", run.trainings()[:1], say=silent)
        assert ran == [(norm, name) for norm in NORMS for name in autoattack.STANDARD]
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_the_search_says_what_each_restart_found(run, records):
    x, y = run.test_images(20, torch.device("cpu"))
    for training, white, record in zip(
        run.trainings(), records["whitebox"], records["search"], strict=True
    ):
        saved = load_tensors(search_kind.SEARCH.images_path(run, training))[0]
        for norm, found in record.norms.items():
            columns = [from_bits(c.right) for k, c in white.attacks.items() if k.startswith(norm)]
            before, after = torch.stack(columns).all(0), from_bits(found.right)
            assert content(found.reported) == share(before)
            assert content(found.robust_accuracy) == share(after)
            # Only what was right is attacked, and what fell is saved.
            rows = (before & ~after).nonzero().squeeze(1)
            assert torch.equal(saved[f"{norm}_rows"], rows) and not (after & ~before).any()
            assert len(found.restarts) == 3 and sum(found.restarts) == len(rows)
            assert found.converged is (found.restarts[-1] == 0)
            if len(rows):
                assert (predict(run.model(training), saved[norm]) != y[rows]).all()
            line = search_kind.SEARCH.line(record, training)
            assert ("not converged" in line) is not all(n.converged for n in record.norms.values())


def test_the_worst_case_is_over_everything_image_by_image(records):
    frame = tables.scrutiny(records["whitebox"], records["autoattack"], others(records))
    assert len(frame) == 4
    for index, white in enumerate(records["whitebox"]):
        auto = records["autoattack"][index]
        for norm in ("linf", "l2"):
            listed = torch.stack(
                [from_bits(c.right) for k, c in white.attacks.items() if k.startswith(norm)]
            ).all(0)
            search, mask, detector = others(records)[white.defence]
            searched = listed & from_bits(search.norms[norm].right)
            # On the first ten images much more was run.
            more = [auto.norms[norm].right, *mask.norms[norm].right.values()]
            for scores in detector.norms[norm].values():
                more += [entry.right for entry in scores.values()]
            for score, entry in detector.highest[norm].items():
                more += [entry.right, *(e.right for e in detector.lowest[norm][score].values())]
            worst = searched.clone()
            worst[:10] &= torch.stack([from_bits(bits) for bits in more]).all(0)
            row = frame[(frame.defence == white.defence) & (frame.norm == norm)].iloc[0]
            assert row.table1_worst_case == pytest.approx(5 * listed.sum().item())
            assert row.search == pytest.approx(5 * searched.sum().item())
            assert row.worst_case == pytest.approx(5 * worst.sum().item())
            assert row.worst_case_there == pytest.approx(10 * worst[:10].sum().item())
            assert row.gap == pytest.approx(row.table1_worst_case - row.worst_case)
            taken = share(listed & ~worst)
            assert row.overstated == (taken["low"] > 0.01)
            assert row.worst_case <= row.search <= row.table1_worst_case <= row.strongest
            assert row.worst_case_there <= row.autoattack
            assert (row.images, row.scrutinised) == (20, 10) and row.ok
            assert row.worst_case_low <= row.worst_case <= row.worst_case_high
    reading = tables.scrutiny_for_reading(frame)
    assert list(reading.columns)[3:5] == ["worst case of all attacks", "gap"]
    assert list(reading.columns)[-1] == "worst case of all attacks, first 10"


def test_without_search_or_autoattack_columns_are_empty(records):
    auto = [
        msgspec.structs.replace(record, norms={"l2": record.norms["l2"]})
        for record in records["autoattack"]
    ]
    frame = tables.scrutiny(records["whitebox"], auto, {})
    assert frame.search.isna().all() and frame[frame.norm == "linf"].autoattack.isna().all()
    assert frame[frame.norm == "l2"].autoattack.notna().all()
    shown = tables.scrutiny_for_reading(frame)
    assert (shown["worst case with the search"] == "").all()
    assert len(figures.scrutiny(frame).axes) == 2


def test_the_detector_against_both_kinds_of_attack(records):
    frame = tables.adaptive_rows(records["adaptive"], records["detection"])
    # Two norms; three thresholds of the posterior, two of LDAT's likelihood.
    assert len(frame) == 2 * (3 + 3 + 2)
    # What an ordinary attack gets is the adaptive one's, too.
    assert (frame.adaptive >= frame.ordinary_all).all()
    assert (frame.union == frame.adaptive).all()
    assert (frame.detection_robust + frame.union <= 100).all()
    strict = frame[frame.score == "posterior"].pivot_table(
        index=["defence", "norm"], columns="threshold", values="union"
    )
    # A stricter threshold never lets more through.
    cuts = frame[frame.score == "posterior"].pivot_table(
        index=["defence", "norm"], columns="threshold", values="cut"
    )
    for row in strict.index:
        ordered = cuts.loc[row].sort_values().index
        assert strict.loc[row][ordered].is_monotonic_decreasing
    shown = tables.adaptive_for_reading(frame)
    assert len(shown) == len(frame)


def test_rejection_over_all_thresholds(records):
    frame = tables.rejection_rows(records["adaptive"], records["detection"])
    # Two norms of the posterior of both networks, and of LDAT's likelihood.
    assert len(frame) == 2 * 3 * len(rejection.ACCEPTANCES)
    assert (frame.robust_0 >= frame["robust_0.25"]).all()
    assert (frame["robust_0.25"] >= frame["robust_0.5"]).all()
    assert (frame["robust_0.5"] >= frame.robust_1).all()
    for _, points in frame.groupby(["defence", "norm", "score"]):
        # Accepting everything is no detector: plain accuracy under all that was found.
        assert points.clean_acceptance.is_monotonic_increasing
        assert points.clean_acceptance.iloc[-1] == 100 and pd.isna(points.threshold.iloc[-1])
    union = tables.adaptive_rows(records["adaptive"], records["detection"]).iloc[0]
    same = frame[(frame.defence == union.defence) & (frame.norm == union.norm)]
    same = same[(same.score == "posterior") & (same.acceptance == 0.95)].iloc[0]
    if union.threshold == "95% frozen":
        assert same.robust_0 == pytest.approx(union.detection_robust)
    shown = tables.rejection_for_reading(frame)
    assert len(shown) == len(frame)
    assert len(figures.rejection(frame).axes) == 2 * 4


def test_a_failed_check_turns_record_table_and_report_red(run, records):
    (job,) = run.jobs_of("adaptive", run.trainings()[:1])
    good = job.path.read_text()
    found = read_json(job.path)
    found["self_checks"][0]["passed"], found["ok"] = False, False
    try:
        write_json(job.path, found)
        record = read(job.path)
        failed = summary.self_checks(run)
        assert failed.check.tolist() == [record.self_checks[0].name]
        red = {record.defence: [record]}
        frame = tables.scrutiny(records["whitebox"][:1], records["autoattack"][:1], red)
        shown = tables.scrutiny_for_reading(frame)
        assert shown.index[0][0].endswith("(SELF-CHECK FAILED)")
    finally:
        job.path.write_text(good)
    assert summary.self_checks(run).empty


def test_report_and_claims_use_what_there_is(run, tmp_path):
    shown = summary.scrutiny(run)
    assert len(shown) == 4 and all(len(frame) for frame in shown.values())
    alarms = shown["Alarms for gradient masking"]
    assert alarms.shape == (4, 3) and set(alarms.tests) == {13}
    assert summary.scrutiny(open_run("demo", TINY_SCRUTINY, tmp_path)) == {}
    table = claims.claims(run).set_index("claim, in our words")["seen here"]
    assert "L-inf: LDAT" in table["(ours) the best robustness, AutoAttack and notebook 09 included"]
    helps = table["(ours) the threshold helps (against an attack that knows it)"]
    assert "robust accuracy, of 10 images, L-inf: with rejection" in helps and "L2: with" in helps


def test_an_image_that_an_ordinary_attack_gets_and_the_adaptive_does_not_is_a_failed_check():
    sets = {"linf_pgd": Scored(score=[0.9, 0.2], right="00"), "l2_pgd": Scored(score=[], right="")}

    def passed(scores, right, cut=0.5, count=2):
        entry = {"cut": cut, "score": scores[:count], "right": right[:count]}
        return adaptive_kind._none_left(entry, sets, "linf", "key")["passed"]

    # As many as the ordinary attack, but others.
    assert not passed([0.1, 0.9], "00") and not passed([0.9, 0.9], "10")
    assert passed([0.9, 0.1], "00") and passed([0.6, 0.9], "00")
    # At the second image alone neither finds one.
    sets["linf_pgd"] = Scored(score=[0.2, 0.9], right="00")
    assert not passed([0.1, 0.1], "00") and passed([0.1, 0.1], "00", count=1)


def test_square_finding_more_is_a_warning():
    def record(white, square):
        attacks = {"apgd-ce": {"right": white}, "square": {"right": square}}
        return {"clean_right": "1" * 20, "attacks": attacks}

    assert not scrutiny_kinds._black_box(record("1" * 12 + "0" * 8, "1" * 11 + "0" * 9))["alarm"]
    found = scrutiny_kinds._black_box(record("1" * 12 + "0" * 8, "1" * 4 + "0" * 16))
    assert found["alarm"] and found["found"]["value"] == 0.4


# Other people's tools


def test_a_checkpoint_is_a_plain_module_for_foolbox_and_autoattack(run):
    import foolbox
    from pyautoattack import AutoAttack

    training = run.trainings()[0]
    model = load_model(run.checkpoint_path(training))
    x, y = run.test_images(8, torch.device("cpu"))
    assert isinstance(model, nn.Module) and not model.training
    assert model(x).shape == (8, 10)

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    assert foolbox.accuracy(wrapped, x, y) == (predict(model, x) == y).float().mean().item()
    _, found, success = foolbox.attacks.LinfPGD(steps=5)(wrapped, x, y, epsilons=[0.2])
    assert torch.equal(success[0], predict(model, found[0]) != y)

    with torch.random.fork_rng():
        package = AutoAttack(
            model, norm="Linf", eps=0.2, version="custom", attacks=["apgd-ce"], seed=0
        )
        x_adv, _ = package.run_standard_evaluation(x, y, batch_size=8)
    ours = autoattack.standard(model, x, y, eps=0.2, norm="linf", attacks=["apgd-ce"], batch_size=8)
    assert torch.equal(predict(model, x_adv) == y, ours.right)
    assert "robustbench" not in sys.modules
