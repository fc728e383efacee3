"""Decoded pictures in a file, mapped from there by every process that uses them."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ldatlib.data.listing import say
from ldatlib.data.pixels import Mapped
from ldatlib.data.seal import Seal
from ldatlib.errors import Busy, Unwritable, UserError
from ldatlib.files import left_behind, load_tensors
from ldatlib.files.arrays import write_arrays
from ldatlib.files.locks import alone

# Seconds between two looks at whether another process has finished.
_LOOK_EVERY = 0.5

Row = tuple[str, np.ndarray]


class PixelCache:
    """One file of pixels: ``counts`` images uint8 in each split."""

    def __init__(self, file: Path, counts: Mapping[str, int]):
        self.file, self.counts, self.seal = file, dict(counts), Seal(file)

    def opened(self) -> dict[str, Mapped] | None:
        """The pixels of each split; None where there is no file, or one that is cut or altered.

        All of it is read where its seal does not hold.
        """
        if not self.file.is_file():
            return None
        sealed = self.seal.holds()
        try:
            found = load_tensors(self.file, verify=not sealed)[0]
        except UserError:
            return None
        if {name: len(pixels) for name, pixels in found.items()} != self.counts:
            return None
        if not sealed:
            self.seal.renew()
        return {name: Mapped.whole(pixels, self.seal) for name, pixels in found.items()}

    def filled(
        self, shape: tuple[int, int, int], rows: Callable[[], Iterable[Row]]
    ) -> dict[str, Mapped]:
        """The pixels, decoded into the file: ``rows()`` are those of one split after another.

        One process decodes; others that want the same wait for it. Raises ``Unwritable`` where the
        file cannot be written or has no room, and whatever decoding raises.
        """
        shapes = {split: (count, *shape) for split, count in self.counts.items()}
        while True:
            try:
                with alone(self.file, "decoding pictures into"):
                    found = self.opened()
                    if found is not None:
                        return found
                    for left in left_behind(self.file):
                        left.unlink(missing_ok=True)
                    write_arrays(self.file, shapes, rows(), {"kind": "pixels"})
                    self.seal.renew()
                    break
            except Busy as busy:
                say(f"{str(busy).partition(';')[0]}; waiting for it")
                time.sleep(_LOOK_EVERY)
        found = self.opened()
        if found is None:
            raise Unwritable(f"{self.file} is gone or altered as soon as it is written")
        return found
