"""Pixels of images, in memory or left in the file that they are mapped from.

Both are rows [N, channels, H, W] uint8. ``pixels[rows]`` are some of them as a tensor; ``select``
takes rows out of either kind without looking at the pixels of a file.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from ldatlib.data.seal import Seal

# Bytes of pixels that are looked at in one go.
_PIECE = 2**24
# Of a GPU's free memory: the rest is the network's and its batches'.
_MOST_OF_A_GPU = 0.5


@dataclass(frozen=True, eq=False)
class Mapped:
    """Rows of an array that is mapped from a file, or too large for the device they are used on.

    Parameters
    ----------
    source : [M, channels, H, W] uint8 on the CPU.
    rows : [N] int64 on the CPU, places in ``source``.
    device : where rows go that are asked for.
    seal : of the file, where it is a cache.
    """

    source: Tensor
    rows: Tensor
    device: torch.device = torch.device("cpu")
    seal: Seal | None = None

    @classmethod
    def whole(cls, source: Tensor, seal: Seal | None = None) -> "Mapped":
        """All rows, in their order."""
        return cls(source, torch.arange(len(source)), seal=seal)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self.source.shape[1:]))

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Rows as a tensor on ``device``; to a GPU they go through pinned memory."""
        rows = self.rows[index.cpu() if isinstance(index, Tensor) else index]
        pinned = self.device.type == "cuda"
        found = torch.empty(
            (len(rows), *self.source.shape[1:]), dtype=torch.uint8, pin_memory=pinned
        )
        torch.index_select(self.source, 0, rows, out=found)
        return found.to(self.device, non_blocking=pinned)

    def select(self, index: Tensor | slice) -> "Mapped":
        """These rows, by place or mask; no pixel is looked at."""
        return replace(self, rows=self.rows[index.cpu() if isinstance(index, Tensor) else index])

    def sorted(self) -> "Mapped":
        """The same rows in the order of the file, which disks read faster."""
        return replace(self, rows=self.rows.sort().values)


Pixels = Tensor | Mapped


def select(pixels: Pixels, index: Tensor | slice) -> Pixels:
    """Some rows, by place or mask: of a tensor a tensor, of mapped pixels mapped ones."""
    return pixels[index] if isinstance(pixels, Tensor) else pixels.select(index)


def size_of(pixels: Pixels) -> int:
    """Bytes."""
    return math.prod(pixels.shape)


def pieces(pixels: Pixels) -> Iterator[Tensor]:
    """The rows in their order, some at a time, contiguous."""
    each = max(1, _PIECE // max(1, math.prod(pixels.shape[1:])))
    for start in range(0, len(pixels), each):
        yield pixels[start : start + each].contiguous()


def on_device(images: Mapping[str, Pixels], device: torch.device) -> dict[str, Pixels]:
    """For use on ``device``: there where all of them fit, else from here, batch by batch.

    On the CPU what is mapped stays so.
    """
    if device.type == "cuda":
        coming = sum(size_of(p) for p in images.values() if not _is_on(p, device))
        if coming > _MOST_OF_A_GPU * torch.cuda.mem_get_info(device)[0]:
            return {name: _from_here(pixels, device) for name, pixels in images.items()}
    return {name: _there(pixels, device) for name, pixels in images.items()}


def _is_on(pixels: Pixels, device: torch.device) -> bool:
    return isinstance(pixels, Tensor) and pixels.device == device


def _from_here(pixels: Pixels, device: torch.device) -> Pixels:
    if _is_on(pixels, device):
        return pixels
    mapped = Mapped.whole(pixels.cpu()) if isinstance(pixels, Tensor) else pixels
    return replace(mapped, device=device)


def _there(pixels: Pixels, device: torch.device) -> Pixels:
    if isinstance(pixels, Tensor):
        return pixels.to(device)
    if device.type == "cpu":
        return replace(pixels, device=device)
    result = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    start = 0
    for piece in pieces(replace(pixels, device=device)):
        result[start : start + len(piece)] = piece
        start += len(piece)
    return result


def mean_and_std(pixels: Pixels) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (of all pixels, divisor N) of each channel, in [0,1].

    They are those of the counts of the 256 levels, which are whole numbers: exact, then rounded
    once to float64, on every device and whatever the order of the images.
    """
    channels = pixels.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.long)
    for piece in pieces(pixels if isinstance(pixels, Tensor) else pixels.sorted()):
        for channel in range(channels):
            levels = piece[:, channel].flatten()
            counts[channel] += torch.bincount(levels, minlength=256).cpu()
    moments = [_moments(row) for row in counts.tolist()]
    return [float(mean) for mean, _ in moments], [math.sqrt(variance) for _, variance in moments]


def _moments(counts: list[int]) -> tuple[Fraction, Fraction]:
    """Mean and variance of the levels 0 to 255, as shares of 255."""
    total = sum(counts)
    first = sum(level * count for level, count in enumerate(counts))
    second = sum(level * level * count for level, count in enumerate(counts))
    return Fraction(first, 255 * total), Fraction(second * total - first**2, (255 * total) ** 2)
