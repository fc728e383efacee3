#!/usr/bin/env python3
"""Run the companion's notebooks without a browser and collect tables, figures and the report.

First everything that the notebooks need is computed, side by side, then they are executed.
Everything computed is kept and found again, so a second run does only what is missing.
"""

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
sys.path.insert(0, str(PROJECT))

from ldatlib.errors import INTERRUPTED, UserError, exit_status, one_line  # noqa: E402

NOTEBOOKS = PROJECT / "notebooks"
REPORT = "10"
# Kernels side by side: each takes some 0.6 GiB.
MOST_KERNELS = 4
# Seconds that a kernel may take to start: many on a machine that is busy.
KERNEL_START = 300


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="runner.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--profile", default="demo", help="settings by name (default: demo)")
    add("--only", action="append", metavar="NN", help="only this notebook (repeat for more)")
    add("--from", dest="first", metavar="NN", help="this notebook and those after it")
    add("--set", dest="assignments", action="append", default=[], metavar="NAME=VALUE")
    add("--plugin", dest="plugins", action="append", metavar="FILE", help="a file of your own")
    add("--seeds", metavar="N", help="trainings of each defence; same as --set seeds=N")
    add("--jobs", metavar="N", help="processes side by side (default: one a core; one a GPU)")
    add(
        "--cluster",
        metavar="ADDRESS",
        help="compute on a Dask scheduler's workers: tcp://HOST:8786",
    )
    add("--no-shared-folder", action="store_true", help="they do not see the folder: files travel")
    add("--out", metavar="DIR", help="folder of the run (default: runs/PROFILE)")
    add("--force", action="store_true", help="compute the chosen notebooks' records anew")
    add("--list", action="store_true", help="list the notebooks and stop")
    add("--time-limit", metavar="TIME", help="stop in good order, such as 2h; go on next time")
    add("--dry-run", action="store_true", help="print what would be computed and stop")
    add("--rate", metavar="FLOPS", help="with --dry-run: hours at so many operations a second")
    add("--workers", metavar="N,N", help="with --dry-run and --rate: the time on so many workers")
    add("--bandwidth", metavar="BYTES", help="with --workers: files travel, so many bytes a second")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    status = exit_status(lambda: run(options))
    if status == INTERRUPTED:
        # The client's unfinished tasks would print the kernel's traceback on the way out.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return status


def run(options: argparse.Namespace) -> int:
    from ldatlib.files import path_of
    from ldatlib.study.profiles import load_profile
    from ldatlib.study.settings import parse_assignments, parse_duration

    limit = parse_duration(options.time_limit) if options.time_limit else None
    deadline = limit and time.time() + limit
    if options.list:
        for path in notebooks():
            print(f"{path.name[:2]}  {title(path)}")
        return 0
    chosen = select(notebooks(), options.only, options.first)
    overrides: dict[str, object] = {**parse_assignments(options.assignments)}
    if options.seeds is not None:
        overrides["seeds"] = options.seeds
    if options.plugins:
        overrides["plugins"] = options.plugins
    if overrides.get("data_root"):
        # The notebooks run in a folder of their own.
        overrides["data_root"] = str(path_of(str(overrides["data_root"])).resolve())
    load_profile(options.profile, overrides)  # bad input ends here, before the slow imports
    rate = positive_number("--rate", options.rate) if options.rate is not None else None
    bandwidth = options.bandwidth and positive_number("--bandwidth", options.bandwidth)
    if options.workers is not None and not (options.dry_run and rate):
        raise UserError("--workers needs --dry-run and --rate FLOPS, of one worker")

    from ldatlib.files.locks import alone
    from ldatlib.study.cluster import cluster_of
    from ldatlib.study.run import open_run

    cluster = cluster_of(options.cluster, options.no_shared_folder)
    jobs = whole_number("--jobs", options.jobs) if options.jobs is not None else None
    session = open_run(options.profile, overrides, options.out, jobs, deadline, cluster=cluster)
    if options.dry_run:
        absent = session.plan_without_data()
        plan = {path: session.plan(path.name[:2]) for path in chosen}
        session.check(job for jobs in plan.values() for job in jobs)
        print_plan(session, plan, rate, absent)
        if options.workers is not None and rate is not None:
            from ldatlib.study.jobs import Plan
            from ldatlib.study.makespan import counts_of, table

            left = (job for jobs in plan.values() for job in jobs if absent or not job.done)
            print(
                *table(Plan(session, left), counts_of(options.workers), rate, bandwidth), sep="\n"
            )
        return 0
    plan = {path: session.plan(path.name[:2]) for path in chosen}
    if session.profile.dataset == "published" and not options.only:
        plan = published_part(plan)
    if copies := session.keep_plugins():
        # The notebooks run in a folder of their own, and the originals may change meanwhile.
        overrides["plugins"] = [str(copy.resolve()) for copy in copies]
    if old := session.passed_over():
        print(f"{old} records of an earlier numerics version are passed over (see `ldat clean`)")
    parameters = {
        "profile": options.profile,
        "overrides": overrides,
        "out": str(session.root.resolve()),
        "jobs": session.jobs,
    }
    for path in plan:
        check_parameters(path, parameters)
    with alone(session.root / "runner", "running the notebooks of"):
        if options.force:
            for job in {job.path: job for jobs in plan.values() for job in jobs}.values():
                session.forget(job)
        return execute(session, plan, parameters)


def published_part(plan: dict) -> dict:
    """The notebooks all of whose results are published: without images no other can be run."""
    complete = {path: jobs for path, jobs in plan.items() if all(job.done for job in jobs)}
    absent = [path.name[:2] for path in plan if path not in complete]
    if absent:
        print(f"not published, so left out: {', '.join(absent)}")
    return complete


def notebooks() -> list[Path]:
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def title(path: Path) -> str:
    """The notebook's first heading."""
    import json

    with readable(path):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        return first.splitlines()[0].lstrip("# ")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """``UserError`` for a notebook that is cut, or edited into something else."""
    try:
        yield
    except Exception as error:  # nbformat and papermill raise a dozen kinds
        raise UserError(
            f"{path} is no notebook that can be run ({one_line(error)}); bring back the original"
        ) from error


def select(paths: list[Path], only: list[str] | None, first: str | None) -> list[Path]:
    known = [path.name[:2] for path in paths]
    for number in [*(only or []), *([first] if first else [])]:
        if number not in known:
            raise UserError(f"no notebook {number!r}; known: {', '.join(known)}")
    return [
        path
        for path in paths
        if (not only or path.name[:2] in only) and (not first or path.name[:2] >= first)
    ]


def whole_number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{name} must be a whole number, not {text!r}") from None


def positive_number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"{name} must be a positive number, such as 2e14, not {text!r}")
    return value


def print_plan(session, plan: dict, rate: float | None, absent: bool) -> None:
    """Every job with its operations; at ``rate`` operations a second also its hours."""
    print(f"{session.profile.title} -> {session.root}; {session.jobs} processes")
    if absent:
        print("the data is not at hand yet: sizes are the official ones, nothing can be found")

    def cost(flops: float) -> str:
        hours = f" {flops / rate / 3600:10.3f} h" if rate else ""
        return f"{flops / 1e12:13.3f} TFLOP{hours}"

    seen: set[Path] = set()
    missing = 0.0
    kinds: dict[str, tuple[int, float]] = {}
    for path, jobs in plan.items():
        print(path.name)
        for job in jobs:
            if job.path in seen:
                continue
            seen.add(job.path)
            done = job.done and not absent
            missing += 0 if done else job.operations
            count, flops = kinds.get(job.kind, (0, 0.0))
            kinds[job.kind] = (count + 1, flops + job.operations)
            state = "found" if done else "missing"
            print(f"  {job.kind:12} {job.training.label:32} {cost(job.operations)}  {state}")
    for kind, (count, flops) in kinds.items():
        print(f"all {kind:12} {count:4} jobs {cost(flops)}")
    print(f"missing in all: {cost(missing).strip()}")
    if rate:
        print(f"hours are operations divided by {rate:g} a second, on one device, nothing else")


def check_parameters(path: Path, parameters: dict) -> None:
    """papermill only warns about a parameter that a notebook lacks; here it is an error."""
    from papermill import inspect_notebook

    with readable(path):
        lacking = sorted(set(parameters) - set(inspect_notebook(str(path))))
    if lacking:
        raise UserError(f"{path.name} has no parameter {lacking[0]!r} in its parameters cell")


def execute(session, plan: dict, parameters: dict) -> int:
    # Kernels start in the notebooks' folder: there they find ldatlib although not installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    # The kernel's debugger warns about frozen modules on every start.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    folder = session.root / "notebooks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose --out") from error
    started = time.perf_counter()
    if session.cluster and any(not job.done for jobs in plan.values() for job in jobs):
        print(session.cluster.check(session), flush=True)
    with Progress(plan) as progress:
        session.complete((job for jobs in plan.values() for job in jobs), progress.say)
        release_workers()
        report = [path for path in plan if path.name.startswith(REPORT)]
        others = [path for path in plan if path not in report]
        # Each notebook of the first wave stands for itself; the report reads what they leave.
        for wave in (others, report):
            if not run_notebooks(wave, session, parameters, progress):
                if report:
                    # What there is is shown, and what is missing named.
                    print(f"as far as it went: {write_report(session)}", file=sys.stderr)
                return 1
        if report:
            write_report(session)
    result = session.root / "report.html" if report else folder
    print(f"done in {time.perf_counter() - started:.0f} s; {result}")
    return 0


def release_workers() -> None:
    """The processes that computed keep their memory until they are told to go."""
    from ldatlib.execution import has_locks

    if "joblib" in sys.modules and has_locks():
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def run_notebooks(paths: list[Path], session, parameters: dict, progress: "Progress") -> bool:
    """Execute notebooks side by side; whether all went well. The first failure ends it."""
    from papermill.exceptions import PapermillExecutionError

    from ldatlib.study.schedule import cores

    kernels = max(min(session.jobs, MOST_KERNELS, len(paths)), 1)
    # Kernels share the cores: threads beyond their number wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores() // kernels, 1)))
    pool = ThreadPoolExecutor(kernels)
    folder = session.root / "notebooks"
    ended = threading.Event()
    arguments = (folder, parameters, progress, ended)
    futures = {pool.submit(run_notebook, path, *arguments): path for path in paths}
    try:
        for future, path in futures.items():
            try:
                future.result()
            except PapermillExecutionError as error:
                progress.close()
                if error.ename == "KeyboardInterrupt":
                    raise KeyboardInterrupt from error
                # papermill has put one cell, the parameters, before the one that failed.
                print(
                    f"{path.name} failed in cell {error.cell_index}: "
                    f"{error.ename}: {error.evalue}\nas far as it went: {folder / path.name}",
                    file=sys.stderr,
                )
                return False
            except TimeoutError as error:
                raise UserError(
                    f"the kernel of {path.name} did not start in {KERNEL_START} s; try again, "
                    "with fewer --jobs on a busy machine"
                ) from error
            except OSError as error:
                raise UserError(f"cannot write {folder / path.name}: {error}") from error
    finally:
        ended.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return True


def run_notebook(path, folder: Path, parameters: dict, progress: "Progress", ended) -> None:
    """Execute one notebook, unless the run has ended; a failed one ends it."""
    if ended.is_set():
        return
    import papermill

    progress.begin(path.name)
    try:
        papermill.execute_notebook(
            str(path),
            str(folder / path.name),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(NOTEBOOKS),
            progress_bar=False,
            start_timeout=KERNEL_START,
            # A widget without its kernel is dead, and a megabyte of scripts and data long.
            store_widget_state=False,
            # The kernel's own notices; what a cell raises comes back as an exception.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except BaseException:
        ended.set()
        raise
    progress.end(path.name)


def write_report(session) -> Path:
    """``report.html`` of the run, whatever of it is there; its path."""
    from ldatlib.report import document

    return document.write(session)


class Progress:
    """One bar for the whole run in a terminal, a line a job and a notebook elsewhere.

    The library leaves a record for every job and a log line for every epoch, so the bar needs no
    word from whoever computes: it looks at the files.
    """

    def __init__(self, plan: dict):
        from tqdm import tqdm

        jobs = {job.path: job for jobs in plan.values() for job in jobs if not job.done}
        self.jobs = list(jobs.values())
        work = sum(job.operations for job in self.jobs)
        # A notebook's own cells: a few seconds each, about as long as this much work.
        self.share = 0.01 * work + 1e9
        self.count, self.finished = len(plan), 0
        self.running: dict[str, float] = {}
        self.bar = tqdm(
            total=work + self.share * len(plan),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} passed, {remaining} left",
            disable=not sys.stderr.isatty(),
        )
        self.bar.set_description(f"{len(self.jobs)} to compute")
        self.began = time.perf_counter()
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.close()

    def say(self, text: str) -> None:
        """What was computed: a line where there is no bar."""
        if self.bar.disable:
            print(f"{self._clock()}  {text}", flush=True)

    def begin(self, name: str) -> None:
        with self.lock:
            self.running[name] = time.perf_counter()
            self._describe()

    def end(self, name: str) -> None:
        with self.lock:
            self.finished += 1
            seconds = time.perf_counter() - self.running.pop(name)
            self._describe()
            self.say(f"[{self.finished}/{self.count}] {name} in {seconds:.0f} s")

    def _describe(self) -> None:
        names = ", ".join(name[:2] for name in self.running)
        self.bar.set_description(f"{self.finished} of {self.count} notebooks; {names}")

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.perf_counter() - self.began), 60)
        return f"{minutes:3}:{seconds:02}"

    def _watch(self) -> None:
        while not self.stopped.wait(0.5):
            done = self.finished * self.share + sum(self._done(job) for job in self.jobs)
            self.bar.update(max(min(done, self.bar.total) - self.bar.n, 0))

    @staticmethod
    def _done(job) -> float:
        if job.done:
            return job.operations
        if job.kind != "train":
            return 0.0
        try:
            lines = job.path.with_suffix(".jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0.0
        return job.operations * min(lines / job.training.config.epochs, 1)

    def close(self) -> None:
        self.stopped.set()
        self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
