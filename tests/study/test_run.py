import json

import pytest
import torch
from tiny import TINY, silent

from ldatlib import UserError
from ldatlib.study import keys, schedule
from ldatlib.study.kinds import operations, white_box
from ldatlib.study.run import open_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = open_run("demo", TINY, tmp_path_factory.mktemp("run"), jobs=1)
    run.records("whitebox", run.trainings(), say=silent)
    return run


def test_a_second_run_computes_nothing(finished, monkeypatch):
    monkeypatch.setattr(schedule, "work", lambda *_: pytest.fail("computed again"))
    again = open_run("demo", TINY, finished.root, jobs=1)
    first = finished.records("whitebox", finished.trainings(), say=silent)
    assert again.records("whitebox", again.trainings(), say=silent) == first


def test_only_what_is_missing_is_computed(finished, monkeypatch, tmp_path):
    computed = []
    work = schedule.work
    monkeypatch.setattr(
        schedule,
        "work",
        lambda run, job, threads: (computed.append(job.path), work(run, job, threads))[1],
    )
    trainings = finished.trainings()
    path = finished.jobs_of("whitebox", trainings)[1].path
    content = json.loads(path.read_text())
    path.unlink()
    finished.records("whitebox", trainings, say=silent)
    assert computed == [path]
    again = json.loads(path.read_text())
    for column, first in content["attacks"].items():
        assert again["attacks"][column]["right"] == first["right"]


def test_keys_follow_configuration_data_and_numerics(finished, monkeypatch):
    def key(overrides):
        run = open_run("demo", {**TINY, **overrides}, finished.root, jobs=1)
        return run.training_key(run.training("ldat"))

    same = key({})
    assert same == finished.training_key(finished.training("ldat"))
    changed = {key({"lr": 0.05}), key({"lambda_init": 0.1}), key({"val_size": 61})}
    # The evaluation's settings are no part of a training's key.
    assert same not in changed and len(changed) == 3 and key({"eval_images": 11}) == same
    monkeypatch.setitem(keys.NUMERICS, "train", keys.NUMERICS["train"] + 1)
    assert key({}) != same


def test_seeds_and_switches_are_trainings_of_their_own(finished):
    paths = {
        finished.checkpoint_path(training)
        for training in (
            finished.training("ldat"),
            finished.training("ldat", seed=1),
            finished.training("ldat", lambda_schedule="decay"),
            finished.training("ldat", view="plane"),
            finished.training("standard"),
        )
    }
    assert len(paths) == 5
    three = open_run("demo", {**TINY, "seeds": 3}, finished.root)
    assert [training.label for training in three.trainings(["ldat"])] == [
        "ldat-s0",
        "ldat-s1",
        "ldat-s2",
    ]


def test_records_carry_their_provenance(finished):
    record = finished.records("whitebox", finished.trainings(), say=silent)[1]
    source = record.provenance
    assert source.libraries["torch"] == torch.__version__.partition("+")[0]
    assert source.device and source.python
    assert record.fingerprint == finished.dataset.fingerprint
    assert record.dataset == "scikit-learn digits (8x8)"
    assert record.config["defence"]["name"] == "ldat" and record.config["seed"] == 0
    assert record.settings["images"] == 20 and record.ok
    rescored = [c for c in record.self_checks if "re-score" in c.name]
    assert len(rescored) == len(record.attacks) == 10


def test_a_saved_image_that_was_tampered_with_fails_its_check(finished, monkeypatch):
    load = white_box.load_tensors

    def tampered(path):
        tensors, header = load(path)
        return {k: torch.rand_like(v) if k == "l2_pgd" else v for k, v in tensors.items()}, header

    monkeypatch.setattr(white_box, "load_tensors", tampered)
    training = finished.training("standard")
    body = white_box.WHITE_BOX.compute(finished, training, torch.device("cpu"))
    failed = [c["name"] for c in body["self_checks"] if not c["passed"]]
    assert failed == ["l2_pgd: the saved images re-score to the reported number"]
    assert not body["ok"]


def test_models_come_back_as_they_were_trained(finished):
    training = finished.training("ldat")
    model = finished.model(training)
    assert not model.training and model.header["epoch"] == 3
    x, y = finished.dataset.split("val")
    with torch.no_grad():
        right = (model(x).argmax(1) == y).float().mean().item()
    record = finished.records("train", [training], say=silent)[0]
    assert right == pytest.approx(record.last["val_clean_accuracy"])


def test_side_by_side_gives_the_same_as_one_after_the_other(finished, tmp_path):
    run = open_run("demo", TINY, tmp_path, jobs=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for mine, theirs in zip(
            run.records("train", run.trainings(), say=silent),
            finished.records("train", finished.trainings(), say=silent),
            strict=True,
        ):
            mine, theirs = ({**r.last, "seconds": 0} for r in (mine, theirs))
            assert mine == pytest.approx(theirs, rel=1e-4)
    finally:
        torch.set_num_threads(threads)


def test_the_plan_names_everything_a_notebook_computes(finished, tmp_path):
    run = open_run("demo", TINY, tmp_path, jobs=1)
    planned = {number: run.plan(number) for number in ("01", "02", "03", "10")}
    assert [job.training.label for job in planned["01"]] == [
        "plane-natural-s0",
        "plane-standard-s0",
        "plane-ldat-s0",
    ]
    assert {job.kind for job in planned["03"]} == {
        "train",
        "whitebox",
        "sweep_eps",
        "sweep_steps",
    }
    assert planned["10"] == []
    assert not any(job.done for jobs in planned.values() for job in jobs)
    assert all(job.operations > 0 for jobs in planned.values() for job in jobs)


def test_operations_are_counted_as_documented():
    """LDAT with K = 10 costs 26 forward-equivalents an image an epoch."""
    run = open_run("demo", {"val_every": 10000, "epochs": 1, "depth": 18, "width": 64, "stages": 4})
    training = run.training("ldat")
    forward = operations.forward_operations(training.config.network, 8)
    images = len(run.dataset.labels["train"])
    validated = 300 * 22 / 10000
    job = run.jobs_of("train", [training])[0]
    assert job.operations == pytest.approx(forward * (26 * images + validated), rel=1e-6)


def test_a_folder_is_a_profile(tmp_path):
    from PIL import Image

    for split, count in (("train", 8), ("test", 4)):
        for label, shade in (("dark", 20), ("light", 230)):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (16, 16), (shade, index, 0)).save(folder / f"{index}.png")
    overrides = {
        **TINY,
        "data_root": str(tmp_path / "pictures"),
        "val_size": 4,
        "test_size": None,
    }
    run = open_run("folder", overrides, tmp_path / "out", jobs=1)
    record = run.records("whitebox", [run.training("standard")], say=silent)[0]
    assert record.dataset == "pictures" and record.clean_accuracy.count == 8
    assert record.attacks["linf_apgd"].settings.loss == "ce"  # two classes


def test_lost_weights_are_trained_again(finished, tmp_path):
    run = open_run("demo", TINY, tmp_path, jobs=1)
    training = run.training("standard")
    first = run.records("train", [training], say=silent)[0]
    run.checkpoint_path(training).unlink()
    assert not run.jobs_of("train", [training])[0].done
    again = run.records("train", [training], say=silent)[0]
    assert run.checkpoint_path(training).is_file() and again.last["loss"] == first.last["loss"]


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UserError, match="jobs"):
        open_run("demo", {}, tmp_path, jobs=0)
    with pytest.raises(UserError, match="data_root"):
        open_run("folder", {}, tmp_path)
    run = open_run("demo", TINY, tmp_path, jobs=1)
    with pytest.raises(UserError, match="unknown defence 'none'; known: natural"):
        run.training("none")
    with pytest.raises(UserError, match="no checkpoint"):
        run.model(run.training("ldat"))
    job = run.jobs_of("train", [run.training("ldat")])[0]
    for path in (job.path, *job.products):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"cut": ')
    with pytest.raises(UserError, match="delete it"):
        run.records("train", [run.training("ldat")], say=silent)
