"""What is missing is computed, side by side, each thing once and after what it is made from."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ldatlib import files
from ldatlib.errors import OutOfTime, UserError
from ldatlib.evaluation.gate import entry as gate
from ldatlib.execution import default_device, full_precision, has_locks
from ldatlib.files import read_small_text, write_json
from ldatlib.study import records
from ldatlib.study.keys import NUMERICS
from ldatlib.study.kinds import KINDS, Kind
from ldatlib.study.provenance import provenance
from ldatlib.study.trainings import Training
from ldatlib.study.workspace import Workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One thing to compute: a kind (of ``KINDS``) of a training. ``operations`` is an estimate."""

    kind: str
    training: Training
    path: Path
    operations: float
    products: tuple[Path, ...] = ()

    @property
    def done(self) -> bool:
        """The record is there, and the weights or images it speaks of."""
        return self.path.is_file() and all(map(files.exists, self.products))


def default_processes() -> int:
    """Jobs side by side: one a core on a CPU, one on a GPU."""
    if torch.cuda.is_available():
        return 1
    # The cores this process may use, which a container or a batch system may have cut down.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def kind_of(name: str) -> Kind:
    """The kind of this name; ``UserError`` with the known ones where there is none."""
    if name not in KINDS:
        raise UserError(f"unknown kind {name!r}; known: {', '.join(KINDS)}")
    return KINDS[name]


def jobs_of(ws: Workspace, name: str, trainings: Iterable[Training]) -> list[Job]:
    """The jobs of a kind, one a training; ``job.done`` tells whether its record is there."""
    kind = kind_of(name)
    # What is published is the records, and the weights and images of some.
    published = ws.profile.dataset == "published"
    return [
        Job(
            name,
            training,
            kind.path(ws, training),
            kind.operations(ws, training),
            () if published else kind.products(ws, training),
        )
        for training in trainings
    ]


def with_needs(ws: Workspace, name: str, trainings: Sequence[Training]) -> list[Job]:
    """These jobs after all those that they are made from, each once."""
    found: dict[Path, Job] = {}

    def add(kind: str, training: Training) -> None:
        (job,) = jobs_of(ws, kind, [training])
        if job.path not in found:
            for needed in KINDS[kind].needs(ws, training):
                add(*needed)
            found[job.path] = job

    for training in trainings:
        add(name, training)
    return list(found.values())


def check(ws: Workspace, jobs: Iterable[Job]) -> None:
    """Raises ``UserError`` where one of these jobs is missing and cannot be computed."""
    for job in {job.path: job for job in jobs}.values():
        if not job.done and (reason := KINDS[job.kind].obstacle(ws, job.training)):
            raise UserError(reason)


def complete(ws: Workspace, jobs: Iterable[Job], processes: int, say: Say = print) -> None:
    """Compute these jobs where they are missing, those first that others are made from.

    Raises ``OutOfTime`` where the deadline of the workspace came before their end.
    """
    unique = list({job.path: job for job in jobs}.values())
    check(ws, unique)
    for job in unique:
        if job.done:
            # Whoever computed it may have been killed between the record and this.
            _tidy(ws, job)
    known: set[tuple[str, str]] = set()
    for stage in sorted({KINDS[job.kind].stage for job in unique}):
        missing = [job for job in unique if KINDS[job.kind].stage == stage and not job.done]
        stopped = []
        # The longest first: at the end no core waits for a long one.
        for job, reason in _execute(ws, sorted(missing, key=lambda j: -j.operations), processes):
            kind = KINDS[job.kind]
            if reason:
                stopped.append(reason)
            else:
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


def _execute(ws: Workspace, jobs: list[Job], processes: int) -> Iterator[tuple[Job, str | None]]:
    """Each job when it is done, or with the reason why the deadline left it unfinished."""
    if processes > 1 and len(jobs) > 1 and not has_locks():
        processes = 1
    if processes == 1 or len(jobs) < 2:
        threads = torch.get_num_threads()
        for job in jobs:
            # A last one alone is computed as it would have been beside others.
            result = work(ws, job, None if processes == 1 else 1)
            torch.set_num_threads(threads)
            yield result
        return
    from joblib import Parallel, delayed

    # One thread each: several processes of one thread beat one process of several on networks
    # this small.
    pool = Parallel(n_jobs=processes, return_as="generator_unordered")
    yield from pool(delayed(work)(ws, job, 1) for job in jobs)


def work(ws: Workspace, job: Job, threads: int | None) -> tuple[Job, str | None]:
    """Compute one job and write its record, last; or say why the deadline left it unfinished."""
    if ws.late:
        return job, f"{job.kind} {job.training.label} did not begin"
    if threads:
        torch.set_num_threads(threads)
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
        return job, str(stop)
    body = {"seconds": round(time.perf_counter() - started, 2), **body}
    content = {**kind.header(ws, job.training), **body, "provenance": provenance(device)}
    records.check(job.kind, content)
    write_json(job.path, content)
    _tidy(ws, job)
    return job, None


def _tidy(ws: Workspace, job: Job) -> None:
    """Remove from what an interrupted job goes on, once its record is there."""
    ws.partial(job.path).clear()
    kind = KINDS[job.kind]
    # Some go on from what they leave.
    for path in set(kind.states(ws, job.training)) - set(kind.products(ws, job.training)):
        path.unlink(missing_ok=True)


def forget(ws: Workspace, job: Job) -> None:
    """Compute this job anew next time, an interrupted one from its beginning."""
    job.path.unlink(missing_ok=True)
    ws.partial(job.path).clear()
    for path in KINDS[job.kind].states(ws, job.training):
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
