"""Paths of very many files in few bytes each."""

import bisect
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class Files(Sequence[Path]):
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

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        start = int(self._ends[row - 1]) if row else 0
        return self.folder / os.fsdecode(self._names[start : int(self._ends[row])])


class ChainedFiles(Sequence[Path]):
    """Files of several folders, one folder after another."""

    def __init__(self, parts: Sequence[Files]):
        self._parts = list(parts)
        self._ends = list(itertools.accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Path]:
        return itertools.chain.from_iterable(self._parts)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        part = bisect.bisect_right(self._ends, row)
        return self._parts[part][row - (self._ends[part - 1] if part else 0)]
