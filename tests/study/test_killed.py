"""What a killed process had finished is found again: pieces of evaluations, ends of trainings."""

import time

import pytest
import torch
from tiny import TINY, silent

from ldatlib.errors import OutOfTime
from ldatlib.evaluation.gate.entry import heard
from ldatlib.files import load_tensors, read_json
from ldatlib.study import schedule
from ldatlib.study.kinds import KINDS, train
from ldatlib.study.run import open_run

pytestmark = pytest.mark.slow

SMALL = TINY | {
    "epochs": 1,
    "width": 4,
    "defences": ("standard",),
    "eval_images": 12,
    "saved_images": 12,
    "scrutiny_images": 6,
    "masking_restarts": 1,
    "masking_queries": 2,
    "adaptive_steps": 1,
    "scrutiny_norms": ("linf", "l2"),
    "surrogate_depth": 4,
    "surrogate_stages": 1,
    "surrogate_width": 4,
}
# Kind -> pieces that are kept: attacks, points, or the tests of a norm.
PIECES = {
    "whitebox": 10,
    "transfer": 3,
    "sweep_eps": 4,
    "sweep_steps": 4,
    "masking": 2,
    "adaptive": 2,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return open_run("demo", SMALL, tmp_path_factory.mktemp("whole"), jobs=1)


def timeless(value):
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "seconds"}
    return [timeless(v) for v in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("kind", PIECES)
def test_an_evaluation_stopped_after_every_piece_ends_the_same(whole, kind, monkeypatch):
    (training,) = whole.trainings()
    (record,) = whole.records(kind, [training], silent)
    (job,) = whole.jobs_of(kind, [training])
    unbroken = read_json(job.path)
    job.path.unlink()
    monkeypatch.setattr(whole, "deadline", time.time() - 1)
    stops = 0
    while True:
        try:
            with heard(whole.dataset.class_names) as told:
                body = KINDS[kind].compute(whole, training, torch.device("cpu"))
            break
        except OutOfTime:
            stops += 1
    assert stops == PIECES[kind], "every piece is computed once"
    assert timeless(body).items() <= timeless(unbroken).items()
    # Also what was said of the network before attacks that no longer run.
    assert told.record() == unbroken.get("gate", told.record())
    monkeypatch.setattr(whole, "deadline", None)
    whole.records(kind, [training], silent)
    assert not list((whole.root / "partial").glob("*"))


def killed(*_):
    raise KeyboardInterrupt


def test_a_training_killed_before_its_record_is_not_trained_again(tmp_path, monkeypatch):
    run = open_run("demo", SMALL, tmp_path, jobs=1)
    training = run.training("standard")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(schedule, "write_json", killed)
        run.records("train", [training], silent)
    log = run.log_path(training).read_bytes()
    steps = []
    monkeypatch.setattr("ldatlib.training.learner.Learner.step", lambda *_, **__: steps.append(1))
    (record,) = run.records("train", [training], silent)
    assert not steps and run.log_path(training).read_bytes() == log
    assert record.last["epoch"] == 1 and not list(tmp_path.rglob("*.state.safetensors"))


def test_weights_lost_before_the_record_come_from_the_state(tmp_path, monkeypatch):
    run = open_run("demo", SMALL, tmp_path, jobs=1)
    training = run.training("standard")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "load_model", killed)
        run.records("train", [training], silent)
    path = run.checkpoint_path(training)
    first, header = load_tensors(path)
    path.unlink()
    run.records("train", [training], silent)
    again = load_tensors(path)
    assert again[1] == header and all(torch.equal(again[0][k], first[k]) for k in first)


def test_what_a_kill_after_the_record_left_is_removed(tmp_path, monkeypatch):
    run = open_run("demo", SMALL, tmp_path, jobs=1)
    training = run.training("standard")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(schedule, "_tidy", killed)
        run.records("train", [training], silent)
    assert list(tmp_path.rglob("*.state.safetensors"))
    run.records("train", [training], silent)
    assert not list(tmp_path.rglob("*.state.safetensors"))
