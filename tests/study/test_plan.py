"""The order of jobs: each after what it is made from, the longest chain first, nobody idle."""

import os
import time
from dataclasses import replace

import pytest
from tiny import TINY

from ldatlib import UserError
from ldatlib.evaluation.side_by_side import spread
from ldatlib.study import notebooks, pool
from ldatlib.study.jobs import Plan, with_needs
from ldatlib.study.kinds import KINDS
from ldatlib.study.run import open_run


@pytest.fixture
def run(tmp_path):
    return open_run("demo", TINY | {"defences": ("natural", "standard", "ldat")}, tmp_path, jobs=2)


def test_every_job_comes_after_what_it_is_made_from(run):
    plan = Plan(run, reversed(notebooks.everything(run)))
    before = set()
    for job in plan.jobs:
        for kind, training in KINDS[job.kind].needs(run, job.training):
            assert KINDS[kind].path(run, training) in before
        assert set(plan.needs[job.path]) <= before
        before.add(job.path)
    assert len(before) == len(plan.jobs) == len(notebooks.everything(run))


def test_a_job_is_as_urgent_as_its_longest_chain(run):
    training = run.training("ldat")
    plan = Plan(run, with_needs(run, "adaptive", [training]))
    jobs = {job.kind: job for job in plan.jobs}
    assert [job.kind for job in plan.jobs] == ["train", "whitebox", "detection", "adaptive"]
    whole = sum(job.operations for job in plan.jobs)
    assert plan.chains[jobs["train"].path] == pytest.approx(whole)
    assert plan.chains[jobs["adaptive"].path] == jobs["adaptive"].operations
    assert plan.longest_chain() == plan.jobs


def test_what_is_there_already_is_waited_for_by_nobody(run):
    trainings = [run.training("natural"), run.training("ldat")]
    jobs = [job for job in with_needs(run, "basic", trainings) if job.kind != "train"]
    assert [job.path for job in Plan(run, jobs).ready([], [])] == [
        job.path for job in sorted(jobs, key=lambda job: -job.operations)
    ]


def noted(ws, job, threads):
    """In place of the work: when it began and ended; one training takes until the others' end."""
    began = time.time()
    until = time.monotonic() + 60
    while job.name == "train ldat-s0" and len(list(ws.root.glob("*-s0.txt"))) < 4:
        assert time.monotonic() < until, "nobody does the others"
        time.sleep(0.01)
    note = ws.root / f"{job.name}.txt"
    note.write_text(f"{began} {time.time()} {threads}")
    return "stopped" if job.name == "basic natural-s0" else None


def test_an_evaluation_waits_for_its_own_training_alone(run):
    trainings = [run.training(name) for name in ("natural", "standard", "ldat")]
    run.root.mkdir(exist_ok=True)
    plan = Plan(run, with_needs(run, "basic", trainings))
    said = {job.name: reason for job, reason in pool.execute(noted, run, plan, 2)}
    assert len(said) == 6 and said.pop("basic natural-s0") == "stopped"
    assert not any(said.values())
    began, ended = {}, {}
    for job in plan.jobs:
        words = (run.root / f"{job.name}.txt").read_text().split()
        began[job.name], ended[job.name], threads = *map(float, words[:2]), words[2]
        assert threads == "1"
    for name in ("natural-s0", "standard-s0", "ldat-s0"):
        assert began[f"basic {name}"] >= ended[f"train {name}"]
    for name in ("natural-s0", "standard-s0"):
        assert ended[f"basic {name}"] < ended["train ldat-s0"]


def failing(ws, job, threads):
    if job.name == "train natural-s0":
        raise UserError("the reason")
    time.sleep(0.05)


def test_the_first_error_ends_the_others(run):
    plan = Plan(run, with_needs(run, "basic", [run.training("natural"), run.training("ldat")]))
    with pytest.raises(UserError, match="^the reason$"):
        list(pool.execute(failing, run, plan, 2))


def test_processes_of_jobs_and_of_attacks_follow_each_other(run, monkeypatch):
    """A run's jobs, then attacks on several processes, as a notebook does that examines a model
    after its run; neither finds the other's processes in its way."""
    monkeypatch.setattr("joblib.executor._executor_args", None)
    for again in range(2):
        ended = list(pool.execute(placed, run, Plan(run, run.jobs_of("train", run.trainings())), 2))
        assert len(ended) == 3
        assert spread(pow, [(2, again), (3, 2)], 2) == [2**again, 9]


def test_other_images_on_the_way_are_noticed(run):
    (job,) = run.jobs_of("train", [run.training("natural")])
    packed = pool.pack(run, job)
    ws, same = pool.unpack(packed)
    assert same == job and ws.dataset.fingerprint == run.dataset.fingerprint
    assert pool.unpack(packed)[0].dataset is ws.dataset
    # The images lie here as they were, and there are others now.
    run.profile = replace(run.profile, val_size=61)
    pool._KEPT.clear()
    with pytest.raises(UserError, match="other images in scikit-learn digits"):
        pool.unpack(pool.pack(run, job))


def placed(ws, job, threads):
    """In place of the work: the card that this process sees, when there are two of them."""
    (ws.root / f"{os.getpid()}.pid").touch()
    until = time.monotonic() + 60
    while len(list(ws.root.glob("*.pid"))) < 2:
        assert time.monotonic() < until, "there is one process alone"
        time.sleep(0.01)
    return f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}"


def test_each_process_has_a_card_of_its_own(run, monkeypatch):
    """Of three cards that are not there, named as a batch system does."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-a")
    assert pool.visible_devices() == ["4", "5", "GPU-a"]
    plan = Plan(run, run.jobs_of("train", run.trainings()))
    said = {reason for _, reason in pool.execute(placed, run, plan, 2)}
    assert sorted(line.split()[1] for line in said) == ["4", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert pool.visible_devices() == ["0", "1", "2"]
    monkeypatch.setenv("LDAT_DEVICE", "cuda:1")
    assert pool.visible_devices() == []


def test_more_processes_than_cards_take_them_in_turn(tmp_path, monkeypatch):
    seen = []
    for _ in range(5):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        pool.take_device(str(tmp_path), ["a", "b"])
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["a", "b", "a", "b", "a"]
