"""The two commands for a machine without Jupyter, on the smallest possible training."""

import json
import subprocess
import sys

import pytest
import torch
from tiny import PROJECT

from ldatlib import __main__ as command
from ldatlib.errors import UNFINISHED, UserError
from ldatlib.study import settings
from ldatlib.study.run import open_run
from ldatlib.training.checkpoint import load_model

pytestmark = pytest.mark.slow


def main(name, arguments):
    return command.main([name, *arguments])


SETTINGS = {
    "depth": "4",
    "stages": "1",
    "width": "4",
    "epochs": "2",
    "attack_steps": "2",
    "steps": "2",
    "eval_images": "20",
    "saved_images": "10",
    "eval_batch": "10",
    "val_size": "40",
}
TINY = ["--profile", "demo"]
for key, value in SETTINGS.items():
    TINY += ["--set", f"{key}={value}"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu")
    assert (
        main(
            "train", [*TINY, "--training", "ldat", "--half", "--shard-mib", "1", "--out", str(out)]
        )
        == 0
    )
    return out


def test_the_worst_case_alone_on_several_processes(trained, capsys):
    out = [*TINY, "--set", "storage=half", "--set", "shard_mib=1", "--out", str(trained)]
    arguments = [*out, "--training", "ldat", "--kinds", "worst_case"]
    assert main("evaluate", [*arguments, "--processes", "0"]) == 1
    assert "processes must be a whole number of at least 1" in capsys.readouterr().err
    assert main("evaluate", [*arguments, "--processes", "2"]) == 0
    (path,) = trained.glob("records/worst_case-*.json")
    record = json.loads(path.read_text())
    assert record["ok"] and list(record["norms"]) == ["linf", "l2"]
    for norm, found in record["norms"].items():
        assert found["processes"] == 2 and len(found["right"]) == 20
        turns = [turn["attack"] for turn in found["attacks"]]
        assert all(turn.startswith(norm) for turn in turns) and f"{norm}_fab" in turns
    assert "worst case of ldat-s0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1.5h", 5400), (" 2m ", 120)]
)
def test_durations(text, seconds):
    assert settings.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1m", "9 minutes", "0", "1e3"])
def test_durations_that_are_none(text):
    with pytest.raises(UserError, match="such as 9m"):
        settings.parse_duration(text)


def test_the_output_folder_is_one_of_the_runner(trained, monkeypatch):
    overrides = {**SETTINGS, "storage": "half", "shard_mib": "1"}
    run = open_run("demo", overrides, trained, jobs=1)
    (job,) = run.jobs_of("train", [run.training("ldat")])
    assert job.done
    record = json.loads(job.path.read_text())
    assert record["execution"]["storage"] == {"half": True, "shard_bytes": 2**20}
    assert record["provenance"]["device"] and record["images_per_second"] > 0
    monkeypatch.setattr("ldatlib.study.schedule.work", None)  # nothing is computed anew
    assert run.records("train", [run.training("ldat")])[0].key == record["key"]


def test_how_weights_are_kept_and_where_they_ran_is_no_part_of_the_key(trained):
    plain = open_run("demo", SETTINGS, trained, jobs=1)
    assert plain.jobs_of("train", [plain.training("ldat")])[0].done
    rough = open_run("demo", {**SETTINGS, "precision": "bfloat16"}, trained, jobs=1)
    assert not rough.jobs_of("train", [rough.training("ldat")])[0].done


def test_evaluation_speaks_of_the_kept_weights(trained, capsys):
    arguments = [*TINY, "--training", "ldat", "--out", str(trained)]
    assert main("evaluate", [*arguments, "--kinds", "whitebox,basic"]) == 0
    assert capsys.readouterr().out.count("attacked ldat-s0") == 2
    run = open_run("demo", SETTINGS, trained, jobs=1)
    model = load_model(run.checkpoint_path(run.training("ldat")))
    x, y = run.dataset.split("test", 20)
    record = run.records("whitebox", [run.training("ldat")])[0]
    right = (model(x).argmax(1) == y).float().mean().item()
    assert record.clean_accuracy.value == pytest.approx(right)
    assert not list(trained.glob("partial/*"))
    assert torch.equal(
        model.head.means, model.head.means.half().float()
    )  # rounded once, when they were kept


def test_a_time_limit_is_no_error_and_the_next_call_goes_on(tmp_path, capsys, monkeypatch):
    arguments = [*TINY, "--training", "standard", "--out", str(tmp_path)]
    monkeypatch.setattr(settings, "parse_duration", lambda text: 0.0 if text == "1s" else 600.0)
    # A limit that is over before the first step: not even begun.
    assert main("train", [*arguments, "--time-limit", "1s"]) == UNFINISHED
    assert "goes on from there" in capsys.readouterr().out
    assert main("train", [*arguments, "--time-limit", "10m"]) == 0
    assert main("evaluate", [*arguments, "--time-limit", "1s"]) == UNFINISHED
    assert main("evaluate", arguments) == 0


def test_an_evaluation_goes_on_attack_by_attack(tmp_path, monkeypatch):
    from ldatlib.evaluation import robustness

    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    arguments = [*TINY, "--training", "natural"]
    for out in (whole, parts):
        assert main("train", [*arguments, "--out", str(out)]) == 0
    assert main("evaluate", [*arguments, "--out", str(whole)]) == 0
    attacks, calls = [], 0
    attack = robustness.run_restarts

    def counted(*positional, **named):
        attacks.append(positional[3])
        return attack(*positional, **named)

    monkeypatch.setattr(robustness, "run_restarts", counted)
    # The time is up after every attack, but not before the first.
    monkeypatch.setattr(settings, "parse_duration", lambda text: -1.0)
    monkeypatch.setattr("ldatlib.study.workspace.Workspace.late", False)
    while main("evaluate", [*arguments, "--out", str(parts), "--time-limit", "1m"]) == UNFINISHED:
        calls += 1
        assert calls < 20
    budgets = [a for a in attacks if a.eps > 0]  # the others are self-checks
    assert calls == 10 and len(budgets) == 10 and len({a.key for a in budgets}) == 10
    (first,), (second,) = (list(out.glob("records/whitebox-*.json")) for out in (whole, parts))
    first, second = json.loads(first.read_text()), json.loads(second.read_text())
    for key, column in first["attacks"].items():
        assert second["attacks"][key]["right"] == column["right"]
    assert not list(parts.glob("partial/*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name what to train or evaluate: --training ldat"),
        (["--training", "ladt"], "no training 'ladt' in this profile; known: natural, standard"),
        (["--training", "ldat", "--set", "epoch=1"], "did you mean epochs?"),
        (["--training", "ldat", "--profile", "cifar9"], "unknown profile 'cifar9'"),
        (["--training", "ldat", "--time-limit", "soon"], "such as 9m"),
        (["--training", "ldat", "--precision", "float8"], "unknown 'float8'; known: float32"),
    ],
)
def test_bad_input_is_one_line(arguments, says, capsys, tmp_path):
    assert main("train", ["--profile", "demo", "--out", str(tmp_path), *arguments]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_unknown_kinds_are_refused(trained, capsys):
    assert (
        main("evaluate", [*TINY, "--training", "ldat", "--out", str(trained), "--kinds", "x"]) == 1
    )
    assert "unknown kind 'x'; known: " in capsys.readouterr().err


def test_every_training_of_a_profile_has_a_name(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("ldatlib.data.cifar.DOWNLOADS", tmp_path / "nothing")
    assert main("train", ["--profile", "cifar10", "--list"]) == 0
    names = capsys.readouterr().out.split()
    assert len(names) == len(set(names)) > 30
    run = open_run("cifar10", {}, tmp_path)
    assert run.plan_without_data()
    for name in names:
        assert run.find_training(name).label == name
    training = run.find_training("ldat-K-20", seed=7)
    assert training.label == "ldat-K-20-s7" and training.config.defence.adversary.num_steps == 20


def test_neither_command_needs_jupyter(tmp_path):
    """With every package refused that a GPU machine may lack."""
    refused = ("IPython", "ipykernel", "ipywidgets", "jupyterlab", "matplotlib", "nbclient")
    refused += ("nbconvert", "nbformat", "papermill", "seaborn", "pytest")
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from ldatlib.__main__ import main
arguments = {[*TINY, "--training", "ldat", "--out", str(tmp_path)]!r}
sys.exit(main(["train", *arguments]) or main(["evaluate", *arguments]))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert "trained ldat-s0" in result.stdout and "attacked ldat-s0" in result.stdout
