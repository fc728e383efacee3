"""The network that most evaluations are tried on, and the least that an examination can do."""

import pytest
from helpers import smooth_net

from ldatlib.evaluation.examination import effort as efforts
from ldatlib.evaluation.examination.effort import Effort
from ldatlib.evaluation.masking.bench import Effort as MaskingEffort

LEAST = Effort(
    methods=("pgd", "fab"),
    steps=5,
    search_steps=6,
    search_restarts=3,
    autoattack=("apgd-ce",),
    masking_images=12,
    masking=MaskingEffort(steps=3, restarts=1, queries=20),
    detector_steps=4,
    detector_queries=10,
)


@pytest.fixture
def net():
    return smooth_net()


@pytest.fixture
def least(monkeypatch):
    """An effort of that name."""
    monkeypatch.setitem(efforts.EFFORTS, "least", LEAST)
