"""Jobs on the workers of a Dask scheduler, on any number of machines: docs/scale.md.

The run's folder is one that every worker sees, or, with ``shared=False``, each has a folder of
its own: the files that a job is made from travel there, and what it leaves comes back.
"""

import hashlib
import logging
import platform
import secrets
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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
    compare,
    facts,
    inputs,
    run_apart,
    run_shared,
    sees,
    settle_worker,
    settling,
)
from ldatlib.study.workspace import Workspace

# Seconds in which a scheduler answers.
_ANSWER = 10
# Seconds after which a worker that came late is seen.
_LOOK = 2

Ended = tuple[Job, str | None]


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
        finally:
            with suppress(Exception):
                client.close(timeout=_ANSWER)

    def check(self, ws: Workspace) -> str:
        """One line about the workers, the folder and where to look on.

        Raises ``UserError`` where a worker has another version or does not see the folder. It
        waits for the first worker, until the deadline of the workspace.
        """
        with self.connect() as client:
            return self._check(client, ws)

    @contextmanager
    def attacking(self, late: Callable[[], bool] = lambda: False) -> Iterator[int]:
        """Inside, an evaluation with as many ``processes`` as given has them on the workers.

        Those that are there at the beginning: each is looked at first, as for ``check``. ``late``
        says when not to wait for the first one any longer.
        """
        with self.connect() as client:
            from distributed import KilledWorker

            found = self._versions(client, late)
            self._settle(client)
            client.run(settle_worker)
            workers = {"workers": list(found), "allow_other_workers": False}
            try:
                with elsewhere(backend="dask", client=client, **workers):
                    yield len(found)
            except KilledWorker as error:
                raise UserError(
                    "workers died under an attack, for memory perhaps; see their logs, the same "
                    "command goes on"
                ) from error
            except (CancelledError, OSError) as error:
                raise self._gone(error) from error

    def _versions(self, client: Any, late: Callable[[], bool]) -> dict[str, dict[str, str]]:
        """``facts`` by the address of the worker, all of which can be used."""
        python = ".".join(client.run_on_scheduler(platform.python_version_tuple)[:2])
        if python != facts()["python"]:
            # It unpickles functions that it passes on.
            raise UserError(
                f"the scheduler at {self.address} has Python {python}, here it is "
                f"{facts()['python']}; start it with the same one"
            )
        while not (workers := client.scheduler_info()["workers"]):
            if late():
                raise UserError(f"no worker came to {self.address} in time; start some")
            time.sleep(0.5)
        for address, worker in workers.items():
            if worker["nthreads"] != 1:
                raise UserError(
                    f"the worker {address} has {worker['nthreads']} threads, which would share one "
                    "state of random numbers; start it with --nthreads 1, and more of them"
                )
        answers = client.run(facts, on_error="return")
        for address, found in answers.items():
            if isinstance(found, BaseException):
                raise UserError(
                    f"the worker {address} cannot use ldatlib ({one_line(found)}); install the "
                    "same version there"
                )
            compare(facts(), found, address)
        return answers

    def _check(self, client: Any, ws: Workspace) -> str:
        answers = self._versions(client, lambda: ws.late)
        if self.shared:
            self._check_folder(client, ws.root)
            folder = f"shared folder {ws.root}"
        else:
            folder = "no shared folder, files travel"
        devices = Counter(found["device"] for found in answers.values())
        hosts = len({found["host"] for found in answers.values()})
        kinds = ", ".join(f"{count} x {device}" for device, count in devices.items())
        return f"{self.address}: {kinds} on {hosts} hosts; {folder}; see {client.dashboard_link}"

    def _check_folder(self, client: Any, root: Path) -> None:
        token = secrets.token_hex(8)
        # Where records will stand: who does not see that folder later has lost it (_patiently).
        seen = root.resolve() / "records" / f".seen-{token}"
        write_bytes(seen, token.encode())
        try:
            answers = client.run(sees, str(seen), token, on_error="return")
        finally:
            seen.unlink(missing_ok=True)
        for address, answer in answers.items():
            if answer is not None:
                raise UserError(
                    f"the worker {address} does not see {root.resolve()} ({one_line(answer)}); "
                    "share the folder at the same path, or add --no-shared-folder"
                )

    def execute(self, work: Work, ws: Workspace, plan: Plan) -> Iterator[Ended]:
        """Each job when it has ended, or with the reason why the deadline left it unfinished."""
        with self.connect() as client:
            self._check(client, ws)
            self._settle(client)
            try:
                yield from _Sending(client, work, ws, plan, self.shared).results()
            except (CancelledError, OSError) as error:
                raise self._gone(error) from error

    def _settle(self, client: Any) -> None:
        client.run_on_scheduler(settling())
        with suppress(Exception):  # workers may have none
            client.run(settling(), nanny=True)

    def _gone(self, error: BaseException) -> BaseException:
        if isinstance(error, UserError):
            return error
        # Dask lists all that was under way.
        lost = isinstance(error, CancelledError)
        reason = "the connection is lost" if lost else one_line(error)
        return UserError(
            f"the scheduler at {self.address} is gone ({reason}); start it again, and the same "
            "command goes on"
        )


def cluster_of(address: str | None, apart: bool) -> Cluster | None:
    """The cluster that a command line names: ``--cluster ADDRESS``, ``--no-shared-folder``."""
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

    def __init__(self, client: Any, work: Work, ws: Workspace, plan: Plan, shared: bool):
        self.client, self.ws, self.plan, self.shared = client, ws, plan, shared
        self.work = cloudpickle.dumps(work)
        self.run = hashlib.sha256(str(ws.root.resolve()).encode()).hexdigest()[:8]
        # On the workers, which have other current folders.
        self.there = _at(ws, ws.root.resolve())

    def results(self) -> Iterator[Ended]:
        from distributed import KilledWorker

        running: dict[Any, Job] = {}
        begun: set[Path] = set()
        ended: set[Path] = set()
        while len(ended) < len(self.plan.jobs):
            free = max(len(self.client.nthreads()), 1) - len(running)
            for job in self.plan.ready(begun, ended)[: max(free, 0)]:
                running[self._submit(job)] = job
                begun.add(job.path)
            for future in _done(self.client, running):
                job = running.pop(future)
                try:
                    reason, files = future.result()
                except KilledWorker as error:
                    raise UserError(
                        f"{job.name} was running on {DEATHS} workers when they died, for memory "
                        "perhaps; see their logs, the same command goes on"
                    ) from error
                for name, content in files.items():
                    write_bytes(self.ws.root / name, content)
                ended.add(job.path)
                yield job, reason

    def _key(self, job: Job) -> str:
        # The same for the same job: one that an interrupted client has left goes on.
        return f"{job.path.stem}-{self.run}"

    def _submit(self, job: Job) -> Any:
        common = {name: fact for name, fact in facts().items() if name in COMMON}
        (there,) = planned.jobs_of(self.there, job.kind, [job.training])
        arguments: tuple = (self.work, pack(self.there, there), common)
        if not self.shared:
            # With the job and not scattered: the scheduler has them where a worker dies.
            arguments += (inputs(self.ws, job), self.run)
        function = imported_there(run_shared if self.shared else run_apart)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            return self.client.submit(function, *arguments, key=self._key(job))


def _done(client: Any, futures: Iterable[Any]) -> Iterable[Any]:
    """Those that have ended, as soon as one has; none when it is time to look for new workers."""
    from distributed import wait

    with client.as_current(), suppress(TimeoutError):
        return wait(list(futures), timeout=_LOOK, return_when="FIRST_COMPLETED").done
    return ()


def _at(ws: Workspace, root: Path) -> Workspace:
    """The same workspace in another folder, with the images that it has."""
    profile = ws.profile
    if profile.data_root is not None:
        profile = replace(profile, data_root=str(path_of(profile.data_root).resolve()))
    moved = Workspace(profile, root, ws.deadline, ws.processes)
    moved.dataset = ws.dataset
    return moved
