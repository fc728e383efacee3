"""(k) The engine of several machines on one: Dask's workers beside joblib's processes.

First jobs in which nothing is computed: what an engine costs once a run, and what a job. Then
trainings of the demo, each time from an empty folder, on processes as ``runner.py`` starts them and
on workers of a Dask scheduler that see the same folder. Each engine is alone on the machine while
it is timed, for even an idle one takes time, and has trained once before, so that nobody imports
torch within the time that counts: what that takes stands in the first table.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from side_by_side import begin, parser, table

from ldatlib import open_run
from ldatlib.study import pool, schedule
from ldatlib.study.cluster import Cluster
from ldatlib.study.jobs import Plan

PROJECT = Path(__file__).resolve().parent.parent
# As long as each other, so that two processes have as much to do each.
DEFENCES, QUICK = ("standard", "l2_at", "mart", "ldat"), ("natural", "standard")
# Before what is timed: two short trainings a process.
WARM: dict[str, object] = {"defences": ("natural",), "epochs": 1}
# A run has at most 100 seeds.
FURTHER, QUICK_FURTHER = 98, 20
LONGEST_START = 120.0

# As ``pool.execute`` and ``Cluster.execute``, but for the number of processes.
Engine = Callable[[pool.Work, schedule.Workspace, Plan], Iterator[tuple]]


@contextmanager
def workers(folder: Path, count: int) -> Iterator[Cluster]:
    """A scheduler and its workers on the loopback address, started by their own commands."""
    file = folder / f"scheduler-{count}.json"
    file.unlink(missing_ok=True)
    processes: list[subprocess.Popen[bytes]] = []
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}

    def start(*command: str) -> None:
        options = ("--scheduler-file", str(file), "--no-dashboard")
        dask = [sys.executable, "-m", "dask", *command, *options]
        quiet = subprocess.DEVNULL
        processes.append(subprocess.Popen(dask, env=environment, stdout=quiet, stderr=quiet))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        end = time.monotonic() + LONGEST_START
        while not file.is_file() and time.monotonic() < end:
            time.sleep(0.1)
        for number in range(count):
            local = str(folder / f"worker-{count}-{number}")
            start("worker", "--nthreads", "1", "--memory-limit", "0", "--local-directory", local)
        cluster = Cluster(json.loads(file.read_text(encoding="utf-8"))["address"])
        with cluster.connect() as client:
            client.wait_for_workers(count, timeout=LONGEST_START)
        yield cluster
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait()


@contextmanager
def of_dask(folder: Path, count: int) -> Iterator[Engine]:
    with workers(folder, count) as cluster:
        yield cluster.execute


@contextmanager
def of_joblib(count: int) -> Iterator[Engine]:
    from joblib.externals.loky import get_reusable_executor

    try:
        yield partial(pool.execute, processes=count)
    finally:
        get_reusable_executor(reuse=True).shutdown(wait=True)


def nothing(ws: object, job: object, threads: int | None) -> None:
    """A job that is done at once."""


def seconds_of(engine: Engine, work: pool.Work, settings: dict[str, object]) -> float:
    """Of all trainings of the demo with these settings, in an empty folder."""
    with tempfile.TemporaryDirectory() as root:
        run = open_run("demo", settings, root, jobs=1)
        plan = Plan(run, run.jobs_of("train", run.trainings()))
        started = time.perf_counter()
        for job, reason in engine(work, run, plan):
            if reason:
                raise SystemExit(f"{job.name}: {reason}")
        return time.perf_counter() - started


def empty_jobs(engine: Engine, count: int, further: int, rounds: int) -> tuple[float, float, float]:
    """Seconds of an engine's first run, of a later one, and of each further job of it."""

    def run(jobs: int) -> float:
        return seconds_of(engine, nothing, {"defences": ("natural",), "seeds": jobs})

    first = run(count)
    pairs = [(run(count), run(count + further)) for _ in range(rounds)]
    few, many = (statistics.median(of) for of in zip(*pairs, strict=True))
    return first, few, max(many - few, 0.0) / further


def costs(engines: dict[str, AbstractContextManager[Engine]], further: int, rounds: int) -> None:
    """A row an engine, and what the second costs more than the first."""
    print("two jobs in which nothing is computed, and further ones\n")
    print("| engine | first run, s | later runs, s | each further job, ms |")
    print("| --- | ---: | ---: | ---: |")
    found = {}
    for name, started in engines.items():
        with started as engine:
            first, later, each = found[name] = empty_jobs(engine, 2, further, rounds)
        print(f"| {name} | {first:.2f} | {later:.3f} | {1000 * each:.1f} |")
    ours, theirs = found.values()
    once, each = (theirs[place] - ours[place] for place in (1, 2))
    own, other = found
    more = f"{once + 100 * each:.1f} s more than {own}"
    print(f"\nof a run of 100 jobs, however long, {other} take {more}\n")


def main() -> None:
    options = parser(__doc__).parse_args()
    device = begin(options)
    if device.type != "cpu":
        raise SystemExit("two processes share no card: --device cpu")
    defences = QUICK if options.quick else DEFENCES
    settings: dict[str, object] = {"defences": defences}
    if options.quick:
        settings["epochs"] = 2
    rounds = 1 if options.quick else min(options.rounds, 3)
    with tempfile.TemporaryDirectory() as temporary:
        engines: dict[str, Callable[[], AbstractContextManager[Engine]]] = {
            "two processes of joblib": partial(of_joblib, 2),
            "two workers of Dask": partial(of_dask, Path(temporary), 2),
            "one process of joblib": partial(of_joblib, 1),
            "one worker of Dask": partial(of_dask, Path(temporary), 1),
        }
        two, other = list(engines)[:2]
        pair = {name: engines[name]() for name in (two, other)}
        costs(pair, QUICK_FURTHER if options.quick else FURTHER, rounds)
        print(f"{len(defences)} trainings of the demo\n")
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        for number in range(rounds):
            names = list(engines)[number:] + list(engines)[:number]
            for name in names:
                with engines[name]() as engine:
                    seconds_of(engine, schedule.work, WARM | {"seeds": 4})
                    seconds[name].append(seconds_of(engine, schedule.work, settings))
        run = open_run("demo", settings, temporary)
        images = len(run.dataset.labels["train"])
        table(seconds, two, sum(images * t.config.epochs for t in run.trainings()))
    for of in ("joblib", "Dask"):
        both, single = (min(values) for name, values in seconds.items() if name.endswith(of))
        print(f"efficiency of two over one, {of}: {single / (2 * both):.0%} (fastest rounds)\n")


if __name__ == "__main__":
    main()
