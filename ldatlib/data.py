"""Images as uint8 tensors, with a validation split that is never trained on.

Two sources: ``digits`` (scikit-learn's 1,797 images of 8x8, embedded in that package, nothing to
download) and ``folder``, any tree ``train/CLASS/*`` and ``test/CLASS/*`` of pictures.

Rule for sizes of a folder: when all pictures are squares of one size they are taken as they are;
otherwise, or when ``image_size`` is given, the shorter side is scaled to ``image_size`` (32 unless
said) with antialiasing and the middle square is cut out. Grey pictures stay grey (one channel)
when every one of them is; a single colour picture makes them all colour.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ldatlib.errors import UserError

DATASETS = ("digits", "folder")
SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
# Splits are part of the data, not of a run: every seed of every defence sees the same images.
SPLIT_SEED = 2024
_GREY_MODES = ("1", "L", "LA", "I;16", "I;16B")


@dataclass(frozen=True)
class Dataset:
    """Three splits of images [N, channels, H, W] uint8 and labels [N] int64 on one device.

    ``flip`` says whether a mirrored image keeps its class (digits do not).
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    fingerprint: str
    flip: bool = True

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
        return to_float(self.images[name][:limit]), self.labels[name][:limit]

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training pixels per channel, in [0,1]."""
        # float64 sums of uint8: the same on every device and for every number of images.
        pixels = self.images["train"].double().div(255)
        mean = pixels.mean((0, 2, 3))
        std = pixels.var((0, 2, 3), correction=0).sqrt().clamp_min(1e-3)
        return mean.tolist(), std.tolist()

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
    test_size: int | None = None,
    title: str | None = None,
) -> Dataset:
    """Load a data set into memory.

    Parameters
    ----------
    name : ``"digits"`` or ``"folder"``.
    root : the folder with ``train/CLASS/*`` and ``test/CLASS/*``; needed by ``"folder"`` alone.
    image_size : side of the square images, at least 8; see the rule in the module's docstring.
    val_size : images taken out of the training split, the same share of every class.
    test_size : keep this many test images (digits: 400 unless said; folder: all).
    title : what the records and figures call the data; a folder's own name unless said.

    Raises
    ------
    UserError : unknown name, no such folder, fewer than two classes, no images, a broken image,
        classes that differ between train and test, or a validation split that leaves nothing.
    """
    if name == "digits":
        if root is not None or image_size is not None:
            raise UserError("digits has no folder and no image size to choose; drop those options")
        return _load_digits(val_size, 400 if test_size is None else test_size)
    if name == "folder":
        if root is None:
            raise UserError("the folder data set needs its path: --set data_root=PATH")
        return _load_folder(Path(root), image_size, val_size, test_size, title)
    raise UserError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")


def _load_digits(val_size: int, test_size: int) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The images are integers from 0 to 16; 255 stands for 16.
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = _shuffled(len(labels))
    images, labels = images[order], labels[order]
    test = _stratified(labels, test_size, "test_size")
    return _assemble(
        "digits",
        "scikit-learn digits (8x8)",
        tuple(str(digit) for digit in range(10)),
        (images[~test], labels[~test]),
        (images[test], labels[test]),
        val_size,
        test_size,
        flip=False,
    )


def _load_folder(
    root: Path, image_size: int | None, val_size: int, test_size: int | None, title: str | None
) -> Dataset:
    if image_size is not None and image_size < 8:
        raise UserError(f"image_size must be at least 8 pixels, not {image_size}")
    listing = {split: _list_folder(root / split) for split in ("train", "test")}
    class_names = tuple(sorted(listing["train"]))
    if len(class_names) < 2:
        raise UserError(f"{root / 'train'} has one class, {class_names[0]!r}; at least 2 needed")
    differing = sorted(set(listing["train"]) ^ set(listing["test"]))
    if differing:
        raise UserError(f"classes differ between train and test under {root}: {differing[0]!r}")
    paths = {s: [p for c in class_names for p in listing[s][c]] for s in listing}
    grey, size = _inspect(paths["train"] + paths["test"], image_size)
    splits = []
    for split in ("train", "test"):
        labels = [k for k, c in enumerate(class_names) for _ in listing[split][c]]
        images = torch.stack([_read_image(path, grey, size) for path in paths[split]])
        order = _shuffled(len(labels))
        splits.append((images[order], torch.tensor(labels)[order]))
    train, test = splits
    if test_size is not None and not 0 < test_size <= len(test[1]):
        raise UserError(f"test_size must lie between 1 and {len(test[1])}, not {test_size}")
    title = title or root.resolve().name
    return _assemble("folder", title, class_names, train, test, val_size, test_size, flip=True)


def _list_folder(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: expected {folder.name}/CLASS/IMAGE files under it")
    listing = {}
    for directory in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
        files = sorted(
            p
            for p in directory.iterdir()
            if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."
        )
        if not files:
            raise UserError(f"no images in {directory}: add some or remove the folder")
        listing[directory.name] = files
    if not listing:
        raise UserError(f"no images in {folder}: expected {folder.name}/CLASS/IMAGE files")
    return listing


def _open(path: Path):
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {path}: {error}; repair or remove it") from error


def _inspect(paths: list[Path], image_size: int | None) -> tuple[bool, int]:
    """Whether all pictures are grey, and the side of the squares to make of them."""
    from PIL import Image

    grey, sizes = True, set()
    for path in paths:
        try:
            with Image.open(path) as image:  # reads the header alone
                grey = grey and image.mode in _GREY_MODES
                sizes.add(image.size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"cannot read the image {path}: {error}; remove it") from error
    if image_size is not None:
        return grey, image_size
    width, height = next(iter(sizes))
    return grey, width if len(sizes) == 1 and width == height else 32


def _read_image(path: Path, grey: bool, size: int) -> Tensor:
    from PIL import Image

    image = _open(path)
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits to 8 instead of scaling them.
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    image = image.convert("L" if grey else "RGB")
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    pixels = torch.from_numpy(np.asarray(image).copy())
    return pixels.unsqueeze(0) if grey else pixels.permute(2, 0, 1).contiguous()


def _assemble(
    name: str,
    title: str,
    class_names: tuple[str, ...],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    val_size: int,
    test_size: int | None,
    *,
    flip: bool,
) -> Dataset:
    val = _stratified(train[1], val_size, "val_size")
    splits = {"train": [v[~val] for v in train], "val": [v[val] for v in train], "test": test}
    images, labels = {}, {}
    for split, (pictures, classes) in splits.items():
        # Taking a share of every class leaves what remains ordered by class at its ends.
        order = _shuffled(len(classes))
        order = order[:test_size] if split == "test" else order
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
