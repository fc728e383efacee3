"""Jobs on the workers of a Dask scheduler, on any number of machines: docs/scale.md.

The run's folder is one that every worker sees, or, with ``shared=False``, each has a folder of
its own: the files that a job is made from travel there, and what it leaves comes back.
"""

import hashlib
import logging
import platform
import queue
import secrets
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle

from ldatlib.errors import UserError, one_line
from ldatlib.evaluation.side_by_side import elsewhere, imported_there
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
    prepare,
    run_apart,
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
                "--cluster needs the package distributed: pip install 'ldatlib[cluster]'"
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
        except (CancelledError, OSError) as error:
            if client.status == "running":
                raise
            # Dask lists all that was under way.
            lost = isinstance(error, CancelledError)
            reason = "the connection is lost" if lost else one_line(error)
            raise UserError(
                f"the scheduler at {self.address} is gone ({reason}); start it again, and its "
                "workers, which end with it; then the same command goes on"
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
        says when not to wait for the first one any longer.
        """
        with self.connect() as client:
            from distributed import KilledWorker

            found = self._versions(client, late, say)
            _settle(client)
            try:
                with elsewhere(partial(prepare, common()), backend="dask", client=client):
                    yield len(found)
            except KilledWorker as error:
                raise UserError(
                    "workers died under an attack, for memory perhaps; see their logs, the same "
                    "command goes on"
                ) from error

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
        waits = False
        while not (workers := client.nthreads()):
            if late():
                raise UserError(f"no worker came to {self.address} in time; start some")
            if not waits:
                say(f"waiting for a worker at {self.address}")
            waits = True
            time.sleep(0.5)
        for address, threads in workers.items():
            check_threads(address, threads)
        answers = client.run(facts, workers=list(workers), on_error="return")
        for address, found in answers.items():
            if isinstance(found, OSError):
                raise UserError(f"the worker {address} has just left; try again") from found
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
        seen = ws.root.resolve() / "records" / f".seen-{token}"
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
            for address, answer in client.run(sees, str(seen), on_error="return").items():
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
            _settle(client)
            yield from _Sending(client, work, ws, plan, seen).results()


def _settle(client: Any) -> None:
    client.run_on_scheduler(settling())
    _settle_nannies(client)


def _settle_nannies(client: Any) -> None:
    with suppress(Exception):  # workers may have none
        client.run(settling(), nanny=True)


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


class _Sending:
    """The jobs of a plan on their way to the workers, and their results on the way back.

    As many are there as there are workers, and the next is chosen when one ends or a worker comes:
    Dask, which knows no durations before it has seen some, would queue the others behind long ones
    while another worker has nothing to do.
    """

    def __init__(self, client: Any, work: Work, ws: Workspace, plan: Plan, seen: str):
        """``seen``: a file that all see, whose folder is shared; empty where none is."""
        self.client, self.ws, self.plan, self.seen = client, ws, plan, seen
        self.work = cloudpickle.dumps(work)
        self.run = hashlib.sha256(str(ws.root.resolve()).encode()).hexdigest()[:8]
        self.sending = secrets.token_hex(8)
        # On the workers, which have other current folders.
        self.there = _at(ws, ws.root.resolve())
        self.arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def results(self) -> Iterator[Ended]:
        from distributed import KilledWorker

        running: dict[Any, Job] = {}
        begun: set[Path] = set()
        ended: set[Path] = set()
        stopped: set[Path] = set()
        known: set[str] = set()
        while len(ended) < len(self.plan.jobs):
            workers = self.client.nthreads()
            if workers.keys() - known:
                known |= workers.keys()
                _settle_nannies(self.client)
            free = max(len(workers), 1) - len(running)
            for job in self.plan.ready(begun, ended):
                # Some worker's clock may be ahead of this one's.
                if self.ws.late or not stopped.isdisjoint(self.plan.needs[job.path]):
                    begun.add(job.path)
                    ended.add(job.path)
                    stopped.add(job.path)
                    yield job, f"{job.name} did not begin"
                elif free > 0:
                    running[self._submit(job)] = job
                    begun.add(job.path)
                    free -= 1
            if self.ws.late and not workers:
                for job in running.values():
                    yield job, f"{job.name} has no worker left"
                return
            future = self._next() if running else None
            if future is None:
                continue
            job = running.pop(future)
            try:
                reason, files = future.result()
            except KilledWorker as error:
                raise UserError(
                    f"{job.name} was running on more than {DEATHS} workers when they died, for "
                    "memory perhaps; see their logs, the same command goes on"
                ) from error
            for name, content in files.items():
                write_bytes(self.ws.root / name, content)
            self.ws.forgotten.discard(job.path)
            ended.add(job.path)
            if reason:
                stopped.add(job.path)
            yield job, reason

    def _next(self) -> Any:
        """A future that has ended; None when it is time to look for new workers."""
        with suppress(queue.Empty):
            return self.arrived.get(timeout=_LOOK)
        return None

    def _key(self, job: Job) -> str:
        # The same for the same job: one that an interrupted client has left goes on, unless it
        # would end at another time.
        told = f"{self.run}-{self.ws.deadline}-{bool(self.seen)}"
        if job.path in self.ws.forgotten:
            told += self.sending
        return f"{job.path.stem}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    def _submit(self, job: Job) -> Any:
        (there,) = planned.jobs_of(self.there, job.kind, [job.training])
        more: str | Given
        if self.seen:
            function, more = imported_there(run_shared), self.seen
        else:
            # With the job and not scattered: the scheduler has them where a worker dies.
            anew = job.path in self.ws.forgotten
            files = inputs(self.ws, job)
            more = Given(files=files, anew=anew, run=self.run, sending=self.sending)
            function = imported_there(run_apart)
        arguments = (self.work, pack(self.there, there), common(), more)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            future = self.client.submit(function, *arguments, key=self._key(job))
        # Of a later ``wait`` Dask would keep a task a job, each time that it is asked.
        future.add_done_callback(self.arrived.put)
        return future


def _at(ws: Workspace, root: Path) -> Workspace:
    """The same workspace in another folder, with the images that it has."""
    profile = ws.profile
    if profile.data_root is not None:
        profile = replace(profile, data_root=str(path_of(profile.data_root).resolve()))
    moved = Workspace(profile, root, ws.deadline, ws.processes)
    moved.dataset = ws.dataset
    return moved
