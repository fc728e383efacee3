"""Test images alone, for a network that somebody has trained: by name, from a folder, an archive.

Which images: all, or a random sample of them, always the same; in the order of their source.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldatlib.data.arrays import images_of, labels_of
from ldatlib.data.cifar import CIFAR
from ldatlib.data.dataset import to_float
from ldatlib.data.listing import list_test_pictures
from ldatlib.data.load import load_dataset
from ldatlib.data.names import check_line, shown
from ldatlib.data.npz import read_test_arrays
from ldatlib.data.paths import ChainedFiles
from ldatlib.data.pictures import read_pictures
from ldatlib.data.splits import Sizes, shuffled
from ldatlib.errors import UserError, check_count
from ldatlib.files import as_path

NAMED = ("digits", *CIFAR)


@dataclass(frozen=True)
class Images:
    """``x`` [N, channels, H, W] float32 in [0,1], ``y`` [N] int64; names are empty if not known."""

    title: str
    class_names: tuple[str, ...]
    x: Tensor
    y: Tensor


def load_images(
    data: str | Path,
    *,
    limit: int | None = None,
    root: str | Path | None = None,
    image_size: int | None = None,
    sizes: Sizes | None = None,
) -> Images:
    """Test images and their classes.

    Parameters
    ----------
    data : ``"digits"``, ``"cifar10"``, ``"cifar100"``; a folder with ``test/CLASS/*``, whose
        classes are numbered in alphabetical order; or an archive ``.npz`` with ``x`` (uint8, or
        floats in [0,1]; [N, H, W], [N, H, W, channels] or [N, channels, H, W], told by the shape)
        and ``y``, which may have ``class_names``.
    limit : at most so many images.
    root : where CIFAR's archive lies or is put.
    image_size : side of the squares that a folder's pictures are made to, as of ``load_dataset``.
    sizes : how digits, or CIFAR, are divided; as of ``load_dataset`` unless said.

    Raises
    ------
    UserError : nothing of that name, a shape that can be read in two ways, other types or ranges,
        no images, fewer than two classes; ``MissingDataError`` where CIFAR could not be had.
    """
    if limit is not None:
        check_count("images", limit)
    name = data if isinstance(data, str) else ""
    if root is not None and name not in CIFAR:
        raise UserError(f"only {' and '.join(CIFAR)} lie in a folder of downloads; drop it")
    if name in NAMED:
        if image_size is not None:
            raise UserError(f"{name} has images of one size; drop image_size")
        divided: dict[str, Any] = {}
        if sizes is not None:
            divided = {f"{split}_size": size for split, size in asdict(sizes).items()}
        found = load_dataset(name, root=root, **divided)
        x, y = found.split("test", limit)
        return Images(found.title, found.class_names, x, y)
    path = as_path(data, "data")
    if path.is_dir():
        return _of_folder(path, limit, image_size)
    if image_size is not None:
        raise UserError("image_size is for a folder of pictures; drop it")
    if path.suffix == ".npz":
        return _of_archive(path, limit)
    raise UserError(
        f"no data {shown(str(data))!r}: known are {', '.join(NAMED)}, a folder with test/CLASS/*, "
        "and an .npz archive with x and y"
    )


def _of_folder(root: Path, limit: int | None, image_size: int | None) -> Images:
    if image_size is not None:
        check_count("image_size", image_size, 8)
    listing = list_test_pictures(root)
    classes = listing["test"]
    files = ChainedFiles(list(classes.values()))
    counts = torch.tensor([len(of) for of in classes.values()])
    rows = _sample(len(files), limit)
    chosen = {"test": [files[row] for row in rows.tolist()]}
    # Size and colour are those of a training, which looks at all of the folder.
    whole = (file for split in listing.values() for of in split.values() for file in of)
    pixels = read_pictures(chosen, root, image_size, None, whole)["test"][:]
    y = torch.arange(len(classes)).repeat_interleave(counts)[rows]
    return Images(shown(root.resolve().name), tuple(classes), to_float(pixels), y)


def _of_archive(path: Path, limit: int | None) -> Images:
    values = read_test_arrays(path)
    try:
        x = images_of(values["x"], "x")
        y = labels_of(values["y"], "y", len(x), "x")
        names = tuple(values.get("class_names", ()))
        for name in names:
            check_line("name of a class", name)
    except UserError as error:
        raise UserError(f"{shown(path)}: {error}") from error
    rows = _sample(len(x), limit)
    chosen, y = x[rows], y[rows]
    if chosen.dtype == torch.uint8:
        chosen = to_float(chosen)
    return Images(shown(path.stem), names, chosen, y)


def _sample(count: int, limit: int | None) -> Tensor:
    """Rows in their order: arrays and folders may lie class by class."""
    return shuffled(count)[:limit].sort().values
