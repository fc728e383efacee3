"""What no current setting uses is listed, and removed only when asked."""

import json

import pytest
from tiny import TINY, silent

from ldatlib.__main__ import main
from ldatlib.files.locks import alone
from ldatlib.study import keys
from ldatlib.study.clean import unused
from ldatlib.study.run import open_run

SMALL = TINY | {"epochs": 1, "defences": ("natural",)}


def as_options(settings):
    text = {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in settings.items()}
    return [word for k, v in text.items() for word in ("--set", f"{k}={v}")]


@pytest.fixture
def run(tmp_path):
    run = open_run("demo", SMALL, tmp_path / "run", jobs=1)
    run.records("detection", run.trainings(), say=silent)
    return run


def test_nothing_of_a_current_run_is_unused(run):
    assert unused(run) == []


def test_what_other_settings_left_is_unused(run):
    other = open_run("demo", SMALL | {"epochs": 2}, run.root, jobs=1)
    names = {file.path.name for file in unused(other)}
    assert {path.name for path in run.root.glob("records/*.json*")} <= names
    assert {path.name for path in run.root.glob("checkpoints/*.safetensors")} <= names
    assert {path.name for path in run.root.glob("adversarial/*.safetensors")} <= names


def test_shards_and_interrupted_attacks_belong_to_their_result(run):
    training = run.trainings()[0]
    stem = run.checkpoint_path(training).name.removesuffix(".safetensors")
    attacked = run.jobs_of("whitebox", [training])[0].path.stem
    kept = [
        run.root / "checkpoints" / f"{stem}-00001-of-00002.safetensors",
        run.root / "partial" / f"{attacked}.l2_cw.safetensors",
    ]
    left = [
        run.root / "checkpoints" / "ldat-s0-0123456789-00001-of-00002.safetensors",
        run.root / "partial" / "whitebox-ldat-s0-0123456789.l2_cw.safetensors",
    ]
    for path in kept + left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (run.root / "records" / "notes.txt").write_text("a person's own")
    assert {file.path for file in unused(run)} == set(left)


def test_other_profiles_and_hands_of_people_are_left_alone(run):
    """Files without a key of ours in their name, and what another profile has made."""
    for name in ("records/notes.json", "checkpoints/mine.safetensors", "records/a-b.txt"):
        (run.root / name).write_text("{}")
    other = open_run("demo-full", SMALL, run.root, jobs=1)
    records = {path.name for path in run.root.glob("records/*-*.json")}
    assert not records & {file.path.name for file in unused(other)}
    assert unused(run) == []


def test_what_somebody_is_computing_is_left_alone(run):
    other = open_run("demo", SMALL | {"epochs": 2}, run.root, jobs=1)
    path = run.checkpoint_path(run.trainings()[0])
    assert path in {file.path for file in unused(other)}
    with alone(path, "training"):
        assert path not in {file.path for file in unused(other)}
    assert path in {file.path for file in unused(other)}


def test_the_command_lists_first_and_removes_what_it_is_told(run, capsys, monkeypatch):
    """Of an earlier version at once; what other settings made only when that is said."""
    arguments = ["clean", "--profile", "demo", "--out", str(run.root), *as_options(SMALL)]
    assert main(arguments) == 0
    assert "nothing unused" in capsys.readouterr().out
    other = [word.replace("epochs=1", "epochs=2") for word in arguments]
    files = {p for p in run.root.rglob("*") if p.is_file()}
    assert main([*other, "--remove"]) == 0
    said = capsys.readouterr().out
    assert "other settings" in said and "removed: 0 files" in said
    assert {p for p in run.root.rglob("*") if p.is_file()} == files
    monkeypatch.setitem(keys.NUMERICS, "detection", keys.NUMERICS["detection"] + 1)
    assert main([*arguments, "--remove"]) == 0
    assert "removed: 1 files" in capsys.readouterr().out
    assert not list(run.root.glob("records/detection-*"))
    assert main([*other, "--remove", "--other-settings"]) == 0
    assert not list(run.root.glob("records/*")) and not list(run.root.glob("checkpoints/*"))


def test_a_folder_that_holds_no_run_is_named(tmp_path, capsys):
    assert main(["clean", "--out", str(tmp_path / "none")]) == 1
    assert "no run in" in capsys.readouterr().err


def test_records_of_an_earlier_numerics_are_counted(run, monkeypatch):
    assert run.passed_over() == 0
    monkeypatch.setitem(keys.NUMERICS, "detection", keys.NUMERICS["detection"] + 1)
    assert run.passed_over() == 1
    monkeypatch.setitem(keys.NUMERICS, "train", keys.NUMERICS["train"] + 1)
    # The training, its attacks and the detector.
    assert run.passed_over() == 3
    path = next(run.root.glob("records/train-*.json"))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content)[:50])  # cut: whoever asks for it is told
    assert run.passed_over() == 2
