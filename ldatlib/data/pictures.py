"""A folder of pictures of any kind, decoded to squares of one size.

Rule for sizes of a folder: when all pictures are squares of one size they are taken as they are;
otherwise, or when ``image_size`` is given, the shorter side is scaled to ``image_size`` (32 unless
said) with antialiasing and the middle square is cut out. Grey pictures stay grey (one channel)
when every one of them is; a single colour picture makes them all colour. Which files are read:
``listing``; what becomes of depth, transparency and orientation: ``modes``.
"""

import hashlib
import math
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ldatlib.data.cache import PixelCache
from ldatlib.data.listing import say
from ldatlib.data.memory import check_memory
from ldatlib.data.modes import FORMATS, Refused, flatten, is_grey
from ldatlib.data.names import shown
from ldatlib.data.pixels import Pixels
from ldatlib.errors import Unwritable, UserError

# Raised when the same files give other pixels: nothing that was cached before is then found.
RULES_VERSION = 2
# Decoding this many pictures takes longer than reading a cache of their pixels.
_WORTH_CACHING = 2000
# So many bytes of pixels are worth not to be in the memory of each process.
_WORTH_MAPPING = 2**26
# A long strip may be small itself and huge when its shorter side is scaled.
_MOST_PIXELS = 2**26


class _Picture(NamedTuple):
    """A file as it was when the reading began."""

    path: Path
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> "_Picture":
        try:
            found = os.stat(path)
        except OSError as error:
            raise UserError(f"{shown(path)} is not there any more; start again") from error
        return cls(path, found.st_size, found.st_mtime_ns)


class _Pictures:
    """The files of a split as they were when the reading began; two numbers for each."""

    def __init__(self, files: Collection[Path]):
        self.files = files
        self._looks = np.empty((len(files), 2), dtype=np.int64)
        for row, path in enumerate(files):
            self._looks[row] = _Picture.of(path)[1:]

    def __len__(self) -> int:
        return len(self._looks)

    def __iter__(self) -> Iterator[_Picture]:
        for path, (size, changed) in zip(self.files, self._looks, strict=True):
            yield _Picture(path, int(size), int(changed))


def read_pictures(
    files: Mapping[str, Collection[Path]],
    root: Path,
    image_size: int | None,
    cache: str | Path | None,
    whole: Iterable[Path] = (),
) -> dict[str, Pixels]:
    """Decoded pictures of each split [N, C, H, W].

    Where they are many they are kept in ``cache`` and mapped from there; where that cannot be
    written they are in memory, which is said. ``whole``, without a cache: more of the same folder,
    not decoded, which have their say in size and colour. Raises ``UserError`` for a picture that
    cannot be used, and before decoding where memory is needed that is not there.
    """
    splits = {split: _Pictures(paths) for split, paths in files.items()}
    counts = {split: len(of) for split, of in splits.items()}
    kept = PixelCache(_cached(Path(cache), splits, root, image_size), counts) if cache else None
    found = kept.opened() if kept else None
    if found is not None:
        return dict(found)
    with warnings.catch_warnings():
        # Pillow itself refuses twice as many.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        others = map(_Picture.of, whole)
        grey, side = _inspect(chain(*splits.values(), others), image_size)
        shape = (1 if grey else 3, side, side)
        count = sum(counts.values())
        size, reason = count * math.prod(shape), "there is no folder to keep them in"
        if kept and (count >= _WORTH_CACHING or size >= _WORTH_MAPPING):
            try:
                return dict(kept.filled(shape, lambda: _rows(splits, grey, side)))
            except Unwritable as error:
                # No room for a cache is no reason to stop.
                reason = str(error)
                say(f"the pixels of {shown(root)} are kept in memory alone: {reason}")
        check_memory(size, f"the pixels of {shown(root)}", reason)
        return _in_memory(splits, shape, grey)


def _cached(
    cache: Path, splits: Mapping[str, _Pictures], root: Path, image_size: int | None
) -> Path:
    """The file of these pixels: a changed, added or removed picture changes its name."""
    digest = hashlib.sha256(f"{RULES_VERSION} {image_size} ".encode() + os.fsencode(root.resolve()))
    inside = os.path.join(root, "")
    for path, size, changed in chain.from_iterable(splits.values()):
        # ``relative_to`` takes as long as decoding a small picture.
        name = str(path).removeprefix(inside)
        digest.update(os.fsencode(name) + f" {size} {changed}".encode())
    return cache / f"pictures-{digest.hexdigest()[:16]}.safetensors"


def _in_memory(
    splits: Mapping[str, _Pictures], shape: tuple[int, int, int], grey: bool
) -> dict[str, Pixels]:
    pixels = {name: np.empty((len(of), *shape), np.uint8) for name, of in splits.items()}
    free = {name: iter(of) for name, of in pixels.items()}
    for name, row in _rows(splits, grey, shape[-1]):
        next(free[name])[:] = row
    return {name: torch.from_numpy(of) for name, of in pixels.items()}


def _inspect(pictures: Iterable[_Picture], image_size: int | None) -> tuple[bool, int]:
    """Whether all pictures are grey, and the side of the squares to make of them."""
    grey, first, alike = True, None, True
    for picture in pictures:
        with _opened(picture.path) as image:  # of most, the header alone is read
            grey = grey and is_grey(image)
            first = first or image.size
            alike = alike and image.size == first
    if image_size is not None:
        return grey, image_size
    # A picture that lies on its side is no square either way, so its orientation does not matter.
    return grey, first[0] if first and alike and first[0] == first[1] else 32


def _rows(
    splits: Mapping[str, _Pictures], grey: bool, size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Each split's pictures [C, ``size``, ``size``], decoded one by one; the splits sorted."""
    for split in sorted(splits):
        for picture in splits[split]:
            yield split, _read(picture, grey, size)


def _read(picture: _Picture, grey: bool, size: int) -> np.ndarray:
    with _opened(picture.path) as image:
        flat = flatten(image)
        if flat.mode != ("L" if grey else "RGB"):
            flat = flat.convert("L" if grey else "RGB")
        square = np.asarray(_square(flat, size))
    if _Picture.of(picture.path) != picture:
        raise UserError(f"{shown(picture.path)} changed while it was read; start again")
    return square[None] if grey else square.transpose(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, not loaded yet; whatever is wrong with it is one line with its name."""
    name = shown(path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            if min(image.size) < 1:
                raise Refused(f"it has no pixels ({image.width}x{image.height}); remove it")
            yield image
    except Refused as error:
        raise UserError(f"cannot use the image {name}: {error}") from error
    except UnidentifiedImageError as error:
        empty = _Picture.of(path).size == 0
        what = (
            "it is empty" if empty else f"none of {', '.join(FORMATS)}, or of a kind unknown here"
        )
        raise UserError(f"cannot read the image {name}: {what}; save it as PNG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = Image.MAX_IMAGE_PIXELS
        raise UserError(f"the image {name} has more than {most} pixels; make it smaller") from error
    except Exception as error:  # what a decoder raises for broken bytes is of any kind
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read the image {name}: {reason}; repair or remove it") from error


def _square(image: Image.Image, size: int) -> Image.Image:
    """The middle square, with the shorter side scaled to ``size``."""
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if width * height > _MOST_PIXELS:
        raise Refused(
            f"it is too narrow: {image.width}x{image.height}, scaled {width}x{height}; cut out "
            "what matters"
        )
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
