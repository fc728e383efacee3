"""A folder of pictures of any kind, decoded to squares of one size.

Rule for sizes of a folder: when all pictures are squares of one size they are taken as they are;
otherwise, or when ``image_size`` is given, the shorter side is scaled to ``image_size`` (32 unless
said) with antialiasing and the middle square is cut out. Grey pictures stay grey (one channel)
when every one of them is; a single colour picture makes them all colour. Which files are read:
``listing``; what becomes of depth, transparency and orientation: ``modes``.
"""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ldatlib.data.modes import FORMATS, Refused, flatten, is_grey
from ldatlib.data.names import shown
from ldatlib.errors import UserError
from ldatlib.files import load_tensors, save_tensors

# Raised when the same files give other pixels: nothing that was cached before is then found.
RULES_VERSION = 2
# Decoding this many pictures takes longer than reading a cache of their pixels.
_WORTH_CACHING = 2000
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


def read_pictures(
    paths: dict[str, list[Path]], root: Path, image_size: int | None, cache: str | Path | None
) -> dict[str, Tensor]:
    """Decoded pictures of each split [N, C, H, W], kept in ``cache`` where they are many."""
    splits = {split: [_Picture.of(path) for path in files] for split, files in paths.items()}
    if cache is None or sum(map(len, splits.values())) < _WORTH_CACHING:
        return _decode(splits, image_size)
    # A changed, added or removed picture changes the name of the cache.
    digest = hashlib.sha256(f"{RULES_VERSION} {image_size} ".encode() + os.fsencode(root.resolve()))
    for path, size, changed in (picture for split in splits.values() for picture in split):
        digest.update(os.fsencode(path.relative_to(root)) + f" {size} {changed}".encode())
    stored = Path(cache) / f"pictures-{digest.hexdigest()[:16]}.safetensors"
    sizes = {name: len(pictures) for name, pictures in splits.items()}
    if stored.is_file():
        try:
            pixels = load_tensors(stored)[0]
            if {name: len(kept) for name, kept in pixels.items()} == sizes:
                return pixels
        except UserError:
            pass  # decoded again and replaced below
    decoded = _decode(splits, image_size)
    try:
        save_tensors(stored, decoded, {"kind": "pixels"})
    except UserError:
        pass  # no room for a cache is no reason to stop
    return decoded


def _decode(splits: dict[str, list[_Picture]], image_size: int | None) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        # Pillow itself refuses twice as many.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        every = [picture for pictures in splits.values() for picture in pictures]
        grey, size = _inspect(every, image_size)
        return {split: _read(pictures, grey, size) for split, pictures in splits.items()}


def _inspect(pictures: list[_Picture], image_size: int | None) -> tuple[bool, int]:
    """Whether all pictures are grey, and the side of the squares to make of them."""
    grey, sizes = True, set()
    for picture in pictures:
        with _opened(picture.path) as image:  # of most, the header alone is read
            grey = grey and is_grey(image)
            sizes.add(image.size)
    if image_size is not None:
        return grey, image_size
    width, height = next(iter(sizes))
    # A picture that lies on its side is no square either way, so its orientation does not matter.
    return grey, width if len(sizes) == 1 and width == height else 32


def _read(pictures: list[_Picture], grey: bool, size: int) -> Tensor:
    pixels = np.empty((len(pictures), 1 if grey else 3, size, size), dtype=np.uint8)
    for row, picture in zip(pixels, pictures, strict=True):
        with _opened(picture.path) as image:
            flat = flatten(image)
            if flat.mode != ("L" if grey else "RGB"):
                flat = flat.convert("L" if grey else "RGB")
            square = np.asarray(_square(flat, size))
        row[:] = square if grey else square.transpose(2, 0, 1)
        if _Picture.of(picture.path) != picture:
            raise UserError(f"{shown(picture.path)} changed while it was read; start again")
    return torch.from_numpy(pixels)


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
