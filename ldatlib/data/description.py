"""Data sets without their pixels: what is published with results, and what plans are made with."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch

from ldatlib.data.dataset import Dataset
from ldatlib.data.splits import SPLITS
from ldatlib.errors import UserError, one_line
from ldatlib.files import read_json

# Its file in a published run.
DESCRIPTION = "data.json"
# Their labels are in memory.
_MOST_IMAGES = 10**8


_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Description(msgspec.Struct, frozen=True):
    name: str
    title: str
    class_names: Annotated[list[str], msgspec.Meta(min_length=1)]
    sizes: dict[str, _Size]
    shape: Annotated[list[_Size], msgspec.Meta(min_length=3, max_length=3)]
    fingerprint: str
    flip: bool


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
    described = read_json(path)
    try:
        return without_pixels(described)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path} describes no data set of ours: {one_line(error)}") from error


def without_pixels(described: dict[str, Any]) -> Dataset:
    """A data set of these names and sizes whose images are black."""
    # One black pixel, seen everywhere: no memory.
    pixel = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    given = msgspec.convert(described, _Description)
    if set(given.sizes) != set(SPLITS):
        raise ValueError(f"sizes of {', '.join(given.sizes)}, not of {', '.join(SPLITS)}")
    if sum(given.sizes.values()) > _MOST_IMAGES:
        raise ValueError(f"more than {_MOST_IMAGES} images")
    return Dataset(
        given.name,
        given.title,
        tuple(given.class_names),
        {s: pixel.expand(size, *given.shape) for s, size in given.sizes.items()},
        {s: torch.arange(size) % len(given.class_names) for s, size in given.sizes.items()},
        given.fingerprint,
        given.flip,
        at_hand=False,
    )
