"""What a run has kept, with the names of the files, for the report's sections."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from markupsafe import Markup

from ldatlib.report import components
from ldatlib.study.records import Record, read
from ldatlib.study.run import Run
from ldatlib.study.trainings import Training

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Kept(Generic[R]):
    """A record with its file, and the training that it is of."""

    training: Training
    path: Path
    record: R


@dataclass(frozen=True)
class Section:
    """A part of the report; ``notebook``: what makes it, named where there is no ``body``."""

    name: str
    title: str
    notebook: str
    body: Markup | None
    opened: bool = True

    def html(self) -> Markup:
        """The section, or how to make what it lacks."""
        missing = f"Not made yet: runner.py --only {self.notebook}"
        body = self.body or components.paragraph(missing)
        return components.section(self.name, self.title, body, self.opened)


def kept(run: Run, kind: str, trainings: Iterable[Training], shape: type[R]) -> list[Kept[R]]:
    """The records of a kind that are there, one a training."""
    return [
        Kept(job.training, job.path, read(job.path, shape))
        for job in run.jobs_of(kind, trainings)
        if job.path.is_file()
    ]


def by_name(run: Run, kind: str, shape: type[R]) -> dict[str, R]:
    """The first training's records of a kind, by defence."""
    found = kept(run, kind, run.select_seed(run.trainings()), shape)
    return {one.training.name: one.record for one in found}
