"""What an examination says while it runs: lines, the time left, a bar where one is wanted."""

import pytest

from ldatlib.evaluation.examination.effort import Planned
from ldatlib.evaluation.examination.progress import teller
from ldatlib.report.examination import announce

PLANNED = [
    Planned("linf", "attacks", 10, {"linf_pgd": 5, "linf_fab": 20}),
    Planned("linf", "masking", 10, {"masking": 30}),
]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [100.0]
    monkeypatch.setattr(announce.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_that_of_what_is_still_right(clock):
    lines = []
    with announce.Announcer(lines.append, bar=False) as announcer:
        tell = teller(PLANNED, announcer.done)
        announcer.plan([{"severity": "warning", "text": "odd"}], PLANNED)
        clock[0] += 5
        tell("linf", "attacks", "linf_pgd", 4)
        clock[0] += 8
        tell("linf", "attacks", "linf_fab", 3)
        clock[0] += 20
        tell("linf", "masking", "masking", 3)
    assert lines[0] == "warning: odd" and lines[1].startswith("at most 550 forward passes")
    # 50 passes took 5 s; 4 images of 20 passes and 10 of 30 are to come.
    assert lines[-3] == "L-inf PGD: 4 left; at most about 38 s to go"
    # 130 passes took 13 s.
    assert lines[-2] == "L-inf FAB: 3 left; at most about 30 s to go"
    assert lines[-1] == "L-inf tests for masking: 3 left"


def test_a_bar_shows_passes_and_leaves_the_lines_whole(capsys):
    with announce.Announcer(print, bar=True) as announcer:
        tell = teller(PLANNED, announcer.done)
        announcer.plan([], PLANNED)
        tell("linf", "attacks", "linf_pgd", 4)
        tell("linf", "attacks", "linf_fab", 3)
    found = capsys.readouterr()
    assert "L-inf Table 1's attacks   0%|" in found.err
    # Of 550 passes 300 are to go.
    assert "L-inf tests for masking  45%|" in found.err and "left" in found.err
    assert found.out.splitlines()[-2:] == ["L-inf PGD: 4 left", "L-inf FAB: 3 left"]


def test_an_error_takes_the_bar_away(capsys):
    with pytest.raises(KeyboardInterrupt), announce.Announcer(None, bar=True) as announcer:
        announcer.plan([], PLANNED)
        raise KeyboardInterrupt
    assert announcer.bar.disable or announcer.bar.n == 0
    assert not announcer.clock.is_alive()
