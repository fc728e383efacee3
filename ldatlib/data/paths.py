"""Paths of very many files in few bytes each."""

import bisect
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class _Paths(Sequence[Path]):
    """Paths that are made when they are asked for."""

    def _at(self, row: int) -> Path:
        """The path of a place from 0 on."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        rows = range(len(self))[index]
        return self._at(rows) if isinstance(rows, int) else [self._at(row) for row in rows]


class Files(_Paths):
    """Files of one folder: the bytes of a name and eight more for each of them.

    A ``Path`` takes some hundred bytes; these are made when they are asked for.
    """

    def __init__(self, folder: Path, names: Sequence[str]):
        self.folder = folder
        encoded = [os.fsencode(name) for name in names]
        self._names = b"".join(encoded)
        self._ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def _at(self, row: int) -> Path:
        start = int(self._ends[row - 1]) if row else 0
        return self.folder / os.fsdecode(self._names[start : int(self._ends[row])])


class ChainedFiles(_Paths):
    """Files of several folders, one folder after another."""

    def __init__(self, parts: Sequence[Files]):
        self._parts = list(parts)
        self._ends = list(itertools.accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Path]:
        return itertools.chain.from_iterable(self._parts)

    def _at(self, row: int) -> Path:
        part = bisect.bisect_right(self._ends, row)
        return self._parts[part][row - (self._ends[part - 1] if part else 0)]
