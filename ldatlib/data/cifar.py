"""CIFAR-10 and CIFAR-100: the official archives, downloaded and verified by torchvision."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from ldatlib.data.dataset import Dataset
from ldatlib.data.description import without_pixels
from ldatlib.data.splits import Sizes
from ldatlib.errors import MissingDataError, UserError
from ldatlib.files import home

# Name -> its official one, the class in torchvision, the number of classes.
CIFAR = {"cifar10": ("CIFAR-10", "CIFAR10", 10), "cifar100": ("CIFAR-100", "CIFAR100", 100)}
DOWNLOADS = home() / "data" / "downloads"


def load_cifar(
    name: str, root: str | Path | None, sizes: Sizes, title: str | None, download: bool
) -> Dataset:
    """From ``root``, ``DOWNLOADS`` unless said; ``MissingDataError`` where it cannot be had."""
    import torchvision

    root = Path(root or DOWNLOADS)
    official, kind, _ = CIFAR[name]
    source = getattr(torchvision.datasets, kind)
    unpacked = root / source.base_folder
    if not download and not (unpacked.is_dir() or (root / source.filename).is_file()):
        raise MissingDataError(f"{official} is not in {root}")
    _fetch(source, official, root)
    parts = [source(root, train=train) for train in (True, False)]
    train, test = (
        (torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(p.targets))
        for p in parts
    )
    names = tuple(parts[0].classes)
    return Dataset.divided(name, title or official, names, train, test, sizes, flip=True)


def _fetch(source: Any, official: str, root: Path) -> None:
    """The archive in ``root``, verified and unpacked, by torchvision; nothing where it is there."""
    from filelock import FileLock

    archive = root / source.filename
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{source.filename}.lock"):
            if archive.is_file() and not (root / source.base_folder).is_dir():
                _check_archive(archive, source.tgz_md5)
            try:
                source(root, train=True, download=True)
                return
            except RuntimeError as error:
                reason = f"the files of {root / source.base_folder} do not verify ({error})"
    except OSError as error:  # no network, no space, no permission
        reason = str(error)
    raise MissingDataError(
        f"{official} could not be had: {reason}. Without a network: get {source.url} elsewhere and "
        f"put it, unchanged, at {archive}; or name the folder that has it with --set "
        "data_root=PATH (ldat examine: --data-root PATH)"
    )


def _check_archive(archive: Path, expected: str) -> None:
    """torchvision would silently download an archive again that somebody put there by hand."""
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != expected:
        raise UserError(
            f"{archive} has the MD5 checksum {found}, not {expected}: cut short or another file; "
            "delete it to download it anew, or replace it"
        )


def outline(
    name: str, val_size: int, train_size: int | None = None, test_size: int | None = None
) -> Dataset:
    """A data set of CIFAR's sizes without its pixels, to plan with where it is not at hand.

    Its images are black, its fingerprint says so, and nothing must be trained on it.
    """
    official, _, classes = CIFAR[name]
    train = train_size or 50_000 - val_size
    return without_pixels(
        {
            "name": name,
            "title": f"{official} (not at hand)",
            "class_names": list(map(str, range(classes))),
            "sizes": {"train": train, "val": val_size, "test": test_size or 10_000},
            "shape": [3, 32, 32],
            "fingerprint": "not at hand",
            "flip": True,
        }
    )
