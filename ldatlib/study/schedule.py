"""What is missing is computed, side by side, each thing once and after what it is made from."""

import json
import os
import time
from collections.abc import Iterable, Iterator

import torch

from ldatlib.errors import OutOfTime, UserError
from ldatlib.evaluation.gate import entry as gate
from ldatlib.execution import default_device, full_precision, has_locks
from ldatlib.files import read_small_text, write_json
from ldatlib.files.locks import alone
from ldatlib.study import pool, records
from ldatlib.study.cluster import Cluster, Say
from ldatlib.study.jobs import Job, Plan
from ldatlib.study.keys import NUMERICS
from ldatlib.study.kinds import KINDS
from ldatlib.study.provenance import provenance
from ldatlib.study.trainings import Training
from ldatlib.study.workspace import Workspace


def default_processes() -> int:
    """Jobs side by side: one a core on a CPU, one a GPU."""
    if torch.cuda.is_available():
        return max(len(pool.visible_devices()), 1)
    return cores()


def cores() -> int:
    """Those that this process may use, which a container or a batch system may have cut down."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(ws: Workspace, jobs: Iterable[Job]) -> None:
    """Raises ``UserError`` where one of these jobs is missing and cannot be computed."""
    for job in {job.path: job for job in jobs}.values():
        if not job.done and (reason := KINDS[job.kind].obstacle(ws, job.training)):
            raise UserError(reason)


def complete(
    ws: Workspace,
    jobs: Iterable[Job],
    processes: int,
    say: Say = print,
    cluster: Cluster | None = None,
) -> None:
    """Compute these jobs where they are missing, each as soon as what it is made from is there.

    On so many processes of this machine, or on the workers of a ``cluster``.

    Raises ``OutOfTime`` where the deadline of the workspace came before their end.
    """
    unique = list({job.path: job for job in jobs}.values())
    check(ws, unique)
    for job in unique:
        if job.done:
            # Whoever computed it may have been killed between the record and this.
            _tidy(ws, job)
    known: set[tuple[str, str]] = set()
    stopped = []
    plan = Plan(ws, (job for job in unique if not job.done))
    for job, reason in _execute(ws, plan, processes, say, cluster):
        kind = KINDS[job.kind]
        if reason:
            stopped.append(reason)
            continue
        # Where files travel, what an interrupted one had come to is here, too.
        _tidy(ws, job)
        record = kind.read(ws, job.training)
        say(kind.line(record, job.training))
        for line in _caveats(record, job.training, known):
            say(line)
    if stopped:
        raise OutOfTime(f"the time is up: {stopped[0]}; {len(stopped)} unfinished")


def _caveats(
    record: records.Record, training: Training, known: set[tuple[str, str]]
) -> Iterator[str]:
    """What its numbers must be read with, a line each; nothing is said of a training twice."""
    # A network with one answer comes first: what else is said of it follows from that.
    for entry in sorted(records.said(record), key=lambda entry: entry.name != "constant"):
        before = {(training.label, "constant"), (training.label, entry.name)}
        if entry.severity == "warning" and not before & known:
            known.add((training.label, entry.name))
            yield f"{training.label}: {entry.text}"


def _execute(
    ws: Workspace, plan: Plan, processes: int, say: Say, cluster: Cluster | None
) -> Iterator[tuple[Job, str | None]]:
    """Each job when it is done, or with the reason why the deadline left it unfinished."""
    if cluster and plan.jobs:
        yield from cluster.execute(work, ws, plan, say)
        return
    if processes > 1 and len(plan.jobs) > 1 and has_locks():
        yield from pool.execute(work, ws, plan, processes)
        return
    last = len(plan.jobs) == 1 and processes > 1
    threads = torch.get_num_threads()
    for job in plan.jobs:
        # A last one alone is computed as it would have been beside others.
        reason = work(ws, job, 1 if last else None)
        torch.set_num_threads(threads)
        yield job, reason


def work(ws: Workspace, job: Job, threads: int | None) -> str | None:
    """Compute one job and write its record, last; or say why the deadline left it unfinished.

    Raises ``Busy`` where another process computes it.
    """
    if ws.late:
        return f"{job.name} did not begin"
    if threads:
        torch.set_num_threads(threads)
    with alone(job.path, "computing"):
        # Of several runs on one folder another one may have been first.
        return None if job.done else _compute(ws, job)


def _compute(ws: Workspace, job: Job) -> str | None:
    kind, device = KINDS[job.kind], default_device()
    started = time.perf_counter()
    try:
        if job.kind == "train":
            body = kind.compute(ws, job.training, device)
        else:
            with full_precision(), gate.heard(ws.view(job.training).class_names) as heard:
                body = kind.compute(ws, job.training, device)
            if "gate" in records.RECORDS[job.kind].__struct_fields__:
                body.setdefault("gate", heard.record())
    except OutOfTime as stop:
        return str(stop)
    body = {"seconds": round(time.perf_counter() - started, 2), **body}
    content = {**kind.header(ws, job.training), **body, "provenance": provenance(device)}
    records.check(job.kind, content)
    write_json(job.path, content)
    _tidy(ws, job)
    return None


def _tidy(ws: Workspace, job: Job) -> None:
    """Remove from what an interrupted job goes on, once its record is there."""
    ws.partial(job.path).clear()
    kind = KINDS[job.kind]
    # Some go on from what they leave.
    for path in set(kind.states(ws, job.training)) - set(kind.products(ws, job.training)):
        path.unlink(missing_ok=True)


def passed_over(ws: Workspace, jobs: Iterable[Job]) -> int:
    """Records of this run that an earlier numerics version of their kinds has made."""
    known, old = {job.path for job in jobs}, 0
    for path in (ws.root / "records").glob("*.json"):
        if path in known:
            continue
        try:
            old += is_earlier(json.loads(read_small_text(path)))
        except (OSError, ValueError, RecursionError):
            continue  # cut: whoever asks for it is told
    return old


def is_earlier(header: object) -> bool:
    """Whether a record's header says that its numbers are of an earlier numerics version."""
    made_by = header.get("numerics") if isinstance(header, dict) else None
    if not isinstance(made_by, dict):
        return False
    return any(
        isinstance(version, int) and version < NUMERICS.get(kind, 0)
        for kind, version in made_by.items()
    )
