"""Jobs on the workers of a Dask scheduler, on any number of machines: docs/scale.md.

The run's folder is one that every worker sees, or, with ``shared=False``, each has a folder of
its own: the files that a job is made from travel there, and what it leaves comes back.
"""

import hashlib
import logging
import os
import platform
import secrets
import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ldatlib.errors import Busy, UserError, one_line
from ldatlib.execution import default_device
from ldatlib.files import PACKAGE, path_of, pieces, write_bytes
from ldatlib.study import jobs as planned
from ldatlib.study.jobs import Job, Plan
from ldatlib.study.kinds import KINDS
from ldatlib.study.pool import Work, pack, unpack
from ldatlib.study.workspace import Workspace

# Workers that may die under one job before it is taken for their killer.
_DEATHS = 20
# Seconds in which a scheduler answers, and in which a network file system shows a new file.
_ANSWER, _SEEN = 10, 15
# What a worker has in common with whoever sends it jobs, and the words for it.
_COMMON = {"python": "Python", "torch": "torch", "ldatlib": "ldatlib (hash of its source)"}

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

    def _check(self, client: Any, ws: Workspace) -> str:
        while not (workers := client.scheduler_info()["workers"]):
            if ws.late:
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
            answers = client.run(_sees, str(seen), token, on_error="return")
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
            with suppress(Exception):  # a scheduler without ldatlib keeps its own limit
                client.run_on_scheduler(_allow_deaths)
            try:
                yield from _Sending(client, work, ws, plan, self.shared).results()
            except (CancelledError, OSError) as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(
                    f"the scheduler at {self.address} is gone ({one_line(error)}); start it "
                    "again, and the same command goes on"
                ) from error


def cluster_of(address: str | None, apart: bool) -> Cluster | None:
    """The cluster that a command line names: ``--cluster ADDRESS``, ``--no-shared-folder``."""
    if address:
        return Cluster(address, not apart)
    if apart:
        raise UserError("--no-shared-folder is about the workers of a --cluster ADDRESS")
    return None


class _Sending:
    """The jobs of a plan on their way to the workers, and their results on the way back."""

    def __init__(self, client: Any, work: Work, ws: Workspace, plan: Plan, shared: bool):
        self.client, self.work, self.ws, self.plan, self.shared = client, work, ws, plan, shared
        self.run = hashlib.sha256(str(ws.root.resolve()).encode()).hexdigest()[:8]
        self.futures: dict[Path, Any] = {}
        # On the workers, which have other current folders.
        self.there = _at(ws, ws.root.resolve())

    def results(self) -> Iterator[Ended]:
        from distributed import KilledWorker, as_completed

        ended: set[Path] = set()
        arriving = as_completed([], loop=self.client.loop)

        def send() -> None:
            able = self.plan.jobs
            if not self.shared:
                # Files that travel have come back first, and are not held for many at once.
                workers = len(self.client.scheduler_info()["workers"])
                free = max(workers, 1) + 1 - (len(self.futures) - len(ended))
                able = self.plan.ready(self.futures, ended)[:free]
            # Of a shared folder all at once: Dask keeps each waiting for its futures.
            for job in able:
                if job.path not in self.futures:
                    arriving.add(self._submit(job))

        send()
        by_key = {self._key(job): job for job in self.plan.jobs}
        while len(ended) < len(self.plan.jobs):
            future = next(arriving)
            job = by_key[future.key]
            try:
                reason, files = future.result()
            except KilledWorker as error:
                raise UserError(
                    f"{job.name} was running on {_DEATHS} workers when they died, for memory "
                    "perhaps; see their logs, the same command goes on"
                ) from error
            for name, content in files.items():
                write_bytes(self.ws.root / name, content)
            ended.add(job.path)
            yield job, reason
            send()

    def _key(self, job: Job) -> str:
        # The same for the same job: one that an interrupted client has left goes on.
        return f"{job.path.stem}-{self.run}"

    def _submit(self, job: Job) -> Any:
        after = [self.futures[path] for path in self.plan.needs[job.path]]
        common = {name: facts()[name] for name in _COMMON}
        (there,) = planned.jobs_of(self.there, job.kind, [job.training])
        packed = pack(self.there, there)
        if self.shared:
            arguments: tuple = (run_shared, self.work, packed, common, after)
        else:
            # With the job and not scattered: the scheduler has them where a worker dies.
            arguments = (run_apart, self.work, packed, common, _inputs(self.ws, job), self.run)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            self.futures[job.path] = self.client.submit(
                *arguments, key=self._key(job), priority=self.plan.chains[job.path] / 1e9
            )
        return self.futures[job.path]


# --- on a worker ---------------------------------------------------------------------------------


def facts() -> dict[str, str]:
    """What this process is: its versions, device and host."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": torch.__version__,
        "ldatlib": _source(),
        "device": default_device().type,
        "host": socket.gethostname(),
    }


def _source() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def compare(ours: dict[str, str], theirs: dict[str, str], worker: str) -> None:
    """Raises ``UserError`` where a worker has another Python, torch or ldatlib."""
    for name, words in _COMMON.items():
        if ours[name] != theirs[name]:
            raise UserError(
                f"the worker {worker} has {words} {theirs[name]}, here it is {ours[name]}; install "
                "the same, and start the worker again"
            )


def _sees(path: str, token: str) -> str | None:
    """Why this worker does not see a new file, or cannot write beside it; else None."""
    until = time.monotonic() + _SEEN
    while True:
        try:
            if Path(path).read_text(encoding="ascii") == token:
                beside = Path(f"{path}-{os.getpid()}")
                beside.touch()
                beside.unlink()
                return None
            reason = "another file"
        except OSError as error:
            reason = str(error.strerror)
        if time.monotonic() > until:
            return reason
        time.sleep(0.5)


def _allow_deaths(dask_scheduler: Any) -> None:
    # By itself three, after which a job is given up; ours go on from where they were.
    dask_scheduler.allowed_failures = max(dask_scheduler.allowed_failures, _DEATHS)


def run_shared(
    work: Work, packed: bytes, common: dict[str, str], after: list
) -> tuple[str | None, dict[str, bytes]]:
    """A job in the shared folder; ``after`` has what it waited for."""
    with _named():
        _prepare(common)
        ws, job = unpack(packed)
        return _patiently(work, ws, job, job.path.parent), {}


def run_apart(
    work: Work, packed: bytes, common: dict[str, str], given: dict[str, bytes], run: str
) -> tuple[str | None, dict[str, bytes]]:
    """A job in a folder of this worker's machine, from the files given; with those that it left."""
    from distributed import get_worker

    with _named():
        _prepare(common)
        ws, job = unpack(packed)
        # Beside the worker's own folder, which goes with it.
        ws.root = Path(get_worker().local_directory).parent / f"ldat-{run}"
        (job,) = planned.jobs_of(ws, job.kind, [job.training])
        for name, content in given.items():
            if not (ws.root / name).exists():
                write_bytes(ws.root / name, content)
        reason = _patiently(work, ws, job)
        left = _progress(ws, job) if reason else _results(ws, job)
        if job.kind == "train":
            # Nothing is made from it, so that it goes one way alone.
            left = [*pieces(ws.checkpoint_path(job.training, "best")), *left]
        return reason, _contents(ws, left)


@contextmanager
def _named() -> Iterator[None]:
    """Says of a user's error on which worker it was."""
    try:
        yield
    except UserError as error:
        from distributed import get_worker

        raise UserError(f"on the worker {get_worker().address}: {error}") from error


def _prepare(common: dict[str, str]) -> None:
    """A worker that came later is compared, too."""
    from distributed import get_worker

    compare(common, facts(), get_worker().address)
    # Dask's setting for its workers gives freed memory back early: a tenth of the time and more.
    import dask

    preset = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    name = "MALLOC_TRIM_THRESHOLD_"
    if os.environ.get(name) == str(preset.get(name)):
        del os.environ[name]


def _patiently(work: Work, ws: Workspace, job: Job, there: Path | None = None) -> str | None:
    """The job, when nobody else works on it: a dead worker's lock lapses, a living one ends.

    Raises ``UserError`` where the folder ``there`` is gone: made anew, it would be this machine's.
    """
    while True:
        if there is not None and not there.is_dir():
            raise UserError(
                f"the shared folder {ws.root} is gone (unmounted, or removed); bring it back, and "
                "the same command goes on"
            )
        try:
            return work(ws, job, 1)
        except Busy:
            time.sleep(1)


# --- files that travel ---------------------------------------------------------------------------


def _at(ws: Workspace, root: Path) -> Workspace:
    """The same workspace in another folder, with the images that it has."""
    profile = ws.profile
    if profile.data_root is not None:
        profile = replace(profile, data_root=str(path_of(profile.data_root).resolve()))
    moved = Workspace(profile, root, ws.deadline, ws.processes)
    moved.dataset = ws.dataset
    return moved


def _results(ws: Workspace, job: Job) -> list[Path]:
    """What a finished job leaves."""
    products = KINDS[job.kind].products(ws, job.training)
    # The record last: it says that the others are there.
    return [piece for path in products for piece in pieces(path)] + [job.path]


def _progress(ws: Workspace, job: Job) -> list[Path]:
    """From what an interrupted job goes on."""
    states = KINDS[job.kind].states(ws, job.training)
    kept = (ws.root / "partial").glob(f"{job.path.stem}.*.safetensors")
    return [*(piece for path in states for piece in pieces(path)), *kept]


def _inputs(ws: Workspace, job: Job) -> dict[str, bytes]:
    """The contents of the files that a job is made from, by their names in the run's folder."""
    paths = _progress(ws, job)
    for kind, training in KINDS[job.kind].needs(ws, job.training):
        for needed in planned.jobs_of(ws, kind, [training]):
            paths += _results(ws, needed)
    return _contents(ws, paths)


def _contents(ws: Workspace, paths: list[Path]) -> dict[str, bytes]:
    return {str(p.relative_to(ws.root)): p.read_bytes() for p in paths if p.is_file()}
