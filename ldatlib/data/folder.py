"""Any folder of pictures: ``train/CLASS/*`` and ``test/CLASS/*``.

Which files: ``listing``; what becomes of their depth and colours: ``modes``; of their sizes:
``pictures``.
"""

from pathlib import Path

import torch

from ldatlib.data.dataset import Dataset
from ldatlib.data.listing import list_pictures, shown
from ldatlib.data.pictures import read_pictures
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
    paths = {s: [p for c in class_names for p in listing[s][c]] for s in listing}
    pixels = read_pictures(paths, root, image_size, cache)
    splits = []
    for split in ("train", "test"):
        labels = [k for k, c in enumerate(class_names) for _ in listing[split][c]]
        order = shuffled(len(labels))
        splits.append((pixels[split][order], torch.tensor(labels)[order]))
    train, test = splits
    title = title or shown(root.resolve().name)
    return Dataset.divided("folder", title, class_names, train, test, sizes, flip=True)
