"""What a worker of a Dask scheduler does with a job, and which files travel to it and back.

``cluster`` sends it; both see the same run, in a shared folder or in folders of their own.
"""

import functools
import hashlib
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import cloudpickle
import torch

from ldatlib.errors import Busy, UserError, one_line
from ldatlib.execution import default_device
from ldatlib.files import PACKAGE, pieces, write_bytes
from ldatlib.files.locks import alone
from ldatlib.study import jobs as planned
from ldatlib.study.jobs import Job
from ldatlib.study.kinds import KINDS
from ldatlib.study.pool import unpack
from ldatlib.study.workspace import Workspace

# Workers that may die under one job before it is taken for their killer.
DEATHS = 20
# Seconds in which a network file system shows a new file.
_SEEN = 15
# Milliseconds between two looks that a process of Dask takes at itself.
_RARELY = 1000
SHARE = "share the folder at the same path, or add --no-shared-folder"
# What a worker has in common with whoever sends it jobs, and the words for it.
COMMON = {"python": "Python", "torch": "torch", "ldatlib": "ldatlib (hash of its source)"}


def facts() -> dict[str, str]:
    """What this process is: its versions, device and host."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": str(torch.__version__),
        "ldatlib": _source(),
        "device": default_device().type,
        "host": socket.gethostname(),
    }


@functools.cache
def _source() -> str:
    # Once: what is loaded stays as it was, whatever becomes of the files.
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def compare(ours: dict[str, str], theirs: dict[str, str], worker: str) -> None:
    """Raises ``UserError`` where a worker has another Python, torch or ldatlib."""
    for name, words in COMMON.items():
        if ours[name] != theirs[name]:
            raise UserError(
                f"the worker {worker} has {words} {theirs[name]}, here it is {ours[name]}; install "
                "the same, and start the worker again"
            )


def check_threads(worker: str, threads: int) -> None:
    """Raises ``UserError`` where a worker would have two jobs in one process."""
    if threads != 1:
        raise UserError(
            f"the worker {worker} has {threads} threads, which would share one state of random "
            "numbers; start it with --nthreads 1, and more of them"
        )


def sees(path: str) -> str | None:
    """Why this worker does not see a file that holds its own name, or cannot write beside it;
    else None."""
    until = time.monotonic() + _SEEN
    while True:
        try:
            if Path(path).read_text(encoding="ascii") == Path(path).name:
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


def settling() -> Callable[[Any], None]:
    """A function that lets a scheduler, nanny or worker of Dask leave the cores to the jobs.

    By themselves each of them wakes 50 times a second to see whether it is late, and a worker
    looks 100 times a second at what a job is doing: a tenth of a small network's training and more.
    The scheduler also learns that jobs go on from where they were when their worker dies.

    It goes to them by value, as no function of a module does: only workers need ldatlib, and the
    seconds and the memory that torch takes.
    """
    rarely, deaths = _RARELY, DEATHS

    def settle(dask_scheduler: Any) -> None:
        for name in ("profile", "tick"):
            callback = dask_scheduler.periodic_callbacks.get(name)
            if callback is not None:
                callback.callback_time = max(callback.callback_time, rarely)
        if hasattr(dask_scheduler, "allowed_failures"):
            # By itself three, after which a job is given up.
            dask_scheduler.allowed_failures = max(dask_scheduler.allowed_failures, deaths)

    return settle


def settle_worker(dask_worker: Any) -> None:
    """Run on a worker, before anything is computed there."""
    import dask

    settling()(dask_worker)
    # Dask's setting for its workers gives freed memory back early: a tenth of the time and more.
    preset = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    name = "MALLOC_TRIM_THRESHOLD_"
    if os.environ.get(name) == str(preset.get(name)):
        del os.environ[name]


def run_part(common: dict[str, str], function: bytes, *arguments: bytes) -> Any:
    """What an evaluation sends of an attack; ``function``, of the arguments, is pickled."""
    with _named():
        prepare(common)
        return cloudpickle.loads(function)(*arguments)


def run_shared(
    common: dict[str, str], work: bytes, packed: bytes, seen: str
) -> tuple[str | None, dict[str, bytes]]:
    """A job in the shared folder, where a file ``seen`` holds its own name; ``work`` is pickled."""
    with _named():
        prepare(common)
        if (reason := sees(seen)) is not None:
            raise UserError(f"does not see {Path(seen).parent.parent} ({reason}); {SHARE}")
        ws, job = unpack(packed)
        return _patiently(ws, partial(cloudpickle.loads(work), ws, job, 1), job.path.parent), {}


def run_apart(
    common: dict[str, str], work: bytes, packed: bytes, given: "Given"
) -> tuple[str | None, dict[str, bytes]]:
    """A job in a folder of this worker's machine, from the files given; with those that it left.

    ``work`` is pickled.
    """
    from distributed import get_worker

    with _named():
        prepare(common)
        # Beside the worker's own folder, which goes with it.
        root = Path(get_worker().local_directory).parent / f"ldat-{given['run']}"
        ws, job = unpack(packed, root)
        if reason := _patiently(ws, partial(_receive, ws, job, given)):
            # What lies here may be older than what was given.
            return reason, {}
        reason = _patiently(ws, partial(cloudpickle.loads(work), ws, job, 1))
        left = _progress(ws, job) if reason else _results(ws, job)
        if job.kind == "train":
            # Nothing is made from it, so that it goes one way alone.
            left = [*pieces(ws.checkpoint_path(job.training, "best")), *left]
        return reason, _contents(ws, left)


class Given(TypedDict):
    """What travels to a job in a folder that is not shared.

    ``files`` by their names in the run's folder; ``anew``: nothing that the worker has of this job
    counts; ``run`` and ``sending`` tell one run and one command from another.
    """

    files: dict[str, bytes]
    anew: bool
    run: str
    sending: str


def _receive(ws: Workspace, job: Job, given: Given) -> str | None:
    """What is given takes the place of what is there, once a command: where the job is sent again,
    as its worker died, it has come further here. Or the reason why the job cannot begin any more.

    Raises ``Busy`` where another process works on it, such as for a command that was interrupted.
    """
    if ws.late:
        return f"{job.name} did not begin"
    mark = ws.root / "given" / job.path.stem
    with alone(job.path, "receiving"):
        if mark.is_file() and mark.read_text(encoding="ascii") == given["sending"]:
            return None
        if given["anew"]:
            planned.forget(ws, job)
        for name, content in given["files"].items():
            write_bytes(ws.root / name, content)
        write_bytes(mark, given["sending"].encode())
    return None


@contextmanager
def _named() -> Iterator[None]:
    """Says of an error that is no bug on which worker it was."""
    try:
        yield
    except (UserError, OSError) as error:
        from distributed import get_worker

        said = error if isinstance(error, UserError) else one_line(error)
        raise UserError(f"on the worker {get_worker().address}: {said}") from error


def prepare(common: dict[str, str]) -> None:
    """Before each job, for a worker may have come later: ``UserError`` where it cannot be used."""
    from distributed import get_worker

    worker = get_worker()
    compare(common, facts(), worker.address)
    check_threads(worker.address, worker.state.nthreads)
    settle_worker(worker)


def _patiently(
    ws: Workspace, step: Callable[[], str | None], there: Path | None = None
) -> str | None:
    """What ``step`` returns, when nobody else works on the job: a dead worker's lock lapses, a
    living one ends. It says by itself when the time is up.

    Raises ``UserError`` where the folder ``there`` is gone: made anew, it would be this machine's.
    """
    while True:
        if there is not None and not there.is_dir():
            raise UserError(
                f"the shared folder {ws.root} is gone (unmounted, or removed); bring it back, and "
                "the same command goes on"
            )
        try:
            return step()
        except Busy:
            time.sleep(1)


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


def inputs(ws: Workspace, job: Job) -> dict[str, bytes]:
    """The contents of the files that a job is made from, by their names in the run's folder."""
    paths = _progress(ws, job)
    for kind, training in KINDS[job.kind].needs(ws, job.training):
        for needed in planned.jobs_of(ws, kind, [training]):
            paths += _results(ws, needed)
    return _contents(ws, paths)


def _contents(ws: Workspace, paths: list[Path]) -> dict[str, bytes]:
    return {str(p.relative_to(ws.root)): p.read_bytes() for p in paths if p.is_file()}
