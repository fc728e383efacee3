"""A file of uint8 arrays that never are in memory: written piece by piece.

It is one of ``save_tensors``, and ``load_tensors`` maps it. Its SHA-256 is summed up while it is
written, and stands in the header, whose length does not depend on it.
"""

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ldatlib.files import CHECKSUM, FORMAT, replacing

Shape = tuple[int, ...]
_PLACEHOLDER = "0" * 64


def write_arrays(
    path: Path, shapes: Mapping[str, Shape], rows: Iterable[tuple[str, np.ndarray]], header: dict
) -> None:
    """Arrays uint8 of these ``shapes`` from their rows, atomically.

    ``rows`` has the name of an array and the next row of it, all rows of one after all of another,
    the names sorted.

    Raises ``Unwritable`` before the first row is asked for where the disk has no room for all of
    them; ``ValueError`` for rows that are not those of the shapes.
    """
    text = json.dumps(header, allow_nan=False)
    size = sum(map(math.prod, shapes.values()))
    opening = _opening(shapes, text, _PLACEHOLDER)
    with replacing(path) as stream:
        stream.write(opening)
        stream.flush()
        _reserve(stream, len(opening) + size)
        checksum = _written(stream, shapes, rows, text)
        stream.seek(0)
        stream.write(_opening(shapes, text, checksum))


def _written(
    stream: BinaryIO, shapes: Mapping[str, Shape], rows: Iterable[tuple[str, np.ndarray]], text: str
) -> str:
    """All rows in the file; the checksum as ``load_tensors`` will find it."""
    digest = hashlib.sha256(text.encode())
    left = [(name, shapes[name]) for name in sorted(shapes)]
    name, missing = "", 0
    for of, row in rows:
        while not missing and left:
            name, shape = left.pop(0)
            missing = shape[0]
            digest.update(_line(name, shape))
        if of != name or not missing or row.dtype != np.uint8 or row.shape != shapes[name][1:]:
            raise ValueError(f"a row {row.dtype} {list(row.shape)} of {of!r} is out of place")
        content = np.ascontiguousarray(row).data
        stream.write(content)
        digest.update(content)
        missing -= 1
    for name, shape in left:
        digest.update(_line(name, shape))
        missing += shape[0]
    if missing:
        raise ValueError(f"{missing} rows are missing")
    return digest.hexdigest()


def _line(name: str, shape: Shape) -> bytes:
    return f"{name} torch.uint8 {tuple(shape)}".encode()


def _opening(shapes: Mapping[str, Shape], text: str, checksum: str) -> bytes:
    """The header of the format safetensors: its length in 8 bytes, then JSON, filled up to 8."""
    said: dict = {
        "__metadata__": {"format": FORMAT, "header": text, CHECKSUM: checksum, "whole": checksum}
    }
    start = 0
    for name in sorted(shapes):
        end = start + math.prod(shapes[name])
        said[name] = {"dtype": "U8", "shape": list(shapes[name]), "data_offsets": [start, end]}
        start = end
    content = json.dumps(said, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content


def _reserve(stream: BinaryIO, size: int) -> None:
    """Raises ``OSError`` where the disk has no room: hours before the last byte would."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        # Some file systems cannot; there the write that finds no room says so.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
