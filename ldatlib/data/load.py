"""Data sets by name."""

from pathlib import Path

from ldatlib.data.cifar import CIFAR, load_cifar
from ldatlib.data.dataset import Dataset
from ldatlib.data.description import DESCRIPTION, read_description
from ldatlib.data.digits import load_digits
from ldatlib.data.folder import load_folder
from ldatlib.data.npz import load_npz
from ldatlib.data.splits import Sizes
from ldatlib.errors import UserError, check_count
from ldatlib.files import as_path

# Those that need a path, and how that is said.
_NEEDS = {
    "folder": "the folder data set needs its path",
    "npz": "the npz data set needs its file",
    "published": "published results need their folder",
}
DATASETS = ("digits", *CIFAR, "folder", "npz", "published")


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
    name : ``"digits"``, ``"cifar10"``, ``"cifar100"``, ``"folder"``, ``"npz"``, or
        ``"published"``: the description, without pixels, of the images that a published run was
        computed on.
    root : for ``"folder"``, and needed there, the one with ``train/CLASS/*`` and
        ``test/CLASS/*``; for ``"npz"``, and needed there, the file, with ``x_train``, ``y_train``,
        ``x_test``, ``y_test`` and what else ``Dataset.from_arrays`` may be told; for CIFAR where
        the archive lies or is put, ``data/downloads`` unless said; for ``"published"`` the folder
        of the published run.
    image_size : side of the square images, at least 8; see the rule in ``ldatlib.data.pictures``.
    val_size : images taken out of the training split, the same share of every class.
    train_size : keep this many training images, a random sample; all unless said.
    test_size : keep this many test images (digits: 400 unless said; folder: all).
    title : what the records and figures call the data; a folder's or file's own name unless said.
    cache : where the decoded pixels of a large folder are kept; ``None`` decodes every time.
    download : whether CIFAR's archive may be fetched.
    flip : whether a mirrored image keeps its class, so that training may mirror it; ``None``: as
        the data set has it, which is yes for folders and CIFAR, no for digits and arrays.

    Raises
    ------
    MissingDataError : CIFAR is not there and could not be had, or is not allowed to be.
    UserError : unknown name, no such folder, fewer than two classes, no images, a broken image,
        classes that differ between train and test, a validation split that leaves nothing, or an
        archive with a wrong checksum or other contents.
    """
    sizes = Sizes(val_size, train_size, test_size)
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    if name == "digits" and (root is not None or image_size is not None):
        raise UserError("digits has no folder and no image size to choose; drop those options")
    if name in _NEEDS and root is None:
        raise UserError(f"{_NEEDS[name]}: --set data_root=PATH")
    if name != "folder" and image_size is not None:
        raise UserError(f"{name} has images of one size; drop image_size")
    if image_size is not None:
        check_count("image_size", image_size)
    where = None if root is None else as_path(root, "root, or data_root,")
    kept = None if cache is None else as_path(cache, "cache")
    return _by_name(name, where, image_size, sizes, title, kept, download).with_flip(flip)


def _by_name(
    name: str,
    root: Path | None,
    image_size: int | None,
    sizes: Sizes,
    title: str | None,
    cache: Path | None,
    download: bool,
) -> Dataset:
    if name == "digits":
        return load_digits(sizes)
    if name in CIFAR:
        return load_cifar(name, root, sizes, title, download)
    assert root is not None  # asked for above
    if name == "folder":
        return load_folder(root, image_size, sizes, title, cache)
    if name == "npz":
        return load_npz(root, sizes, title)
    return read_description(root / DESCRIPTION)
