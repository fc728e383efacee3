"""A run is published without its images, and opened from what was published."""

import json

import pytest
import torch
from tiny import TINY, silent

from ldatlib import open_run
from ldatlib.data import DESCRIPTION, load_dataset
from ldatlib.errors import MissingDataError, UserError
from ldatlib.files import exists, load_tensors, save_tensors
from ldatlib.study import published

pytestmark = pytest.mark.slow

SETTINGS = {**TINY, "defences": ("standard", "ldat"), "storage": "half"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    run = open_run("demo", SETTINGS, tmp_path_factory.mktemp("source"), jobs=1)
    for notebook in ("03", "08"):
        run.compute(notebook, say=silent)
    return run


@pytest.fixture
def folder(source, tmp_path):
    jobs = [job for notebook in ("03", "08") for job in source.plan(notebook)]
    published.publish(source, jobs, tmp_path / "kept", [source.training("ldat").label])
    return tmp_path / "kept"


@pytest.fixture
def opened(folder, tmp_path):
    settings = {**SETTINGS, "dataset": "published", "data_root": str(folder)}
    return open_run("demo", settings, tmp_path / "run", jobs=1)


def test_everything_is_found_without_images(source, opened):
    assert opened.dataset.fingerprint == source.dataset.fingerprint
    for notebook in ("03", "08"):
        assert all(job.done for job in opened.plan(notebook))
    for kind in ("train", "whitebox", "detection"):
        mine, theirs = (run.records(kind, run.trainings(), silent) for run in (opened, source))
        assert mine == theirs
    training = source.training("ldat")
    assert opened.log(training) == source.log(training)


def test_weights_are_those_that_were_evaluated(source, opened):
    training = source.training("ldat")
    x, _ = source.dataset.split("test", 8)
    with torch.no_grad():
        assert torch.equal(opened.model(training)(x), source.model(training)(x))
    with pytest.raises(UserError, match="train it first"):
        opened.model(source.training("standard"))


def test_attacked_images_are_kept_for_pictures(source, opened):
    whole, kept = (run.adversarial(source.training("ldat")) for run in (source, opened))
    assert set(kept) == set(whole)
    for name, values in kept.items():
        assert values.dtype == whole[name].dtype
        assert torch.allclose(values, whole[name][: len(values)], atol=3e-4)


def test_there_are_no_images_to_compute_with(opened):
    with pytest.raises(MissingDataError, match="not at hand"):
        opened.dataset.split("test")
    with pytest.raises(MissingDataError, match="not at hand"):
        opened.records("train", [opened.training("ldat", seed=7)], silent)
    with pytest.raises(MissingDataError, match="not at hand"):
        opened.plane_dataset.split("test")


def test_a_description_holds_no_pixels(source, folder):
    described = json.loads((folder / DESCRIPTION).read_text())
    assert described["sizes"] == {s: len(v) for s, v in source.dataset.labels.items()}
    data = load_dataset("published", root=folder)
    assert data.title == source.dataset.title and not data.at_hand
    assert data.images["train"].shape == source.dataset.images["train"].shape


def test_what_lies_in_the_run_stays(folder, opened, tmp_path):
    path = next((tmp_path / "run" / "records").glob("detection-ldat*.json"))
    path.write_text("a threshold stored from the widget")
    published.unpack(folder, tmp_path / "run")
    assert path.read_text() == "a threshold stored from the widget"


def test_no_published_results(tmp_path):
    settings = {"dataset": "published", "data_root": str(tmp_path / "nothing")}
    with pytest.raises(UserError, match="no published results"):
        open_run("demo", settings, tmp_path / "run")
    with pytest.raises(UserError, match="need their folder"):
        load_dataset("published")


def test_publishing_passes_over_what_is_not_done(source, tmp_path):
    jobs = source.plan("09")
    kept = published.publish(source, jobs, tmp_path, [])
    kinds = {path.name.partition("-")[0] for path in kept}
    assert "whitebox" in kinds and "autoattack" not in kinds
    assert all(exists(path) for path in kept)
    assert not (tmp_path / "checkpoints").exists()


def test_publishing_again_changes_no_byte(source, folder):
    """A second publication would be a new version of every file for whoever keeps a history."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    jobs = [job for notebook in ("03", "08") for job in source.plan(notebook)]
    for _ in range(3):
        published.publish(source, jobs, folder, [source.training("ldat").label])
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == files
    assert any(path.suffix == ".safetensors" for path in files)
    # Other weights under the same name do replace it.
    (weights,) = (folder / "checkpoints").iterdir()
    tensors, header = load_tensors(weights)
    save_tensors(weights, {name: values + 1 for name, values in tensors.items()}, header, half=True)
    published.publish(source, jobs, folder, [source.training("ldat").label])
    again, _ = load_tensors(weights)
    assert all(torch.equal(again[name], values) for name, values in tensors.items())
