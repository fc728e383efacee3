"""Schedules whose length is known by hand."""

from pathlib import Path

import pytest

from ldatlib import UserError
from ldatlib.study.jobs import Job, Plan
from ldatlib.study.makespan import counts_of, makespan, table


class Named:
    def __init__(self, label):
        self.label = label


def planned(jobs):
    """A plan of {name: (operations, needs)}, without a run."""
    plan = Plan.__new__(Plan)
    plan.needs = {Path(n): tuple(map(Path, needs)) for n, (_, needs) in jobs.items()}
    plan.chains = {}

    def chain(name):
        later = [n for n, (_, needs) in jobs.items() if name in needs]
        return jobs[name][0] + max(map(chain, later), default=0)

    plan.chains = {Path(name): chain(name) for name in jobs}
    made = [Job("train", Named(n), Path(n), operations) for n, (operations, _) in jobs.items()]
    plan.jobs = sorted(made, key=lambda job: -plan.chains[job.path])
    return plan


FORK = planned({"a": (4, []), "b": (2, ["a"]), "c": (2, ["a"]), "d": (3, []), "e": (1, ["d"])})


@pytest.mark.parametrize(("workers", "seconds"), [(1, 12), (2, 6), (9, 6)])
def test_a_fork(workers, seconds):
    """On two workers d and e lie beside a, then b beside c: the chain is all that counts."""
    found = makespan(FORK, workers, rate=1.0)
    assert (found.work, found.chain, found.seconds) == (12, 6, seconds)


def test_equal_jobs_divide():
    plan = planned({str(n): (5, []) for n in range(8)})
    for workers, seconds in ((1, 40), (2, 20), (4, 10), (8, 5), (3, 15)):
        assert makespan(plan, workers, rate=1.0).seconds == seconds
    assert makespan(plan, 4, 2.0).seconds == 5 and makespan(plan, 4, 1.0).limit == "nothing"
    assert makespan(plan, 3, 1.0).limit == "the last jobs"
    assert makespan(plan, 3, 1.0).efficiency == pytest.approx(40 / 45)


def test_the_longest_chain_is_named():
    assert makespan(FORK, 3, 1.0).limit == "the longest chain"
    lines = table(FORK, [1, 3], 1 / 3600, None)
    assert lines[2] == "| 1 | 12.00 | 1.00 | 100% | nothing |"
    assert lines[3] == "| 3 | 6.00 | 2.00 | 67% | the longest chain |"
    assert lines[-1].startswith("The longest chain, 50.0% of the work: train a → train b")


def test_files_take_time_on_their_way():
    plan = planned({"a": (4, []), "b": (2, ["a"])})
    assert makespan(plan, 2, 1.0, bandwidth=2e8).seconds == 8


def test_measured_seconds_take_the_place_of_operations():
    """a takes 10 s where 4 were planned, b beside c after it; d and e lie beside a."""
    found = makespan(FORK, 2, 1.0, measured={Path("a"): 10.0})
    assert (found.seconds, found.work, found.chain) == (12, 18, 12)


@pytest.mark.parametrize("text", ["", "0", "1,x", "-1", "1,,2"])
def test_numbers_of_workers(text):
    assert counts_of("1,2,16") == [1, 2, 16]
    with pytest.raises(UserError, match="--workers takes numbers"):
        counts_of(text)
