"""NumPy archives of images and labels. Nothing in them is unpickled."""

import math
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ldatlib.data.dataset import Dataset
from ldatlib.data.memory import check_memory
from ldatlib.data.names import shown
from ldatlib.data.splits import Sizes
from ldatlib.errors import UserError, one_line

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("class_names", "flip")
# Of an archive with test images alone.
TEST_ARRAYS = ("x", "y")
# Bytes unpacked from which their number is compared with that of the packed ones.
_LARGE, _BEST_PACKED = 2**28, 100
_UNMAPPED = "only images uint8 that numpy.savez has stored, not compressed, stay in the file"
# Bytes of images, stored as they are, from which they are mapped.
_WORTH_MAPPING = 2**26


def load_npz(path: Path, sizes: Sizes, title: str | None) -> Dataset:
    """The arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of an archive as a data set.

    ``class_names`` (texts) and ``flip`` (one truth value) may be in it, too; all are those of
    ``Dataset.from_arrays``. It is titled as the file unless said.
    """
    values = _read(path, ARRAYS)
    try:
        dataset = Dataset.from_arrays(
            **values,
            title=title or shown(path.stem),
            val_size=sizes.val,
            train_size=sizes.train,
            test_size=sizes.test,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return replace(dataset, name="npz")


def read_test_arrays(path: Path) -> dict[str, Any]:
    """``x``, ``y`` and, where it has them, ``class_names`` of an archive; nothing else is checked.

    Of an archive with training images, too, those of the test.
    """
    values = _read(path, ARRAYS, TEST_ARRAYS)
    names = {"x": "x_test", "y": "y_test"} if "x_test" in values else {"x": "x", "y": "y"}
    found = {short: values[name] for short, name in names.items()}
    return found | {name: values[name] for name in ("class_names",) if name in values}


def _read(path: Path, *several: Sequence[str]) -> dict[str, Any]:
    """The arrays of an archive that has those of one of ``several`` lists."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            _check_names(names, path, several)
            entries = archive.infolist()
            _check_unpacked(entries, path)
            values: dict[str, Any] = {}
            for name, entry in zip(names, entries, strict=True):
                mapped = _mapped(path, archive, entry)
                if mapped is not None:
                    values[name] = mapped
        read = sum(e.file_size for n, e in zip(names, entries, strict=True) if n not in values)
        check_memory(read, f"the arrays of {path}", _UNMAPPED)
        with np.load(path, allow_pickle=False) as arrays:
            values |= {name: arrays[name] for name in names if name not in values}
    except UserError:
        raise
    # NumPy, zipfile and zlib raise a dozen kinds for a file that is cut short or made to harm.
    except Exception as error:
        raise UserError(
            f"{path} is no whole .npz archive of plain arrays: {one_line(error)}"
        ) from error
    if "class_names" in values:
        values["class_names"] = _class_names(values["class_names"], path)
    if "flip" in values:
        values["flip"] = _flip(values["flip"], path)
    return values


def _mapped(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.memmap | None:
    """A large array uint8 where it lies in the file, its checksum verified; None for any other."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < _WORTH_MAPPING:
        return None
    with archive.open(entry) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            return None
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        start = stream.tell()
        if dtype != np.uint8 or fortran or start + math.prod(shape) != entry.file_size:
            return None
        while stream.read(2**22):  # at the end the checksum is compared
            pass
    with open(path, "rb") as file:
        # Before the content stand 30 bytes, the last four of which are the lengths of two texts.
        file.seek(entry.header_offset + 26)
        start += entry.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    # What is written into it goes into memory, never into the file.
    return np.memmap(path, np.uint8, "c", start, shape)


def _check_names(names: list[str], path: Path, several: Sequence[Sequence[str]]) -> None:
    # Of a list that none of its arrays is there of, nothing is said.
    arrays = next((a for a in several if set(a) & set(names)), several[-1])
    missing = [name for name in arrays if name not in names]
    unknown = [name for name in names if name not in (*arrays, *OPTIONAL)]
    if missing or unknown:
        said = f"lacks {missing[0]}" if missing else f"holds an unknown {unknown[0][:80]!r}"
        known = " or ".join(", ".join(each) for each in several)
        raise UserError(
            f"{path} {said}; an .npz archive has {known}, and may have {' and '.join(OPTIONAL)}"
        )


def _check_unpacked(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """A few bytes must not fill the memory: no images are packed that well."""
    # By the file itself: an entry may say anything of the bytes that it is packed in.
    packed = path.stat().st_size
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > _LARGE and unpacked > _BEST_PACKED * packed:
        raise UserError(
            f"{path} has {packed} bytes and would unpack to {unpacked}, which are no images; save "
            "it with numpy.savez"
        )


def _class_names(names: Any, path: Path) -> list[str]:
    if not isinstance(names, np.ndarray) or names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{path}: class_names must be a list of texts")
    return [str(name) for name in names]


def _flip(flip: Any, path: Path) -> bool:
    if not isinstance(flip, np.ndarray) or flip.shape != () or flip.dtype != bool:
        raise UserError(f"{path}: flip must be True or False")
    return bool(flip)
