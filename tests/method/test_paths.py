"""A path that begins with ~ is the same everywhere; text is UTF-8 whatever the locale."""

import ast
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import synthetic_record
from matplotlib.figure import Figure
from tiny import PROJECT, TINY

from ldatlib import UserError, load_model, train
from ldatlib.data import load_dataset
from ldatlib.defences import make_defence
from ldatlib.files import path_of, write_json
from ldatlib.models import NetworkConfig
from ldatlib.report import figures, tables
from ldatlib.report.widgets import threshold_explorer
from ldatlib.study import plugins, records
from ldatlib.study.run import open_run
from ldatlib.training.config import TrainConfig

# Programs of the project; tests write files of their own.
SOURCES = [
    *(PROJECT / "ldatlib").rglob("*.py"),
    *(PROJECT / "tools").glob("*.py"),
    *(PROJECT / "benchmarks").glob("*.py"),
    PROJECT / "runner.py",
    PROJECT / "bootstrap.py",
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(PROJECT)
    yield tmp_path
    plugins.forget()
    assert not os.path.lexists(PROJECT / "~")


def test_the_home_folder_of_nobody_is_a_name(home):
    assert path_of("~/x") == home / "x" and path_of("~") == home
    assert str(path_of("~nobody-of-that-name/x")) == "~nobody-of-that-name/x"
    assert str(path_of("a~/x")) == "a~/x"


def test_data_run_plugin_and_results(home):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, 8), dtype=np.uint8)
    labels = np.arange(8) % 2
    archive = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
    np.savez(home / "d.npz", **archive)
    assert load_dataset("npz", root="~/d.npz", val_size=2).title == "d"
    shutil.copy(PROJECT / "docs" / "examples" / "label_smoothing.py", home / "own.py")
    overrides = TINY | {"dataset": "npz", "data_root": "~/d.npz", "plugins": ["~/own.py"]}
    run = open_run("demo", overrides | {"val_size": 2, "test_size": None}, "~/run", jobs=1)
    assert run.root == home / "run" and run.profile.plugins == (str(home / "own.py"),)
    with pytest.raises(UserError, match=f"no published results in {home}/none"):
        open_run("cifar10-published", {"data_root": "~/none"}, "~/run")


def test_training_record_figure_and_widget(home):
    data = load_dataset("digits", val_size=60, train_size=64, test_size=20)
    network = NetworkConfig(num_classes=10, depth=4, stages=1, width=2, in_channels=1)
    defence = make_defence("natural", eps_linf=0.1, eps_l2=0.1, radius=0.1)
    config = TrainConfig(defence, network, epochs=1, val_steps=1, val_limit=2)
    result = train(config, data, "~/m/own.safetensors", log_path="~/l/own.jsonl", device="cpu")
    assert result.last == home / "m/own.safetensors" and (home / "l/own.jsonl").is_file()
    assert isinstance(load_model("~/m/own.safetensors"), torch.nn.Module)
    record = synthetic_record()
    write_json(home / "r.json", records.content(record))
    assert records.read("~/r.json").key == record.key
    figures.save(Figure(), "~/f", "x")
    assert (home / "f/x.png").is_file()
    assert tables.path("~/t", "x") == home / "t/tables/x.csv"
    widget = threshold_explorer({"ldat": record}, "~/r.json")
    widget.store.click()
    assert "stored" in widget.status.value and records.read(home / "r.json").exploratory


# Methods that read or write text where they are told no encoding.
_TEXT = {"read_text", "write_text"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_programs_name_the_encoding_of_text(path):
    """ruff's rule knows only what it can see to be a path."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = {keyword.arg for keyword in node.keywords}
            assert node.func.attr not in _TEXT or "encoding" in named, node.lineno


def test_results_lie_in_the_checkout_wherever_one_stands(tmp_path):
    script = "from ldatlib.files import PACKAGE, home; print(home(), PACKAGE)"
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert printed == [str(PROJECT), str(PROJECT / "ldatlib")]
