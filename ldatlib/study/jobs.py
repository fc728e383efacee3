"""What there is to compute: jobs, what each is made from, and in which order they are best done."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ldatlib import files
from ldatlib.errors import UserError
from ldatlib.study.kinds import KINDS, Kind
from ldatlib.study.trainings import Training
from ldatlib.study.workspace import Workspace


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

    @property
    def name(self) -> str:
        """Such as ``whitebox ldat-s0``."""
        return f"{self.kind} {self.training.label}"

    def __str__(self) -> str:
        return self.name


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


def forget(ws: Workspace, job: Job) -> None:
    """Compute this job anew next time, an interrupted one from its beginning."""
    ws.forgotten.add(job.path)
    job.path.unlink(missing_ok=True)
    ws.partial(job.path).clear()
    for path in KINDS[job.kind].states(ws, job.training):
        path.unlink(missing_ok=True)


class Plan:
    """Jobs and what each waits for, the most urgent first.

    A job is as urgent as the longest chain of work that begins with it: itself, the longest of
    what is made from it, and so on. A job comes after everything that it is made from.

    Attributes
    ----------
    jobs : each once, in the order in which one process computes them.
    needs : of each job's path, the paths of those of these jobs that it is made from.
    chains : of each job's path, the operations of the longest chain that begins with it.
    """

    def __init__(self, ws: Workspace, jobs: Iterable[Job]):
        unique = {job.path: job for job in jobs}
        self.needs: dict[Path, tuple[Path, ...]] = {}
        made_from: dict[Path, list[Path]] = {path: [] for path in unique}
        for path, job in unique.items():
            kind = KINDS[job.kind]
            needed = (KINDS[k].path(ws, t) for k, t in kind.needs(ws, job.training))
            self.needs[path] = tuple(dict.fromkeys(p for p in needed if p in unique))
            for before in self.needs[path]:
                made_from[before].append(path)
        self.chains: dict[Path, float] = {}
        depths: dict[Path, int] = {}

        def measure(path: Path) -> float:
            if path not in self.chains:
                longest = max(map(measure, made_from[path]), default=0.0)
                self.chains[path] = unique[path].operations + longest
            return self.chains[path]

        def depth(path: Path) -> int:
            if path not in depths:
                depths[path] = max((depth(p) + 1 for p in self.needs[path]), default=0)
            return depths[path]

        # A job of no operations is as urgent as what it is made from, and comes after it.
        self.jobs = sorted(unique.values(), key=lambda j: (-measure(j.path), depth(j.path)))

    def ready(self, begun: Iterable[Path], ended: Iterable[Path]) -> list[Job]:
        """Jobs that wait for nothing any more and have not begun, the most urgent first."""
        begun, ended = set(begun), set(ended)
        return [
            j for j in self.jobs if j.path not in begun and ended.issuperset(self.needs[j.path])
        ]

    def longest_chain(self) -> list[Job]:
        """The chain of jobs that bounds the time whatever the number of workers."""
        chain: list[Job] = []
        candidates = [job for job in self.jobs if not self.needs[job.path]]
        while candidates:
            chain.append(max(candidates, key=lambda job: self.chains[job.path]))
            candidates = [job for job in self.jobs if chain[-1].path in self.needs[job.path]]
        return chain
