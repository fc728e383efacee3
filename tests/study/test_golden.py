"""A tiny training against stored figures: they move only together with records.NUMERICS.

The tolerance covers what processors and thread counts do to float32 over a few steps; a change of
the method moves the figures by orders of magnitude more.
"""

import pytest

from ldatlib.study import provenance as records
from ldatlib.study.run import open_run

TINY = {
    "depth": 4,
    "stages": 1,
    "width": 8,
    "epochs": 1,
    "batch_size": 256,
    "val_size": 100,
    "attack_steps": 3,
}
# NUMERICS -> defence -> (loss, mean perturbation norm) of the first epoch.
GOLDEN = {
    1: {
        "standard": (2.40670, 1.17995),
        "trades": (2.32095, 1.23716),
        "ldat": (4.06500, 0.45388),
    }
}


@pytest.mark.parametrize("defence", ["standard", "trades", "ldat"])
def test_a_tiny_training_gives_the_stored_figures(defence, tmp_path):
    run = open_run("demo", TINY, tmp_path, jobs=1)
    training = run.training(defence)
    last = run.records("train", [training], say=lambda line: None)[0].last
    loss, norm = GOLDEN[records.NUMERICS][defence]
    assert last["loss"] == pytest.approx(loss, rel=2e-3)
    assert last["perturbation_norm"] == pytest.approx(norm, rel=2e-3)
