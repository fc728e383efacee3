"""What a kind of result is: how it is computed, announced, identified, and what it costs."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch

from ldatlib.errors import UserError
from ldatlib.study import keys, plugins, records
from ldatlib.study.records import Record
from ldatlib.study.trainings import Training
from ldatlib.study.workspace import Workspace


class Kind(ABC):
    """One kind of result of one training: its record, and the files beside it.

    A subclass says ``name`` (a key of ``keys.NUMERICS``), what it ``reads``, and how it is
    computed. Everything here is pure but ``compute``.
    """

    name: ClassVar[str]
    # Kinds of the same training whose records or images it is made from.
    reads: ClassVar[tuple["Kind", ...]] = ()

    @abstractmethod
    def compute(self, ws: Workspace, training: Training, device: torch.device) -> dict:
        """The body of the record, ready for JSON. Raises ``OutOfTime`` at the deadline."""

    @abstractmethod
    def line(self, record: Any, training: Training) -> str:
        """One line that announces a finished record."""

    @abstractmethod
    def settings(self, ws: Workspace, training: Training) -> dict:
        """Everything but the training and the data that decides the numbers.

        In a key an entry that is None is left out, and a dataclass counts by what differs from
        its defaults.
        """

    @abstractmethod
    def operations(self, ws: Workspace, training: Training) -> float:
        """Floating point operations, an estimate."""

    def obstacle(self, ws: Workspace, training: Training) -> str | None:
        """Why this cannot be computed of these data, and the remedy, as one line; else None."""
        return None

    def products(self, ws: Workspace, training: Training) -> tuple[Path, ...]:
        """Files beside the record: without them the job is not done."""
        return ()

    def images_path(self, ws: Workspace, training: Training, *parts: str) -> Path:
        """The attacked images that a kind keeps, or those of a part of it, such as a norm."""
        key = self.key(ws, training)
        names = (self.name, *parts, training.label, key)
        return ws.file("adversarial", *names, suffix=".safetensors")

    def states(self, ws: Workspace, training: Training) -> tuple[Path, ...]:
        """Files from which an interrupted job goes on, beside ``Workspace.partial``."""
        return ()

    def needs(self, ws: Workspace, training: Training) -> list[tuple[str, Training]]:
        """What must be computed before: names of kinds, each with a training."""
        return [("train", training), *((kind.name, training) for kind in self.reads)]

    @property
    def numerics(self) -> dict[str, int]:
        """The numerics versions of all that the record is made from."""
        own = {"train": keys.NUMERICS["train"], self.name: keys.NUMERICS[self.name]}
        for kind in self.reads:
            own |= kind.numerics
        return own

    def key(self, ws: Workspace, training: Training) -> str:
        """What the record is found by (``keys``)."""
        return keys.digest(
            {
                "kind": self.name,
                "numerics": keys.NUMERICS[self.name],
                "training": ws.training_key(training),
                "settings": self.settings(ws, training),
                "reads": {kind.name: kind.key(ws, training) for kind in self.reads},
            }
        )

    def path(self, ws: Workspace, training: Training) -> Path:
        """Where the record is."""
        return ws.file("records", self.name, training.label, self.key(ws, training))

    def read(self, ws: Workspace, training: Training) -> Any:
        """The record, of this kind's structure in ``records.RECORDS``.

        Raises ``UserError`` where it is missing, cut, altered, foreign or of an older shape.
        """
        path, shape = self.path(ws, training), records.RECORDS[self.name]
        record: Record = records.read(path, shape)
        if record.key != self.key(ws, training):
            raise UserError(
                f"the record {path} is of the key {record.key}; delete it, or rename it"
            )
        return record

    def header(self, ws: Workspace, training: Training) -> dict:
        """What every record begins with."""
        return {
            "kind": self.name,
            "numerics": self.numerics,
            "profile": ws.profile.name,
            "defence": training.config.defence.name,
            "title": training.title,
            "seed": training.config.seed,
            "key": self.key(ws, training),
            "training_key": ws.training_key(training),
            "made_from": {kind.name: kind.key(ws, training) for kind in self.reads},
            "plugin": plugins.source_of(training.config),
            "dataset": ws.dataset.title,
            "fingerprint": ws.view(training).fingerprint,
            "config": keys.full(training.config),
            "settings": keys.full(self.settings(ws, training)),
        }
