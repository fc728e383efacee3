"""Images as uint8 tensors, with a validation split that is never trained on.

Sources: ``digits`` (scikit-learn's 1,797 images of 8x8, embedded in that package, nothing to
download), ``cifar10`` and ``cifar100`` (the official archives, downloaded and verified by
torchvision), and ``folder``, any tree ``train/CLASS/*`` and ``test/CLASS/*`` of pictures.

How pictures of different sizes become one: ``ldatlib.data.pictures``.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ldatlib.data.listing import list_pictures, shown
from ldatlib.data.pictures import read_pictures
from ldatlib.errors import MissingDataError, UserError
from ldatlib.files import read_json

CIFAR = {"cifar10": ("CIFAR-10", "CIFAR10", 10), "cifar100": ("CIFAR-100", "CIFAR100", 100)}
DATASETS = ("digits", *CIFAR, "folder", "published")
SPLITS = ("train", "val", "test")
DESCRIPTION = "data.json"
DOWNLOADS = Path(__file__).resolve().parents[2] / "data" / "downloads"
# Splits are part of the data, not of a run: every seed of every defence sees the same images.
SPLIT_SEED = 2024


@dataclass(frozen=True)
class Dataset:
    """Three splits of images [N, channels, H, W] uint8 and labels [N] int64 on one device.

    ``flip`` says whether a mirrored image keeps its class (digits do not). ``at_hand`` is false for
    a description without pixels (``describe``): sizes and names are right, its images are black,
    and whoever wants to look at them gets a ``MissingDataError``.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    fingerprint: str
    flip: bool = True
    at_hand: bool = True

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.images["train"].shape[1]

    def split(self, name: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Images float32 in [0,1] and labels of a split; the first ``limit`` of them.

        Splits are stored shuffled (test images of a folder included), so the first n images are
        a random sample, the same one for everybody.
        """
        if name not in self.images:
            raise UserError(f"unknown split {name!r}; known: {', '.join(SPLITS)}")
        self._need_pixels()
        return to_float(self.images[name][:limit]), self.labels[name][:limit]

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training pixels per channel, in [0,1]."""
        self._need_pixels()
        # float64 sums of uint8: the same on every device and for every number of images.
        pixels = self.images["train"].double().div(255)
        mean = pixels.mean((0, 2, 3))
        std = pixels.var((0, 2, 3), correction=0).sqrt().clamp_min(1e-3)
        return mean.tolist(), std.tolist()

    def _need_pixels(self) -> None:
        if not self.at_hand:
            raise MissingDataError(
                f"the images of {self.title} are not at hand, only results measured on them; to "
                "compute something new choose a profile with images, such as cifar10-small"
            )

    def subset(self, classes: Sequence[int], train_size: int | None = None) -> "Dataset":
        """Only these classes, relabelled 0, 1, ... in the order given; optionally fewer images."""
        if len(set(classes)) < max(2, len(classes)):
            raise UserError(f"a subset needs at least 2 different classes, not {list(classes)}")
        for label in classes:
            if not 0 <= label < self.num_classes:
                raise UserError(
                    f"no class {label} in {self.name}: its classes are 0 to {self.num_classes - 1}"
                )
        images, labels = {}, {}
        for name in SPLITS:
            old = self.labels[name]
            keep = torch.isin(old, torch.tensor(classes, device=old.device))
            relabel = torch.full((self.num_classes,), -1, dtype=torch.long, device=old.device)
            relabel[list(classes)] = torch.arange(len(classes), device=old.device)
            limit = train_size if name == "train" else None
            images[name] = self.images[name][keep][:limit]
            labels[name] = relabel[old[keep]][:limit]
        class_names = tuple(self.class_names[label] for label in classes)
        return replace(
            self,
            class_names=class_names,
            images=images,
            labels=labels,
            fingerprint=_fingerprint(class_names, images, labels),
        )

    def with_flip(self, flip: bool | None) -> "Dataset":
        """The same images, which training may mirror or not; ``None`` leaves it as it is."""
        return self if flip is None else replace(self, flip=flip)

    def to(self, device: torch.device | str) -> "Dataset":
        return replace(
            self,
            images={k: v.to(device) for k, v in self.images.items()},
            labels={k: v.to(device) for k, v in self.labels.items()},
        )


def to_float(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0,1]."""
    return images.float().div(255)


def augment(
    images: Tensor, *, padding: int, flip: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Random crops of the zero-padded images and random mirror images, [N, C, H, W] as given.

    One gather for the whole batch; works on uint8, so it costs a quarter of the float's memory.
    """
    n, _, height, width = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (n,), device=device, generator=generator)

    rows = torch.arange(height, device=device) + draw(2 * padding + 1).unsqueeze(1)
    columns = torch.arange(width, device=device) + draw(2 * padding + 1).unsqueeze(1)
    if flip:
        columns = torch.where(draw(2).bool().unsqueeze(1), columns.flip(1), columns)
    padded = F.pad(images, (padding,) * 4)
    index = torch.arange(n, device=device).view(-1, 1, 1)
    return padded.movedim(1, 3)[index, rows.unsqueeze(2), columns.unsqueeze(1)].movedim(3, 1)


def load_dataset(
    name: str = "digits",
    *,
    root: str | Path | None = None,
    image_size: int | None = None,
    val_size: int = 300,
    train_size: int | None = None,
    test_size: int | None = None,
    title: str | None = None,
    cache: str | Path | None = None,
    download: bool = True,
    flip: bool | None = None,
) -> Dataset:
    """Load a data set into memory.

    Parameters
    ----------
    name : ``"digits"``, ``"cifar10"``, ``"cifar100"``, ``"folder"``, or ``"published"``: the
        description, without pixels, of the images that a published run was computed on.
    root : for ``"folder"``, and needed there, the one with ``train/CLASS/*`` and
        ``test/CLASS/*``; for CIFAR where the archive lies or is put, ``data/downloads`` unless
        said; for ``"published"`` the folder of the published run.
    image_size : side of the square images, at least 8; see the rule in ``ldatlib.data.pictures``.
    val_size : images taken out of the training split, the same share of every class.
    train_size : keep this many training images, a random sample; all unless said.
    test_size : keep this many test images (digits: 400 unless said; folder: all).
    title : what the records and figures call the data; a folder's own name unless said.
    cache : where the decoded pixels of a large folder are kept; ``None`` decodes every time.
    download : whether CIFAR's archive may be fetched.
    flip : whether a mirrored image keeps its class, so that training may mirror it; ``None``: as
        the data set has it, no for digits, yes for the others.

    Raises
    ------
    MissingDataError : CIFAR is not there and could not be had, or is not allowed to be.
    UserError : unknown name, no such folder, fewer than two classes, no images, a broken image,
        classes that differ between train and test, a validation split that leaves nothing, or an
        archive with a wrong checksum.
    """
    sizes = (val_size, train_size, test_size)
    where = None if root is None else os.path.expanduser(root)
    return _by_name(name, where, image_size, sizes, title, cache, download).with_flip(flip)


def _by_name(
    name: str,
    root: str | None,
    image_size: int | None,
    sizes: tuple[int, int | None, int | None],
    title: str | None,
    cache: str | Path | None,
    download: bool,
) -> Dataset:
    if name == "digits":
        if root is not None or image_size is not None:
            raise UserError("digits has no folder and no image size to choose; drop those options")
        return _load_digits(*sizes)
    if name == "folder":
        if root is None:
            raise UserError("the folder data set needs its path: --set data_root=PATH")
        return _load_folder(Path(root), image_size, *sizes, title, cache)
    if name in CIFAR:
        if image_size is not None:
            raise UserError(f"{name} has images of 32x32; drop image_size")
        return _load_cifar(name, Path(root or DOWNLOADS), *sizes, title, download)
    if name == "published":
        if root is None:
            raise UserError("published results need their folder: --set data_root=PATH")
        return _read_description(Path(root) / DESCRIPTION)
    raise UserError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")


def _load_digits(val_size: int, train_size: int | None, test_size: int | None) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The images are integers from 0 to 16; 255 stands for 16.
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = _shuffled(len(labels))
    images, labels = images[order], labels[order]
    test_size = 400 if test_size is None else test_size
    test = _stratified(labels, test_size, "test_size")
    return _assemble(
        "digits",
        "scikit-learn digits (8x8)",
        tuple(str(digit) for digit in range(10)),
        (images[~test], labels[~test]),
        (images[test], labels[test]),
        val_size,
        train_size,
        test_size,
        flip=False,
    )


def _load_cifar(
    name: str,
    root: Path,
    val_size: int,
    train_size: int | None,
    test_size: int | None,
    title: str | None,
    download: bool,
) -> Dataset:
    import torchvision

    official, kind, _ = CIFAR[name]
    source = getattr(torchvision.datasets, kind)
    unpacked = root / source.base_folder
    if not download and not (unpacked.is_dir() or (root / source.filename).is_file()):
        raise MissingDataError(f"{official} is not in {root}")
    _fetch_cifar(source, official, root)
    parts = [source(root, train=train) for train in (True, False)]
    splits = [
        (torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(p.targets))
        for p in parts
    ]
    _check_test_size(test_size, splits[1][1])
    names, sizes = tuple(parts[0].classes), (val_size, train_size, test_size)
    return _assemble(name, title or official, names, *splits, *sizes, flip=True)


def _fetch_cifar(source, official: str, root: Path) -> None:
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
        f"put it, unchanged, at {archive}; or name the folder that has it with --set data_root=PATH"
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
    return _without_pixels(
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


def describe(dataset: Dataset) -> dict:
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


def _read_description(path: Path) -> Dataset:
    if not path.is_file():
        raise UserError(f"no published results in {path.parent}: {path.name} is missing")
    return _without_pixels(read_json(path))


def _without_pixels(described: dict) -> Dataset:
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


def _load_folder(
    root: Path,
    image_size: int | None,
    val_size: int,
    train_size: int | None,
    test_size: int | None,
    title: str | None,
    cache: str | Path | None,
) -> Dataset:
    if image_size is not None and image_size < 8:
        raise UserError(f"image_size must be at least 8 pixels, not {image_size}")
    listing = list_pictures(root)
    class_names = tuple(sorted(listing["train"]))
    paths = {s: [p for c in class_names for p in listing[s][c]] for s in listing}
    pixels = read_pictures(paths, root, image_size, cache)
    splits = []
    for split in ("train", "test"):
        labels = [k for k, c in enumerate(class_names) for _ in listing[split][c]]
        order = _shuffled(len(labels))
        splits.append((pixels[split][order], torch.tensor(labels)[order]))
    train, test = splits
    _check_test_size(test_size, test[1])
    title = title or shown(root.resolve().name)
    sizes = (val_size, train_size, test_size)
    return _assemble("folder", title, class_names, train, test, *sizes, flip=True)


def _check_test_size(test_size: int | None, labels: Tensor) -> None:
    if test_size is not None and not 0 < test_size <= len(labels):
        raise UserError(f"test_size must lie between 1 and {len(labels)}, not {test_size}")


def _assemble(
    name: str,
    title: str,
    class_names: tuple[str, ...],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    val_size: int,
    train_size: int | None,
    test_size: int | None,
    *,
    flip: bool,
) -> Dataset:
    val = _stratified(train[1], val_size, "val_size")
    most = int((~val).sum())
    if train_size is not None and not 0 < train_size <= most:
        raise UserError(f"train_size must lie between 1 and {most}, not {train_size}")
    kept = {"train": train_size, "test": test_size}
    splits = {"train": [v[~val] for v in train], "val": [v[val] for v in train], "test": test}
    images, labels = {}, {}
    for split, (pictures, classes) in splits.items():
        # Taking a share of every class leaves what remains ordered by class at its ends.
        order = _shuffled(len(classes))[: kept.get(split)]
        images[split], labels[split] = pictures[order], classes[order]
    fingerprint = _fingerprint(class_names, images, labels)
    return Dataset(name, title, class_names, images, labels, fingerprint, flip)


def _shuffled(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(count))


def _stratified(labels: Tensor, size: int, what: str) -> Tensor:
    """Mask of ``size`` images, every class in its share; the first ones of each class."""
    if not 0 < size < len(labels):
        raise UserError(f"{what} must lie between 1 and {len(labels) - 1}, not {size}")
    rank = torch.empty(len(labels))
    for label in labels.unique():
        where = torch.nonzero(labels == label).squeeze(1)
        rank[where] = (torch.arange(len(where)) + 0.5) / len(where)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.argsort(rank, stable=True)[:size]] = True
    for label in labels.unique():
        if mask[labels == label].all():
            raise UserError(f"{what} {size} leaves no image of class {int(label)}; make it smaller")
    return mask


def _fingerprint(class_names, images: dict[str, Tensor], labels: dict[str, Tensor]) -> str:
    """SHA-256 over class names, shapes, pixels and labels of every split, as hex."""
    digest = hashlib.sha256(repr(tuple(class_names)).encode())
    for split in SPLITS:
        digest.update(f"{split} {tuple(images[split].shape)}".encode())
        digest.update(images[split].cpu().contiguous().numpy().tobytes())
        digest.update(labels[split].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
