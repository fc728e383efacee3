"""Any folder of pictures: ``train/CLASS/*`` and ``test/CLASS/*``.

How pictures of different sizes become one: ``ldatlib.data.pictures``.
"""

from pathlib import Path

import torch

from ldatlib.data.dataset import Dataset
from ldatlib.data.pictures import list_folder, read_pictures
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
    listing = {split: list_folder(root / split) for split in ("train", "test")}
    class_names = tuple(sorted(listing["train"]))
    if len(class_names) < 2:
        raise UserError(f"{root / 'train'} has one class, {class_names[0]!r}; at least 2 needed")
    differing = sorted(set(listing["train"]) ^ set(listing["test"]))
    if differing:
        raise UserError(f"classes differ between train and test under {root}: {differing[0]!r}")
    paths = {s: [p for c in class_names for p in listing[s][c]] for s in listing}
    pixels = read_pictures(paths, root, image_size, cache)
    splits = []
    for split in ("train", "test"):
        labels = [k for k, c in enumerate(class_names) for _ in listing[split][c]]
        order = shuffled(len(labels))
        splits.append((pixels[split][order], torch.tensor(labels)[order]))
    train, test = splits
    title = title or root.resolve().name
    return Dataset.divided("folder", title, class_names, train, test, sizes, flip=True)
