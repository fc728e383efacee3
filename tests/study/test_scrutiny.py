"""Notebook 09's jobs from end to end, its tables, and models in other people's tools."""

import sys

import pytest
import torch
from tiny import TINY, silent
from torch import nn

from ldatlib import load_model
from ldatlib.evaluation import autoattack
from ldatlib.evaluation.robustness import from_bits, predict, share
from ldatlib.files import load_tensors, read_json, write_json
from ldatlib.report import claims, summary, tables
from ldatlib.study.kinds import detector
from ldatlib.study.kinds import scrutiny as scrutiny_kinds
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
    "masking_restarts": 1,
    "masking_queries": 20,
    "adaptive_steps": 4,
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
        for kind in ("whitebox", "detection", "autoattack", "masking", "adaptive")
    }


def others(records):
    pairs = zip(records["masking"], records["adaptive"], strict=True)
    return {mask.defence: [mask, detector] for mask, detector in pairs}


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
    monkeypatch.setattr(autoattack, "_run", lambda *a: ran.append((a[5]["norm"], a[3])))
    try:
        run.records("autoattack", run.trainings()[:1], say=silent)
        assert ran == [(norm, name) for norm in NORMS for name in autoattack.STANDARD]
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_the_worst_case_is_over_everything_image_by_image(records):
    frame = tables.scrutiny(records["whitebox"], records["autoattack"], others(records))
    assert len(frame) == 4
    for index, white in enumerate(records["whitebox"]):
        auto = records["autoattack"][index]
        for norm in ("linf", "l2"):
            everything = [from_bits(c.right)[:10] for k, c in white.attacks.items() if norm in k]
            listed = torch.stack(everything).all(0)
            everything.append(from_bits(auto.norms[norm].right))
            mask, detector = others(records)[white.defence]
            everything += [from_bits(b) for b in mask.norms[norm].right.values()]
            for scores in detector.norms[norm].values():
                everything += [from_bits(entry.right) for entry in scores.values()]
            worst = torch.stack(everything).all(0)
            row = frame[(frame.defence == white.defence) & (frame.norm == norm)].iloc[0]
            assert row.worst_case == pytest.approx(10 * worst.sum().item())
            assert row.table1_worst_case == pytest.approx(10 * listed.sum().item())
            assert row.gap == pytest.approx(row.table1_worst_case - row.worst_case)
            assert row.worst_case <= min(row.autoattack, row.table1_worst_case)
            assert row.strongest >= row.table1_worst_case and row.images == 10 and row.ok
            assert row.worst_case_low <= row.worst_case <= row.worst_case_high
    reading = tables.scrutiny_for_reading(frame)
    assert list(reading.columns)[-2:] == ["worst case of all attacks", "gap"]


def test_the_detector_against_both_kinds_of_attack(records):
    frame = tables.adaptive_rows(records["adaptive"], records["detection"])
    # Two norms; three thresholds of the posterior, two of LDAT's likelihood.
    assert len(frame) == 2 * (3 + 3 + 2)
    assert (frame.adaptive >= frame.ordinary).all()
    assert (frame.union >= frame[["adaptive", "ordinary_all"]].max(axis=1)).all()
    assert (frame.detection_robust + frame.adaptive <= 100).all()
    strict = frame[frame.score == "posterior"].pivot_table(
        index=["defence", "norm"], columns="threshold", values="adaptive"
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
    assert len(shown) == 3 and all(len(frame) for frame in shown.values())
    alarms = shown["Alarms for gradient masking"]
    assert alarms.shape == (4, 3) and set(alarms.tests) == {12}
    assert summary.scrutiny(open_run("demo", TINY_SCRUTINY, tmp_path)) == {}
    table = claims.claims(run).set_index("the paper says")["seen here"]
    assert "linf: LDAT" in table["the same, AutoAttack and notebook 09 included"]
    helps = table["the threshold helps (against an attack that knows it)"]
    assert "l2: wrong without a threshold" in helps and "strongest ordinary attack" in helps


def test_an_attack_on_the_detector_that_falls_behind_is_a_failed_check():
    sets = {"linf_pgd": Scored(score=[0.9, 0.9], right="00"), "l2_pgd": Scored(score=[], right="")}
    weak, strong = {"score": [0.9, 0.1], "right": "00"}, {"score": [0.9, 0.9], "right": "00"}
    assert not detector._at_least_ordinary(weak, 0.5, sets, "linf", 2, "key")["passed"]
    assert detector._at_least_ordinary(strong, 0.5, sets, "linf", 2, "key")["passed"]
    # At the first image alone both find it.
    assert detector._at_least_ordinary(
        {k: v[:1] for k, v in weak.items()}, 0.5, sets, "linf", 1, "key"
    )["passed"]


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
