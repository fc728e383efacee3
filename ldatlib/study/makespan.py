"""How long a plan takes on so many workers: the schedule played through, without computing."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ldatlib.errors import UserError, check_count
from ldatlib.study.jobs import Job, Plan

# Bytes that a job's files take on their way, without a shared folder: weights of a wide network.
_TYPICAL = 2e8


@dataclass(frozen=True)
class Makespan:
    """A plan on ``workers`` equal workers.

    Attributes
    ----------
    seconds : from the first job's beginning to the last one's end.
    work : seconds that one worker takes.
    chain : seconds of the longest chain of jobs made from one another, below which nothing goes.
    """

    workers: int
    seconds: float
    work: float
    chain: float

    @property
    def speedup(self) -> float:
        return self.work / self.seconds if self.seconds else 1.0

    @property
    def efficiency(self) -> float:
        """Share of the workers' time in which they compute."""
        return self.speedup / self.workers

    @property
    def limit(self) -> str:
        """What keeps the efficiency from 100%."""
        if self.efficiency > 0.995:
            return "nothing"
        return "the longest chain" if self.seconds < 1.001 * self.chain else "the last jobs"


def makespan(
    plan: Plan,
    workers: int,
    rate: float,
    bandwidth: float | None = None,
    measured: Mapping[Path, float] | None = None,
) -> Makespan:
    """The time of a plan, its jobs given out as ``pool`` does: ready ones, most urgent first.

    Parameters
    ----------
    workers : all alike, at least 1.
    rate : operations a second of each.
    bandwidth : bytes a second between them, where files travel; every job then waits for those of
        one network.
    measured : seconds that jobs have taken, by their paths, in place of operations over ``rate``;
        the order stays that of their operations, for whoever plans does not know them.
    """
    check_count("workers", workers)
    travel = _TYPICAL / bandwidth if bandwidth else 0.0

    def seconds_of(job: Job) -> float:
        return (measured or {}).get(job.path, job.operations / rate) + travel

    rank = {job.path: number for number, job in enumerate(plan.jobs)}
    missing = {job.path: len(plan.needs[job.path]) for job in plan.jobs}
    made_from: dict[Path, list[Job]] = {job.path: [] for job in plan.jobs}
    for job in plan.jobs:
        for path in plan.needs[job.path]:
            made_from[path].append(job)
    ready = [rank[job.path] for job in plan.jobs if not missing[job.path]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = work = 0.0
    while ready or running:
        while ready and len(running) < workers:
            number = heapq.heappop(ready)
            seconds = seconds_of(plan.jobs[number])
            work += seconds
            heapq.heappush(running, (now + seconds, number))
        now, number = heapq.heappop(running)
        for job in made_from[plan.jobs[number].path]:
            missing[job.path] -= 1
            if not missing[job.path]:
                heapq.heappush(ready, rank[job.path])
    chain = sum(map(seconds_of, plan.longest_chain()))
    return Makespan(workers, now, work, chain)


def table(plan: Plan, counts: Iterable[int], rate: float, bandwidth: float | None) -> list[str]:
    """The lines of a Markdown table, one a number of workers, and one on the longest chain."""
    rows = ["| workers | hours | speed-up | efficiency | limited by |"]
    rows.append("| ---: | ---: | ---: | ---: | --- |")
    results = [makespan(plan, count, rate, bandwidth) for count in counts]
    for m in results:
        hours = f"{m.seconds / 3600:.2f}"
        rows.append(f"| {m.workers} | {hours} | {m.speedup:.2f} | {m.efficiency:.0%} | {m.limit} |")
    if results and plan.jobs:
        names = " → ".join(job.name for job in plan.longest_chain())
        share = results[0].chain / results[0].work if results[0].work else 1.0
        rows += ["", f"The longest chain, {share:.1%} of the work: {names}."]
    return rows


def counts_of(text: str) -> list[int]:
    """Numbers of workers from ``1,2,4``; ``UserError`` where it is no such list."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise UserError(f"--workers takes numbers from 1, such as 1,2,4,8, not {text!r}")
    return counts
