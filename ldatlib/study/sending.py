"""Jobs, and parts of an attack, on their way to the workers of a Dask client, and results back."""

import asyncio
import hashlib
import importlib
import queue
import secrets
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle

from ldatlib.errors import OutOfTime, UserError, one_line
from ldatlib.files import path_of, write_bytes
from ldatlib.study import jobs as planned
from ldatlib.study.jobs import Job, Plan
from ldatlib.study.pool import Work, pack
from ldatlib.study.worker import (
    COMMON,
    DEATHS,
    Given,
    facts,
    inputs,
    run_apart,
    run_part,
    run_shared,
    settling,
)
from ldatlib.study.workspace import Workspace

# Seconds after which a worker that came late is seen.
_LOOK = 2

Ended = tuple[Job, str | None]


def common() -> dict[str, str]:
    """What this process and its workers have in common."""
    return {name: fact for name, fact in facts().items() if name in COMMON}


def _imported_there(function: Callable) -> Callable:
    """One that calls this function of a module, which is imported where it is called.

    It is pickled by value: a scheduler, which unpickles what it passes on to its workers, needs
    neither that module nor torch.
    """
    module, name = function.__module__, function.__name__

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments)

    return call


class Workers:
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


def parts(
    client: Any, function: Callable, calls: list[tuple[bytes, ...]], late: Callable[[], bool]
) -> list:
    """Results of these calls, in their order."""
    workers, packed = Workers(client), cloudpickle.dumps(function)
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


class Sending:
    """The jobs of a plan on their way to the workers, and their results on the way back."""

    def __init__(self, client: Any, work: Work, ws: Workspace, plan: Plan, seen: str):
        """``seen``: a file that all see, whose folder is shared; empty where none is."""
        self.workers, self.ws, self.plan, self.seen = Workers(client), ws, plan, seen
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
