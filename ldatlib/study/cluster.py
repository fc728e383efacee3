"""Jobs on the workers of a Dask scheduler, on any number of machines: docs/scale.md.

The run's folder is one that every worker sees, or, with ``shared=False``, each has a folder of
its own: the files that a job is made from travel there, and what it leaves comes back.
"""

import asyncio
import hashlib
import importlib
import logging
import platform
import queue
import secrets
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle

from ldatlib.errors import OutOfTime, UserError, one_line
from ldatlib.evaluation.side_by_side import elsewhere
from ldatlib.files import path_of, write_bytes
from ldatlib.study import jobs as planned
from ldatlib.study.jobs import Job, Plan
from ldatlib.study.pool import Work, pack
from ldatlib.study.worker import (
    COMMON,
    DEATHS,
    SHARE,
    Given,
    check_threads,
    compare,
    facts,
    inputs,
    run_apart,
    run_part,
    run_shared,
    sees,
    settling,
)
from ldatlib.study.workspace import Workspace

# Seconds in which a scheduler answers.
_ANSWER = 10
# Seconds after which a worker that came late is seen.
_LOOK = 2

Ended = tuple[Job, str | None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """A scheduler's address, such as ``tcp://HOST:8786``, and whether the folder is shared."""

    address: str
    shared: bool = True

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """A client of the scheduler; ``UserError`` where it, or the package for it, is missing."""
        try:
            from distributed import Client
        except ImportError as error:
            raise UserError(
                "--cluster needs the package distributed: pip install distributed"
            ) from error
        # What went wrong is said here, once.
        for name in ("tornado.application", *logging.root.manager.loggerDict):
            if name.startswith(("distributed", "tornado")):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            client = Client(self.address, timeout=_ANSWER, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"no scheduler answers at {self.address} ({one_line(error)}); start one: dask "
                "scheduler, and workers: dask worker ADDRESS --nthreads 1"
            ) from error
        try:
            yield client
        except (UserError, OutOfTime):
            raise
        except Exception as error:
            if not _lost(client, error):
                raise
            # Dask lists all that was under way.
            cancelled = isinstance(error, CancelledError)
            reason = "what was sent is cancelled" if cancelled else one_line(error)
            raise UserError(
                f"the scheduler at {self.address} is gone, or was restarted ({reason}); start it "
                "again, and its workers, which end with it; then the same command goes on"
            ) from error
        finally:
            with suppress(Exception):
                client.close(timeout=_ANSWER)

    def check(self, ws: Workspace, say: Say = print) -> str:
        """One line about the workers, the folder and where to look on.

        Raises ``UserError`` where a worker has another version or does not see the folder. It
        waits for the first worker, which it says, until the deadline of the workspace.
        """
        with self.connect() as client, self._checked(client, ws, say) as (about, _):
            return about

    @contextmanager
    def attacking(
        self, late: Callable[[], bool] = lambda: False, say: Say = print
    ) -> Iterator[int]:
        """Inside, an evaluation with as many ``processes`` as given has them on the workers.

        As many as are there at the beginning; each is looked at first, as for ``check``. ``late``
        says when not to wait for one any longer: ``OutOfTime`` where none is left.
        """
        with self.connect() as client:
            found = self._versions(client, late, say)
            client.run_on_scheduler(settling())

            def send(function: Callable, calls: list[tuple[bytes, ...]]) -> list:
                return _parts(client, function, calls, late)

            with elsewhere(send):
                yield len(found)

    def _versions(
        self, client: Any, late: Callable[[], bool], say: Say
    ) -> dict[str, dict[str, str]]:
        """``facts`` by the address of the worker, all of which can be used."""
        python = ".".join(client.run_on_scheduler(platform.python_version_tuple)[:2])
        if python != facts()["python"]:
            # It unpickles functions that it passes on.
            raise UserError(
                f"the scheduler at {self.address} has Python {python}, here it is "
                f"{facts()['python']}; start it with the same one"
            )
        if not client.nthreads():
            say(f"waiting for a worker at {self.address}")
        while not (workers := client.nthreads()):
            if late():
                raise UserError(f"no worker came to {self.address} in time; start some")
            time.sleep(0.5)
        for address, threads in workers.items():
            check_threads(address, threads)
        answers = client.run(facts, workers=list(workers), on_error="return")
        for address, found in answers.items():
            if isinstance(found, OSError):
                raise _left(address) from found
            if isinstance(found, BaseException):
                raise UserError(
                    f"the worker {address} cannot use ldatlib ({one_line(found)}); install the "
                    "same version there"
                )
            compare(facts(), found, address)
        return answers

    @contextmanager
    def _checked(self, client: Any, ws: Workspace, say: Say) -> Iterator[tuple[str, str]]:
        """A line about workers and folder; inside, a file lies there that every worker sees."""
        answers = self._versions(client, lambda: ws.late, say)
        token = secrets.token_hex(8)
        # Where records will stand: who does not see that folder later has lost it (_patiently).
        seen = ws.root.resolve() / "records" / f".seen-{token}.tmp"
        devices = Counter(found["device"] for found in answers.values())
        hosts = len({found["host"] for found in answers.values()})
        kinds = ", ".join(f"{count} x {device}" for device, count in devices.items())
        folder = f"shared folder {ws.root}" if self.shared else "no shared folder, files travel"
        about = f"{self.address}: {kinds} on {hosts} hosts; {folder}; see {client.dashboard_link}"
        if not self.shared:
            yield about, ""
            return
        write_bytes(seen, seen.name.encode())
        try:
            seeing = client.run(sees, str(seen), workers=list(answers), on_error="return")
            for address, answer in seeing.items():
                if isinstance(answer, OSError):  # of the connection: sees catches its own
                    raise _left(address) from answer
                if answer is not None:
                    raise UserError(
                        f"the worker {address} does not see {ws.root.resolve()} "
                        f"({one_line(answer)}); {SHARE}"
                    )
            yield about, str(seen)
        finally:
            with suppress(OSError):
                seen.unlink(missing_ok=True)

    def execute(self, work: Work, ws: Workspace, plan: Plan, say: Say = print) -> Iterator[Ended]:
        """Each job when it has ended, or with the reason why the deadline left it unfinished."""
        with self.connect() as client, self._checked(client, ws, say) as (_, seen):
            client.run_on_scheduler(settling())
            yield from _Sending(client, work, ws, plan, seen).results()


def common() -> dict[str, str]:
    """What this process and its workers have in common."""
    return {name: fact for name, fact in facts().items() if name in COMMON}


def cluster_of(address: str | None, apart: bool, processes: int = 1) -> Cluster | None:
    """The cluster that a command line names: ``--cluster ADDRESS``, ``--no-shared-folder``."""
    if address and processes != 1:
        raise UserError("--processes are of this machine; --cluster takes a process a worker")
    if address:
        return Cluster(address, not apart)
    if apart:
        raise UserError("--no-shared-folder is about the workers of a --cluster ADDRESS")
    return None


def _left(address: str) -> UserError:
    return UserError(f"the worker {address} has just left; try again")


def _imported_there(function: Callable) -> Callable:
    """One that calls this function of a module, which is imported where it is called.

    It is pickled by value: a scheduler, which unpickles what it passes on to its workers, needs
    neither that module nor torch.
    """
    module, name = function.__module__, function.__name__

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments)

    return call


def _lost(client: Any, error: Exception) -> bool:
    """Whether the error is of a scheduler that is gone.

    What breaks first, the stream by which the client learns of it, a call that it is in, or one
    that finds it closed, differs from time to time.
    """
    from distributed.comm import CommClosedError

    if client.status != "running" or isinstance(error, (CancelledError, CommClosedError)):
        return True
    if not isinstance(error, OSError):
        return False
    try:
        client.sync(client.scheduler.identity, callback_timeout=_ANSWER)
    except OSError:
        return True
    return False


class _Workers:
    """The workers of a client: no more is sent than they are, and the next when one is free.

    Dask, which knows no durations before it has seen some, would queue the others behind long ones
    while another worker has nothing to do.
    """

    def __init__(self, client: Any):
        self.client = client
        self.running: dict[Any, Any] = {}
        # Futures that have ended, with what holds their results, or the errors in their place.
        self.arrived: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self.known: set[str] = set()
        self.there = 0

    def free(self) -> int:
        """How many may be sent now; where no worker is there, one waits for it."""
        workers = self.client.nthreads().keys()
        if new := workers - self.known:
            self.known |= new
            with suppress(Exception):  # they may have no nannies
                self.client.run(settling(), nanny=True, workers=list(new))
        self.there = len(workers)
        return max(self.there, 1) - len(self.running)

    def send(self, item: Any, function: Callable, *arguments: Any, **options: Any) -> None:
        """Call the function there; ``item``, whatever it is, comes back with the result."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            future = self.client.submit(_imported_there(function), common(), *arguments, **options)
        self.running[future] = item
        # Of a ``wait`` with an end Dask would keep a task a future, each time that it is asked.
        future.add_done_callback(self._fetch)

    def _fetch(self, future: Any) -> None:
        """Ask for the result, for which nobody waits: a worker that dies before it has sent it
        leaves the job to be computed again, while others end."""
        if future.status != "finished":
            self.arrived.put((future, future))
            return
        asked = asyncio.run_coroutine_threadsafe(
            self.client.gather(future, asynchronous=True), self.client.loop.asyncio_loop
        )
        asked.add_done_callback(lambda got: self.arrived.put((future, got)))

    def next(self) -> tuple[Any, Any] | None:
        """An item and its result; None when it is time to look for new workers."""
        from distributed import KilledWorker

        try:
            future, got = self.arrived.get(timeout=_LOOK)
        except queue.Empty:
            return None
        item = self.running.pop(future)
        try:
            return item, got.result()
        except KilledWorker as error:
            raise UserError(
                f"more than {DEATHS} workers died under {item}, for memory perhaps; see their "
                "logs, the same command goes on"
            ) from error
        except ImportError as error:
            raise UserError(
                f"a worker lacks what it needs ({one_line(error)}); install there what is here"
            ) from error


def _parts(
    client: Any, function: Callable, calls: list[tuple[bytes, ...]], late: Callable[[], bool]
) -> list:
    """Results of these calls, in their order."""
    workers, packed = _Workers(client), cloudpickle.dumps(function)
    names = [f"part {number} of an attack" for number in range(1, len(calls) + 1)]
    waiting = deque(zip(names, calls, strict=True))
    found: dict[str, Any] = {}
    while len(found) < len(names):
        for _ in range(min(workers.free(), len(waiting))):
            name, call = waiting.popleft()
            workers.send(name, run_part, packed, *call, pure=False)
        if late() and not workers.there:
            raise OutOfTime("the time is up, and no worker is left")
        if ended := workers.next():
            found.update([ended])
    return [found[name] for name in names]


class _Sending:
    """The jobs of a plan on their way to the workers, and their results on the way back."""

    def __init__(self, client: Any, work: Work, ws: Workspace, plan: Plan, seen: str):
        """``seen``: a file that all see, whose folder is shared; empty where none is."""
        self.workers, self.ws, self.plan, self.seen = _Workers(client), ws, plan, seen
        self.work = cloudpickle.dumps(work)
        self.run = hashlib.sha256(str(ws.root.resolve()).encode()).hexdigest()[:8]
        # One command: what an earlier one has left on workers may have another end.
        self.sending = secrets.token_hex(8)
        # On the workers, which have other current folders.
        self.there = _at(ws, ws.root.resolve())
        self.begun: set[Path] = set()
        self.ended: set[Path] = set()
        self.stopped: set[Path] = set()

    def results(self) -> Iterator[Ended]:
        while len(self.ended) < len(self.plan.jobs):
            yield from self._send()
            if self.ws.late and not self.workers.there:
                for job in self.plan.jobs:
                    if job.path not in self.ended:
                        yield job, f"{job.name} has no worker left"
                return
            if self.workers.running and (arrived := self.workers.next()):
                job, (reason, files) = arrived
                for name, content in files.items():
                    write_bytes(self.ws.root / name, content)
                if not reason:
                    self.ws.forgotten.discard(job.path)
                yield self._end(job, reason)

    def _send(self) -> Iterator[Ended]:
        """Send what is ready while workers are free; what must not begin any more is passed on."""
        free = self.workers.free()
        for job in self.plan.ready(self.begun, self.ended):
            # What it is made from may have stopped by a clock that is ahead of this one.
            if self.ws.late or not self.stopped.isdisjoint(self.plan.needs[job.path]):
                self.begun.add(job.path)
                yield self._end(job, f"{job.name} did not begin")
            elif free > 0:
                self.begun.add(job.path)
                free -= 1
                function, *arguments = self._call(job)
                key = f"{job.path.stem}-{self.sending}"
                self.workers.send(job, function, *arguments, key=key)

    def _end(self, job: Job, reason: str | None) -> Ended:
        self.ended.add(job.path)
        if reason:
            self.stopped.add(job.path)
        return job, reason

    def _call(self, job: Job) -> tuple[Any, ...]:
        """The function that does the job on a worker, and its arguments."""
        (there,) = planned.jobs_of(self.there, job.kind, [job.training])
        packed = pack(self.there, there)
        if self.seen:
            return run_shared, self.work, packed, self.seen
        anew = job.path in self.ws.forgotten
        # With the job and not scattered: the scheduler has them where a worker dies.
        files = inputs(self.ws, job)
        given = Given(files=files, anew=anew, run=self.run, sending=self.sending)
        return run_apart, self.work, packed, given


def _at(ws: Workspace, root: Path) -> Workspace:
    """The same workspace in another folder, with the images that it has."""
    profile = ws.profile
    if profile.data_root is not None:
        profile = replace(profile, data_root=str(path_of(profile.data_root).resolve()))
    moved = Workspace(profile, root, ws.deadline, ws.processes)
    moved.dataset = ws.dataset
    return moved
