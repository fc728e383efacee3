"""Any folder of pictures: ``train/CLASS/*`` and ``test/CLASS/*``.

Which files: ``listing``; what becomes of their depth and colours: ``modes``; of their sizes:
``pictures``.
"""

from pathlib import Path

import torch

from ldatlib.data.dataset import Dataset
from ldatlib.data.listing import list_pictures
from ldatlib.data.names import shown
from ldatlib.data.paths import ChainedFiles
from ldatlib.data.pictures import read_pictures
from ldatlib.data.pixels import select
from ldatlib.data.splits import Sizes, shuffled
from ldatlib.errors import UserError


def load_folder(
    root: Path,
    image_size: int | None,
    sizes: Sizes,
    title: str | None,
    cache: str | Path | None,
) -> Dataset:
    """The classes of both folders, in alphabetical order; titled as the folder unless said."""
    if image_size is not None and image_size < 8:
        raise UserError(f"image_size must be at least 8 pixels, not {image_size}")
    listing = list_pictures(root)
    class_names = tuple(sorted(listing["train"]))
    files = {s: ChainedFiles([listing[s][c] for c in class_names]) for s in listing}
    pixels = read_pictures(files, root, image_size, cache)
    splits = []
    for split in ("train", "test"):
        counts = torch.tensor([len(listing[split][c]) for c in class_names])
        labels = torch.arange(len(class_names)).repeat_interleave(counts)
        order = shuffled(len(labels))
        splits.append((select(pixels[split], order), labels[order]))
    train, test = splits
    title = title or shown(root.resolve().name)
    return Dataset.divided("folder", title, class_names, train, test, sizes, flip=True)
