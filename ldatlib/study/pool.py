"""Jobs on processes of this machine: each begins as soon as what it is made from is there."""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import cloudpickle
import torch

from ldatlib.data import Dataset
from ldatlib.errors import UserError
from ldatlib.execution import DEVICE_VARIABLE
from ldatlib.study.jobs import Job, Plan, jobs_of
from ldatlib.study.workspace import Workspace

# Computes a job, with so many threads; the reason why the deadline left it unfinished, or None.
Work = Callable[[Workspace, Job, int | None], str | None]
# Seconds after which an idle process leaves, and with it the memory that it keeps.
_IDLE = 300
_THREADS = tuple(
    f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
)

# The data of this process's last jobs, by fingerprint.
_KEPT: dict[str, Dataset] = {}


def execute(
    work: Work, ws: Workspace, plan: Plan, processes: int
) -> Iterator[tuple[Job, str | None]]:
    """Each job when it has ended, or with the reason why the deadline left it unfinished.

    So many run at once, of one thread each: several processes of one thread beat one process of
    several on networks this small. The first error of a job ends the others.
    """
    from joblib.executor import get_memmapping_executor

    threads = str(max((os.cpu_count() or 1) // processes, 1))
    environment = {name: os.environ.get(name, threads) for name in _THREADS}
    devices = visible_devices()
    claims = tempfile.TemporaryDirectory(prefix="ldat-") if devices else None
    placing = {"initializer": take_device, "initargs": (claims.name, devices)} if claims else {}
    # joblib's own, which a later Parallel takes over or replaces: of loky's it takes one that lacks
    # what it needs.
    executor = get_memmapping_executor(
        processes, timeout=None if claims else _IDLE, env=environment, **placing
    )
    running: dict = {}
    begun: set[Path] = set()
    ended: set[Path] = set()
    try:
        while len(ended) < len(plan.jobs):
            # No more than there are processes: a later, more urgent one is not left to wait.
            for job in plan.ready(begun, ended)[: processes - len(running)]:
                running[executor.submit(run_packed, work, pack(ws, job))] = job
                begun.add(job.path)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                reason = future.result()
                ended.add(job.path)
                yield job, reason
    except BrokenProcessPool as error:
        raise UserError(
            "a process that computed was killed, such as for memory; try fewer jobs, the same "
            "command goes on"
        ) from error
    finally:
        # Those with a card of their own are not for the next ones.
        if running or claims:
            executor.shutdown(wait=True, kill_workers=True)
        if claims:
            claims.cleanup()


def visible_devices() -> list[str]:
    """The GPUs as ``CUDA_VISIBLE_DEVICES`` names them, where there are several to place processes
    on; empty where the user has chosen one."""
    count = torch.cuda.device_count()
    if os.environ.get(DEVICE_VARIABLE) or count < 2:
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def take_device(claims: str, devices: list[str]) -> None:
    """Let this process see one GPU: the first that no other has claimed, in turn beyond them."""
    for number in itertools.count():
        with suppress(FileExistsError):
            os.mkdir(os.path.join(claims, str(number)))
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
            return


def pack(ws: Workspace, job: Job) -> bytes:
    """A job with its workspace, for another process: with plug-ins and definitions of a notebook's
    own, without the images, of which the fingerprint goes along."""
    # The workspace first: it loads the plug-ins that the job's classes come from.
    return cloudpickle.dumps((ws, ws.dataset.fingerprint, job))


def unpack(packed: bytes, root: Path | None = None) -> tuple[Workspace, Job]:
    """The job of ``pack`` in this process, which loads the images and keeps them for the next one.

    In the folder ``root``, where one is given. Raises ``UserError`` where the images are not those
    of whoever has sent it.
    """
    ws, fingerprint, job = cloudpickle.loads(packed)
    if root is not None:
        ws.root = root
    if fingerprint in _KEPT:
        ws.dataset = _KEPT[fingerprint]
    elif ws.dataset.fingerprint == fingerprint:
        _KEPT.clear()
        _KEPT[fingerprint] = ws.dataset
    else:
        raise UserError(
            f"other images in {ws.dataset.title} ({ws.dataset.fingerprint[:10]}) than where this "
            f"began ({fingerprint[:10]}); bring the same ones and start again"
        )
    if root is not None:
        (job,) = jobs_of(ws, job.kind, [job.training])
    return ws, job


def run_packed(work: Work, packed: bytes) -> str | None:
    """A job that came from another process, on one thread."""
    return work(*unpack(packed), 1)
