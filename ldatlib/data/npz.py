"""NumPy archives of images and labels. Nothing in them is unpickled."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ldatlib.data.dataset import Dataset
from ldatlib.data.splits import Sizes
from ldatlib.errors import UserError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("class_names", "flip")


def load_npz(path: Path, sizes: Sizes, title: str | None) -> Dataset:
    """The arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of an archive as a data set.

    ``class_names`` (texts) and ``flip`` (one truth value) may be in it, too; all are those of
    ``Dataset.from_arrays``. It is titled as the file unless said.
    """
    values = _read(path)
    try:
        dataset = Dataset.from_arrays(
            **values,
            title=title or path.stem,
            val_size=sizes.val,
            train_size=sizes.train,
            test_size=sizes.test,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return replace(dataset, name="npz")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive) if isinstance(archive, np.lib.npyio.NpzFile) else []
            values = {name: archive[name] for name in names}
    # NumPy, zipfile and zlib raise a dozen kinds for a file that is cut short or made to harm.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is no whole .npz archive of plain arrays: {reason}") from error
    missing = [name for name in ARRAYS if name not in values]
    unknown = [name for name in values if name not in (*ARRAYS, *OPTIONAL)]
    if missing or unknown:
        said = f"lacks {missing[0]}" if missing else f"holds an unknown {unknown[0]!r}"
        raise UserError(
            f"{path} {said}; an .npz archive has {', '.join(ARRAYS)}, and may have "
            f"{' and '.join(OPTIONAL)}"
        )
    if "class_names" in values:
        values["class_names"] = _class_names(values["class_names"], path)
    if "flip" in values:
        values["flip"] = _flip(values["flip"], path)
    return values


def _class_names(names: Any, path: Path) -> list[str]:
    if not isinstance(names, np.ndarray) or names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{path}: class_names must be a list of texts")
    return [str(name) for name in names]


def _flip(flip: Any, path: Path) -> bool:
    if not isinstance(flip, np.ndarray) or flip.shape != () or flip.dtype != bool:
        raise UserError(f"{path}: flip must be True or False")
    return bool(flip)
