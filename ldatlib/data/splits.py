"""Which image is in which split: the same for everybody, whatever is trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldatlib.data.pixels import Mapped, Pixels, pieces, select
from ldatlib.errors import UserError

SPLITS = ("train", "val", "test")
# Splits are part of the data, not of a run: every seed of every defence sees the same images.
SPLIT_SEED = 2024

# Images [N, channels, H, W] uint8, and their labels [N] int64.
Labelled = tuple[Pixels, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Images in the splits: ``val`` are taken out of the training images, ``train`` of those left.

    ``None`` keeps all of them.
    """

    val: int
    train: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        for split, size in (("val", self.val), ("train", self.train), ("test", self.test)):
            none = size is None and split != "val"
            if not none and (not isinstance(size, int) or isinstance(size, bool)):
                raise UserError(f"{split}_size must be a whole number, not {size!r}")


def divide(
    train: Labelled, test: Labelled, sizes: Sizes, class_names: Sequence[str]
) -> tuple[dict[str, Pixels], dict[str, Tensor]]:
    """Images and labels of every split, shuffled, so that fewer of them are a random sample.

    Raises ``UserError`` for a size out of range, or a class
    that would have no image left.
    """
    val = stratified(train[1], sizes.val, "val_size", class_names)
    kept = {"train": sizes.train, "test": sizes.test}
    for split, most in (("train", int((~val).sum())), ("test", len(test[1]))):
        size = kept[split]
        if size is not None and not 0 < size <= most:
            raise UserError(f"{split}_size must lie between 1 and {most}, not {size}")
    parts = {"train": (~val, train), "val": (val, train), "test": (None, test)}
    images, labels = {}, {}
    for split, (mask, (pictures, classes)) in parts.items():
        rows = torch.arange(len(classes)) if mask is None else torch.nonzero(mask).squeeze(1)
        # Taking a share of every class leaves what remains ordered by class at its ends.
        rows = rows[shuffled(len(rows))[: kept.get(split)]]
        images[split], labels[split] = select(pictures, rows), classes[rows]
    return images, labels


def shuffled(count: int) -> Tensor:
    """An order of ``count`` images, [count], always the same one."""
    return torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(count))


def stratified(labels: Tensor, size: int, what: str, class_names: Sequence[str]) -> Tensor:
    """Mask of ``size`` images, every class in its share; the first ones of each class.

    Raises ``UserError`` for a ``size``, called ``what``, out of range or that takes all of a class.
    """
    if not 0 < size < len(labels):
        raise UserError(
            f"{what} must lie between 1 and {len(labels) - 1}, not {size}: there are "
            f"{len(labels)} images, for training too; such as --set {what}={len(labels) // 5 or 1}"
        )
    rank = torch.empty(len(labels))
    for label in labels.unique():
        where = torch.nonzero(labels == label).squeeze(1)
        rank[where] = (torch.arange(len(where)) + 0.5) / len(where)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.argsort(rank, stable=True)[:size]] = True
    for label in labels.unique():
        if mask[labels == label].all():
            name = class_names[int(label)]
            raise UserError(f"{what} {size} leaves no image of class {name!r}; make it smaller")
    return mask


def fingerprint(
    class_names: Sequence[str], images: dict[str, Pixels], labels: dict[str, Tensor]
) -> str:
    """SHA-256 over class names, shapes, pixels and labels of every split, as hex.

    Of pixels in a sealed file it is remembered there, by which rows of it are in which split.
    """
    sources = [pixels for pixels in images.values() if isinstance(pixels, Mapped)]
    seal = sources[0].seal if len(sources) == len(SPLITS) else None
    if seal is None or any(pixels.seal is not seal for pixels in sources):
        return _hashed(class_names, images, labels)
    key = _hashed(class_names, images, labels, by_place=True)
    known = seal.recall(key)
    if known is None:
        known = _hashed(class_names, images, labels)
        seal.remember(key, known)
    return known


def _hashed(
    class_names: Sequence[str],
    images: dict[str, Pixels],
    labels: dict[str, Tensor],
    by_place: bool = False,
) -> str:
    """The fingerprint; ``by_place`` with the images' places in their file for their pixels."""
    digest = hashlib.sha256(repr(tuple(class_names)).encode())
    for split in SPLITS:
        pixels = images[split]
        digest.update(f"{split} {tuple(pixels.shape)}".encode())
        places = isinstance(pixels, Mapped) and by_place
        for piece in [pixels.rows] if places else pieces(pixels):
            digest.update(piece.cpu().contiguous().numpy().data)
        digest.update(labels[split].cpu().contiguous().numpy().data)
    return digest.hexdigest()
