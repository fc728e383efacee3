"""A tiny run of every kind against stored figures: they move only together with ``NUMERICS``.

Trainings are compared to 2e-3 and shares to a few images: what processors and thread counts do to
float32 over a few steps. A change of a method moves the figures by much more.
"""

import pytest
from tiny import TINY, silent

from ldatlib.study import keys
from ldatlib.study.run import open_run

pytestmark = pytest.mark.slow

TRAINING = {"depth": 4, "stages": 1, "width": 8, "epochs": 1, "batch_size": 256}
TRAINING |= {"val_size": 100, "attack_steps": 3}
# NUMERICS -> defence -> (loss, mean perturbation norm) of the first epoch.
TRAININGS = {
    1: {
        "standard": (2.40670, 1.17995),
        "trades": (2.32095, 1.23716),
        "ldat": (4.06500, 0.45388),
    }
}
EVALUATED = TINY | {
    "epochs": 8,
    "attack_steps": 3,
    "steps": 5,
    "eval_images": 60,
    "saved_images": 60,
    "sweep_images": 60,
    "scrutiny_images": 20,
    "autoattack_norms": ("l2",),
    "scrutiny_norms": ("l2",),
    "masking_restarts": 1,
    "masking_queries": 30,
    "adaptive_steps": 3,
    "eps_l2": 0.3,
    "eps_linf": 0.08,
}
# How a kind's record is told by one share, of how many images.
SHARES = {
    "whitebox": lambda r: r.worst_case["l2"].value,
    "worst_case": lambda r: r.norms["l2"].robust_accuracy.value,
    "basic": lambda r: r.attacks["l2_pgd"].robust_accuracy.value,
    "validation": lambda r: r.attacks["l2_pgd"].robust_accuracy.value,
    "sweep_eps": lambda r: r.points[-1].robust_accuracy.value,
    "sweep_steps": lambda r: r.points[-1].robust_accuracy.value,
    "transfer": lambda r: r.targets["ldat-s0"]["linf_pgd"].value,
    "features": lambda r: r.numbers.probe,
    "detection": lambda r: r.scores["posterior"].sets["l2_pgd"].right.count("1") / 60,
    "search": lambda r: r.norms["l2"].robust_accuracy.value,
    "autoattack": lambda r: r.norms["l2"].robust_accuracy.value,
    "masking": lambda r: r.norms["l2"].pgd.value,
    "adaptive": lambda r: r.half_budget["l2"].robust_accuracy.value,
}
# Kind -> NUMERICS -> that share of the tiny PGD-AT network.
GOLDEN = {
    "whitebox": {1: 0.4333},
    "worst_case": {2: 0.4167},
    "basic": {1: 0.6},
    "validation": {1: 0.5333},
    "sweep_eps": {1: 0.4833},
    "sweep_steps": {1: 0.6333},
    "transfer": {1: 0.5167},
    "features": {2: 0.6333},
    "detection": {1: 0.6},
    "search": {1: 0.4167},
    "autoattack": {1: 0.35},
    "masking": {4: 0.6},
    "adaptive": {2: 0.5},
}


@pytest.mark.parametrize("defence", ["standard", "trades", "ldat"])
def test_a_tiny_training_gives_the_stored_figures(defence, tmp_path):
    run = open_run("demo", TRAINING, tmp_path, jobs=1)
    (record,) = run.records("train", [run.training(defence)], silent)
    loss, norm = TRAININGS[keys.NUMERICS["train"]][defence]
    assert record.last["loss"] == pytest.approx(loss, rel=2e-3)
    assert record.last["perturbation_norm"] == pytest.approx(norm, rel=2e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run("demo", EVALUATED, tmp_path_factory.mktemp("golden"), jobs=1)


def test_every_kind_has_a_stored_figure():
    assert set(GOLDEN) | {"train"} == set(keys.NUMERICS)


@pytest.mark.parametrize("kind", SHARES)
def test_a_tiny_evaluation_gives_the_stored_figure(run, kind):
    (record,) = run.records(kind, [run.training("standard")], silent)
    assert SHARES[kind](record) == pytest.approx(GOLDEN[kind][keys.NUMERICS[kind]], abs=0.1)
