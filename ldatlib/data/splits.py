"""Which image is in which split: the same for everybody, whatever is trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldatlib.errors import UserError

SPLITS = ("train", "val", "test")
# Splits are part of the data, not of a run: every seed of every defence sees the same images.
SPLIT_SEED = 2024

# Images [N, channels, H, W] uint8, and their labels [N] int64.
Labelled = tuple[Tensor, Tensor]


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
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
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
        if mask is not None:
            pictures, classes = pictures[mask], classes[mask]
        # Taking a share of every class leaves what remains ordered by class at its ends.
        order = shuffled(len(classes))[: kept.get(split)]
        images[split], labels[split] = pictures[order], classes[order]
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
    class_names: Sequence[str], images: dict[str, Tensor], labels: dict[str, Tensor]
) -> str:
    """SHA-256 over class names, shapes, pixels and labels of every split, as hex."""
    digest = hashlib.sha256(repr(tuple(class_names)).encode())
    for split in SPLITS:
        digest.update(f"{split} {tuple(images[split].shape)}".encode())
        digest.update(images[split].cpu().contiguous().numpy().tobytes())
        digest.update(labels[split].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
