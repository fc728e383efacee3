"""Defences and networks of strangers: loaded everywhere, part of the key, named when they fail."""

import shutil
import subprocess
import sys

import pandas as pd
import pytest
from tiny import PROJECT, TINY, silent

from ldatlib import UserError
from ldatlib.study import plugins
from ldatlib.study.run import open_run

EXAMPLES = PROJECT / "docs" / "examples"
EXAMPLE, NETWORK = EXAMPLES / "label_smoothing.py", EXAMPLES / "tiny_cnn.py"
SMALL = TINY | {"epochs": 1}
del SMALL["defences"]


@pytest.fixture(autouse=True)
def forgotten():
    """What a test loads is gone after it."""
    yield
    plugins.forget()


def written(folder, text, name="mine.py"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", [EXAMPLE, NETWORK], ids=lambda path: path.stem)
def test_the_examples_are_complete_and_short(path):
    (plugin,) = plugins.load([path])
    assert len(path.read_text().splitlines()) <= 30
    assert plugin.defences or plugin.networks


def test_it_stands_beside_the_profiles_own(tmp_path):
    run = open_run("demo", SMALL | {"plugins": (str(EXAMPLE),)}, tmp_path, jobs=1)
    (name,) = plugins.load([EXAMPLE])[0].defences
    assert run.profile.defences[-1] == name and len(run.profile.defences) == 8
    chosen = {**SMALL, "plugins": str(EXAMPLE), "defences": f"ldat,{name}"}
    assert open_run("demo", chosen, tmp_path).profile.defences == ("ldat", name)


@pytest.mark.slow
def test_workers_know_it_and_records_say_it(tmp_path):
    (plugin,) = plugins.load([EXAMPLE])
    settings = SMALL | {"plugins": (str(EXAMPLE),), "defences": ("natural", *plugin.defences)}
    run = open_run("demo", settings, tmp_path, jobs=2)
    natural, mine = run.records("train", run.trainings(), say=silent)
    assert natural.plugin is None and mine.plugin == plugin.sha256
    assert (tmp_path / "plugins" / f"{plugin.sha256[:10]}-{EXAMPLE.name}").is_file()


def test_the_source_is_part_of_the_key(tmp_path):
    path = tmp_path / "mine.py"
    shutil.copy(EXAMPLE, path)

    def keys():
        run = open_run("demo", SMALL | {"plugins": (str(path),)}, tmp_path / "run")
        found = {t.name: run.training_key(t) for t in run.trainings()}
        plugins.forget()
        return found

    first = keys()
    path.write_text(path.read_text() + "# changed\n")
    second = keys()
    assert {name for name in first if first[name] != second[name]} == set(first) - {
        "natural",
        "standard",
        "l2_at",
        "trades",
        "mart",
        "lbgat",
        "ldat",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read the plug-in"),
        ("x = 1\n", "registers no defence and no network"),
        ("import nothing_of_that_name\n", "line 1: ModuleNotFoundError"),
        ("def broken(:\n", "SyntaxError"),
        ("raise SystemExit(0)\n", "line 1: SystemExit"),
        (EXAMPLE.read_text().replace('"label_smoothing"', '"ldat"'), "there is another defence"),
    ],
    ids=["missing", "nothing", "import", "syntax", "exit", "clash"],
)
def test_what_does_not_load_is_one_line(tmp_path, text, says):
    path = tmp_path / "mine.py" if text is None else written(tmp_path, text)
    with pytest.raises(UserError, match=says) as found:
        open_run("demo", {"plugins": (str(path),)}, tmp_path)
    assert "\n" not in str(found.value) and str(path) in str(found.value)
    # Nothing of it stays behind.
    open_run("demo", {}, tmp_path)


LOSS = EXAMPLE.read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return loss, {", "return loss  # {"),
        ("label_smoothing=self.smoothing)", "label_smoothing=self.smoothing, reduction='none')"),
        ("return loss, {", "return loss.detach(), {"),
        ("accuracy(logits, y)}", "logits}"),
        ("F.cross_entropy", "F.cross_entropies"),
    ],
    ids=["no parts", "vector", "detached", "parts", "name"],
)
def test_a_loss_that_cannot_be_minimised_is_named_at_loading(tmp_path, old, new):
    text = LOSS.replace(old, new)
    assert text != LOSS
    with pytest.raises(UserError, match="defence label_smoothing: loss must return a scalar"):
        plugins.load([written(tmp_path, text)])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def __init__(self, config)", "def __init__(self)"),
        ("nn.Flatten(), ", ""),
        ("self.feature_dim = config.feature_dim or 4 * width", "self.feature_dim = 5"),
    ],
    ids=["signature", "shape", "width"],
)
def test_a_network_that_does_not_fit_is_named_at_loading(tmp_path, old, new):
    text = NETWORK.read_text().replace(old, new)
    text = (
        text.replace("nn.Linear(4 * width, self.feature_dim)", "nn.Linear(4 * width, 7)")
        if ("= 5" in new)
        else text
    )
    with pytest.raises(UserError, match="tiny_cnn"):
        plugins.load([written(tmp_path, text)])


def test_one_file_under_two_names_is_one(tmp_path):
    copy = written(tmp_path, LOSS)
    assert len(plugins.load([EXAMPLE, copy, tmp_path / "." / "mine.py"])) == 1
    run = open_run("demo", SMALL | {"plugins": (str(EXAMPLE), str(copy))}, tmp_path)
    assert run.profile.defences.count("label_smoothing") == 1


def test_a_file_that_was_edited_is_loaded_anew(tmp_path):
    path = written(tmp_path, LOSS)
    (first,) = plugins.load([path])
    written(tmp_path, LOSS.replace("smoothing: float = 0.1", "smoothing: float = 0.2"))
    (second,) = plugins.load([path])
    assert first.sha256 != second.sha256
    run = open_run("demo", SMALL | {"plugins": (str(path),)}, tmp_path / "run")
    training = run.training("label_smoothing")
    assert training.config.defence.smoothing == 0.2
    assert plugins.source_of(training.config) == second.sha256


@pytest.mark.slow
def test_a_strangers_file_through_the_runner(tmp_path):
    """It stands in every table, figure and claim beside the others, under its own title."""
    settings = SMALL | {"defences": "standard,ldat"}
    command = [sys.executable, str(PROJECT / "runner.py"), "--out", str(tmp_path)]
    command += ["--plugin", str(EXAMPLE), "--only", "02", "--only", "03", "--only", "10"]
    (plugin,) = plugins.load([EXAMPLE])
    settings["defences"] += f",{plugin.defences[0]}"
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        command += ["--set", f"{name}={text}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "tables" / "table1.csv")
    assert list(table.defence) == ["standard", "ldat", *plugin.defences]
    from ldatlib.defences import TITLES

    assert TITLES[plugin.defences[0]] in (tmp_path / "report.html").read_text()
