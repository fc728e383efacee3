"""One round of ``tools/storm.py``: a run, its kills and faults, and what is finished in it."""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tools"), str(PROJECT / "tests")]

import compare_runs  # noqa: E402
from tiny import TINY  # noqa: E402

# Every process of a round carries it in its environment, whoever its parent is by then.
MARK = "LDAT_STORM_ROUND"
FAULTS = ("twice", "full", "limit", "orphans")
# Of the tests' tiny run as little as there can be of what it leaves at its default.
SETTINGS = TINY | {
    "width": 4,
    "surrogate_depth": 4,
    "surrogate_stages": 1,
    "surrogate_width": 4,
    "ablations": "paper",
    "betas": (0.5,),
    "scrutiny_images": 4,
    "scrutiny_norms": ("linf",),
    "masking_restarts": 1,
    "masking_queries": 2,
    "adaptive_steps": 1,
    "tsne_images": 20,
}
# Notebooks of the rounds that have some: one that draws, one that computes much, the report.
SHOWN = ("01", "03", "10")
LONGEST = 600.0
# What the runner prints, once it has the folder for itself and looked at the plan.
COMPUTING = "computing"


@dataclass
class Counts:
    """What happened in the rounds so far."""

    kills: int = 0
    starts: int = 0
    cut_writes: int = 0
    phases: Counter = field(default_factory=Counter)
    faults: Counter = field(default_factory=Counter)
    files: int = 0
    kept: int = 0
    leftovers: int = 0
    longest_unsaved: float = 0.0
    losses: list[str] = field(default_factory=list)

    def add(self, other: "Counts") -> None:
        for name in ("kills", "starts", "cut_writes", "files", "kept", "leftovers"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.phases += other.phases
        self.faults += other.faults
        self.longest_unsaved = max(self.longest_unsaved, other.longest_unsaved)
        self.losses += other.losses


# --- processes -----------------------------------------------------------------------------------


def start(arguments: list[str], shown: tuple[str, ...], log: Path, limit: int | None = None) -> int:
    """The runner in a process of its own; of its notebooks only ``shown`` are executed.

    ``limit``: the largest file in bytes that it can write.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        # pytest, and whoever started this, may have told an interrupt to be ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8")
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        status = _run(arguments, shown)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(arguments: list[str], shown: tuple[str, ...]) -> int:
    import runner

    execute, run_notebooks = runner.execute, runner.run_notebooks

    def announced(*given):
        print(COMPUTING, flush=True)
        return execute(*given)

    runner.execute = announced
    runner.run_notebooks = lambda paths, *rest: run_notebooks(
        [path for path in paths if path.name[:2] in shown], *rest
    )
    if runner.REPORT not in shown:
        setattr(runner, "write_report", lambda *_: None)  # noqa: B010 - of another type
    return runner.main(arguments)


def kill(pid: int, mark: str) -> None:
    """SIGKILL to a runner and to everything that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    wait(pid)
    kill_all(mark)


def kill_all(mark: str) -> None:
    """SIGKILL to whatever processes of a round are left."""
    while left := marked(mark):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def marked(mark: str) -> list[int]:
    """Living processes of a round beside this one."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ended(pid: int) -> int | None:
    """The exit status of a process, negative for a signal; None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


# --- a round -------------------------------------------------------------------------------------


class Round:
    """One run, killed and started again until it ends."""

    def __init__(self, number: int, seed: int, home: Path, options: argparse.Namespace):
        self.random = random.Random(f"{seed} {number}")
        self.mark = f"{os.getpid()}-{number}"
        os.environ[MARK] = self.mark
        self.options, self.home, self.counts = options, home / f"round-{number}", Counts()
        self.shown = SHOWN if options.notebooks and number % 3 == 2 else ()
        self.jobs = 2 if number % 2 else 1
        self.only = options.only
        self.disk = self.home / "disk"
        self.root = self.disk / "run"
        self.log, self.number = self.home / "log", number
        self.kept: dict[str, object] = {}
        self.status: int | None = None
        self.mounted = False

    def arguments(self, *more: str) -> list[str]:
        chosen = [f"--only={number}" for number in self.only or ()]
        return [*settings(), *chosen, "--out", str(self.root), "--jobs", str(self.jobs), *more]

    def go(self, kills: int, reference: Path) -> Counts:
        self.disk.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(self.disk)]
        if not self.options.no_mount:
            self.mounted = subprocess.run(command, capture_output=True).returncode == 0
        try:
            self.plan = planned(self.root, self.only)
            for index in range(kills):
                # A third of the attempts has a fault, which comes before or instead of the kill.
                if self.options.faults and self.random.random() < 0.3:
                    self.fault(self.random.choice(self.options.faults))
                if not self.attempt((index + self.random.random()) / kills):
                    break
            self.finish()
            self.compare(reference)
        finally:
            kill_all(self.mark)
            if self.mounted:
                subprocess.run(["umount", "-l", str(self.disk)], check=True)
        return self.counts

    def start(self, *more: str, log: Path | None = None, limit: int | None = None) -> int:
        self.counts.starts += 1
        self.began = time.time()
        return start(self.arguments(*more), self.shown, log or self.log, limit)

    def attempt(self, share: float) -> bool:
        """One start and one kill, some way through the run; False where it ended before."""
        before = set(compare_runs.leftovers(self.root))
        pid = self.start()
        if not self.moment(pid, share, before):
            self.check_end(self.status, "a start without a fault")
            return False
        phase = self.phase()
        if phase not in ("start", "notebooks", "report", "end"):
            self.unsaved()
        kill(pid, self.mark)
        self.counts.kills += 1
        self.counts.phases[phase] += 1
        left = set(compare_runs.leftovers(self.root)) - before
        self.counts.cut_writes += any(name.endswith(".tmp") for name in left)
        self.look()
        return True

    def moment(self, pid: int, share: float, before: set[str]) -> bool:
        """Wait for the moment of a kill; False where the runner ended before it came."""
        draw = self.random.random()
        self.status = None
        if draw < 0.08:
            return self.sleep(pid, self.random.uniform(0, 1))
        phases = [job.kind for job in self.plan] + ["notebooks"] * bool(self.shown)
        target = int(share * len(phases))

        def reached() -> bool:
            return COMPUTING in self.said() and self.position() >= target

        if not self.until(pid, reached):
            return False
        if draw < 0.5:

            def writing() -> bool:
                found = self.root.rglob(".*.tmp")
                return any(str(path.relative_to(self.root)) not in before for path in found)

            return self.until(pid, writing, pause=0.0005)
        longest = 20.0 if self.position() == len(self.plan) else 1.0
        return self.sleep(pid, self.random.uniform(0, longest))

    def sleep(self, pid: int, seconds: float) -> bool:
        until = time.monotonic() + seconds
        return self.until(pid, lambda: time.monotonic() >= until)

    def until(self, pid: int, ready, pause: float = 0.005) -> bool:
        deadline = time.monotonic() + LONGEST
        while True:
            self.status = ended(pid)
            if self.status is not None:
                return False
            if ready():
                return True
            if time.monotonic() > deadline:
                raise TimeoutError(f"round {self.number}: nothing happened in {LONGEST:.0f} s")
            time.sleep(pause)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def position(self) -> int:
        """How many of the plan's jobs are before the first that is missing."""
        return next((i for i, job in enumerate(self.plan) if not job.done), len(self.plan))

    def phase(self) -> str:
        """What the run is about to be killed in."""
        said = self.said()
        if COMPUTING not in said:
            return "start"
        where = self.position()
        if where < len(self.plan):
            return self.plan[where].kind
        if not self.shown:
            return "end"
        shown = sum(f"] {number}_" in said for number in self.shown)
        return "report" if shown >= len(self.shown) - 1 else "notebooks"

    def look(self) -> None:
        """What was finished before is still there; what is finished now is remembered."""
        if not self.root.exists():
            return
        now = compare_runs.finished(self.root)
        self.counts.losses += [
            f"round {self.number}: {s}" for s in compare_runs.lost(self.kept, now, self.root)
        ]
        self.kept |= now

    def unsaved(self) -> None:
        """How long nothing was kept: what a kill now costs at most."""
        written = []
        for path in compare_runs.files(self.root, compare_runs.COMPUTED).values():
            # The run still goes on: a state is removed where its training ends.
            with contextlib.suppress(FileNotFoundError):
                written.append(path.stat().st_mtime)
        waited = time.time() - max([*written, self.began])
        self.counts.longest_unsaved = max(self.counts.longest_unsaved, waited)

    # --- faults ---

    def fault(self, name: str) -> None:
        self.counts.faults[name] += 1
        getattr(self, f"_{name}")()
        self.look()

    def _twice(self) -> None:
        """Two runners at once: one is refused in a line, unless both are killed before."""
        logs = [self.log, self.home / "second"]
        pids = [self.start(log=log) for log in logs]
        statuses: list[int | None] = [None, None]
        deadline = time.monotonic() + self.random.uniform(2, 10)
        while time.monotonic() < deadline and None in statuses:
            pairs = zip(statuses, pids, strict=True)
            statuses = [ended(pid) if status is None else status for status, pid in pairs]
            time.sleep(0.01)
        for status, pid, log in zip(statuses, pids, logs, strict=True):
            if status is None:
                kill(pid, self.mark)
            elif status:
                said = log.read_text(encoding="utf-8")
                self.expect(status == 1 and "another process is" in said, f"two at once: {said}")
        kill_all(self.mark)

    def _full(self) -> None:
        """A disk that becomes full at some write: the runner ends with one line that says so."""
        if self.mounted:
            free = shutil.disk_usage(self.disk).free
            room = self.random.randrange(0, 120_000)
            with open(self.disk / "ballast", "wb") as stream:
                stream.write(bytes(max(free - room, 0)))
            pid = self.start()
        else:
            pid = self.start(limit=self.random.randrange(1000, 40_000))
        if self.sleep(pid, self.random.uniform(5, 20)):
            kill(pid, self.mark)
        elif self.status:
            said = self.said()
            # A notebook's failure is named with its cell; what it says is the library's line.
            plain = "cannot write" in said and "Traceback" not in said
            self.expect(self.status == 1 and plain, f"full disk, status {self.status}: {said}")
            self.counts.faults["full, refused"] += 1
        kill_all(self.mark)
        (self.disk / "ballast").unlink(missing_ok=True)

    def _limit(self) -> None:
        """A time limit: the runner stops between two steps or attacks, or has ended before."""
        pid = self.start("--time-limit", f"{self.random.uniform(0.5, 4):.2f}s")
        status = wait(pid)
        self.expect(status in (0, 3), f"time limit, status {status}: {self.said()}")

    def _orphans(self) -> None:
        """The runner is killed alone: its workers and kernels end by themselves, or go on."""
        pid = self.start()
        if self.sleep(pid, self.random.uniform(0, 6)):
            os.kill(pid, signal.SIGKILL)
            wait(pid)
            # A worker may train on: who comes now is told so, in a line.
            deadline = time.monotonic() + 120
            while marked(self.mark) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.expect(not marked(self.mark), "workers of a killed runner stay")
            kill_all(self.mark)

    def expect(self, holds: bool, said: str) -> None:
        if not holds:
            self.counts.losses.append(f"round {self.number}: {said}")

    # --- the end ---

    def finish(self) -> None:
        status = wait(self.start())
        self.check_end(status, "the last start")
        self.look()

    def check_end(self, status: int | None, what: str) -> None:
        self.expect(status == 0, f"{what} ended with {status}: {self.said()}")

    def compare(self, reference: Path) -> None:
        parts = compare_runs.COMPUTED + (compare_runs.SHOWN if self.shown else ())
        said = compare_runs.differences(reference, self.root, parts)
        self.counts.losses += [f"round {self.number}: {line}" for line in said]
        self.counts.files = len(compare_runs.files(self.root, parts))
        self.counts.kept = len(self.kept)
        self.counts.leftovers = len(compare_runs.leftovers(self.root))


def settings() -> list[str]:
    """The settings as the runner takes them."""
    pairs = SETTINGS.items()
    texts = {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in pairs}
    return [f"--set={name}={value}" for name, value in texts.items()]


def planned(root: Path, only: list[str] | None) -> list:
    """The jobs of a run in the order in which one process computes them."""
    from ldatlib.study.jobs import Plan
    from ldatlib.study.notebooks import COMPUTES
    from ldatlib.study.run import open_run

    run = open_run("demo", SETTINGS, root, jobs=1)
    return Plan(run, (job for number in only or COMPUTES for job in run.plan(number))).jobs
