"""Data sets without their pixels: what is published with results, and what plans are made with."""

from pathlib import Path
from typing import Any

import torch

from ldatlib.data.dataset import Dataset
from ldatlib.errors import UserError
from ldatlib.files import read_json

# Its file in a published run.
DESCRIPTION = "data.json"


def describe(dataset: Dataset) -> dict[str, Any]:
    """All of a data set but its pixels and labels, ready for JSON; published with results."""
    return {
        "name": dataset.name,
        "title": dataset.title,
        "class_names": list(dataset.class_names),
        "sizes": {split: len(labels) for split, labels in dataset.labels.items()},
        "shape": list(dataset.images["train"].shape[1:]),
        "fingerprint": dataset.fingerprint,
        "flip": dataset.flip,
    }


def read_description(path: Path) -> Dataset:
    """What ``describe`` said, without pixels; ``UserError`` where the file is missing or broken."""
    if not path.is_file():
        raise UserError(f"no published results in {path.parent}: {path.name} is missing")
    return without_pixels(read_json(path))


def without_pixels(described: dict[str, Any]) -> Dataset:
    """A data set of these names and sizes whose images are black."""
    # One black pixel, seen everywhere: no memory.
    pixel = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    classes = len(described["class_names"])
    return Dataset(
        described["name"],
        described["title"],
        tuple(described["class_names"]),
        {s: pixel.expand(size, *described["shape"]) for s, size in described["sizes"].items()},
        {s: torch.arange(size) % classes for s, size in described["sizes"].items()},
        described["fingerprint"],
        described["flip"],
        at_hand=False,
    )
