"""(k) The engine of several machines on one: Dask's workers beside joblib's processes.

Trainings of the demo, each time from an empty folder: on two processes as ``runner.py`` starts
them, on two workers of a Dask scheduler that see the same folder, and on one. The workers are there
before, joblib's processes start within the time that counts, as they do in a run.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from side_by_side import begin, measure, parser, table

from ldatlib import open_run
from ldatlib.study.cluster import Cluster

PROJECT = Path(__file__).resolve().parent.parent
# As long as each other, so that two processes have as much to do each.
DEFENCES, QUICK = ("standard", "l2_at", "mart", "ldat"), ("natural", "standard")
LONGEST_START = 120.0


@contextmanager
def workers(folder: Path, count: int) -> Iterator[Cluster]:
    """A scheduler and its workers on the loopback address, started by their own commands."""
    file = folder / f"scheduler-{count}.json"
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


def main() -> None:
    options = parser(__doc__).parse_args()
    device = begin(options)
    defences = QUICK if options.quick else DEFENCES
    settings: dict[str, object] = (
        {"defences": defences, "epochs": 2} if options.quick else {"defences": defences}
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with workers(folder, 1) as one, workers(folder, 2) as two:

            def trained(**engine) -> Callable[[], object]:
                def work() -> None:
                    with tempfile.TemporaryDirectory(dir=folder) as root:
                        run = open_run("demo", settings, root, **engine)
                        run.records("train", run.trainings(), lambda line: None)

                return work

            candidates = {
                "two processes of joblib": trained(jobs=2),
                "two workers of Dask": trained(cluster=two),
                "one worker of Dask": trained(cluster=one),
            }
            print(f"{len(defences)} trainings of the demo\n")
            rounds = 1 if options.quick else min(options.rounds, 3)
            seconds = measure(candidates, device, rounds)
            run = open_run("demo", settings, folder)
            images = len(run.dataset.labels["train"])
            shown = sum(images * training.config.epochs for training in run.trainings())
            table(seconds, "two processes of joblib", shown)
    both, single = (min(seconds[f"{count} of Dask"]) for count in ("two workers", "one worker"))
    print(f"efficiency of two workers over one: {single / (2 * both):.0%} (fastest rounds)\n")


if __name__ == "__main__":
    main()
