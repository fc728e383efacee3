"""What the gate says of a run's networks: in every record, and in one line a network."""

import warnings

import pytest
import torch
from tiny import TINY

from ldatlib.evaluation import autoattack
from ldatlib.evaluation.gate.findings import EvaluationWarning
from ldatlib.study import records
from ldatlib.study.jobs import with_needs
from ldatlib.study.run import open_run
from ldatlib.study.workspace import Workspace

pytestmark = pytest.mark.slow

SETTINGS = TINY | {
    "epochs": 1,
    "defences": ("standard",),
    "scrutiny_images": 10,
    "scrutiny_norms": ("l2",),
    "masking_restarts": 1,
    "masking_queries": 5,
    "adaptive_steps": 2,
}
ATTACKS = ("whitebox", "worst_case", "basic", "sweep_eps", "transfer", "autoattack", "masking")
ATTACKS += ("features",)
LOOKS = ("detection",)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run whose networks have collapsed, and all that it printed."""
    run = open_run("demo", SETTINGS, tmp_path_factory.mktemp("said"), jobs=1)
    load, batch, lines = Workspace.model, autoattack._batch, []

    def collapsed(ws, training, which="last"):
        model = load(ws, training, which)
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.copy_(torch.arange(10.0))
        return model

    def without_square(model, x, y, name, settings):
        # Its 5,000 queries on what cannot fall take most of a minute.
        return batch(model, x, y, name, settings) if name != "square" else (x, y != y, ["none"])

    kinds = (*ATTACKS, *LOOKS, "adaptive")
    jobs = [job for kind in kinds for job in with_needs(run, kind, run.trainings())]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(Workspace, "model", collapsed)
        patch.setattr(autoattack, "_batch", without_square)
        warnings.simplefilter("error", EvaluationWarning)
        run.complete(jobs, lines.append)
    return run, lines


def found(run, kind):
    (record,) = run.records(kind, run.trainings())
    return {entry.name: entry for entry in records.said(record)}


@pytest.mark.parametrize("kind", [*ATTACKS, "adaptive"])
def test_every_record_of_attacks_holds_it(told, kind):
    entry = found(told[0], kind)["constant"]
    assert entry.severity == "warning" and "predicts class 9 for all" in entry.text


def test_autoattacks_own_warnings(told):
    (record,) = told[0].records("autoattack", told[0].trainings())
    attacks = record.norms["l2"].attacks
    assert attacks["square"].warnings == ["none"]
    assert any("zero gradient" in text for text in attacks["apgd-t"].warnings)


@pytest.mark.parametrize("kind", LOOKS)
def test_whoever_only_looks_says_nothing_of_attacks(told, kind):
    assert found(told[0], kind) == {}


def test_one_line_a_network_after_that_of_the_job(told):
    run, lines = told
    (training,) = run.trainings()
    of_gate = [line for line in lines if line.startswith(f"{training.label}: ")]
    assert len(of_gate) == 1 and "has it collapsed" in of_gate[0]
    before = lines[lines.index(of_gate[0]) - 1]
    assert training.label in before and "\n" not in of_gate[0]


def test_a_sound_network_leaves_nothing(tmp_path):
    lines, settings = [], {"defences": ("natural",), "epochs": 12, "val_every": 12}
    run = open_run("demo", SETTINGS | settings, tmp_path, jobs=1)
    (record,) = run.records("basic", run.trainings(), say=lines.append)
    assert record.clean_accuracy.value > 0.75
    assert record.gate == [] and len(lines) == 2
