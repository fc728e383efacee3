"""A folder of pictures of any kind, decoded to squares of one size.

Rule for sizes of a folder: when all pictures are squares of one size they are taken as they are;
otherwise, or when ``image_size`` is given, the shorter side is scaled to ``image_size`` (32 unless
said) with antialiasing and the middle square is cut out. Grey pictures stay grey (one channel)
when every one of them is; a single colour picture makes them all colour.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.files import load_tensors, save_tensors

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
# Decoding this many pictures takes longer than reading a cache of their pixels.
_WORTH_CACHING = 2000
_GREY_MODES = ("1", "L", "LA", "I;16", "I;16B")


def read_pictures(
    paths: dict[str, list[Path]], root: Path, image_size: int | None, cache: str | Path | None
) -> dict[str, Tensor]:
    """Decoded pictures of each split [N, C, H, W], kept in ``cache`` where they are many."""
    if cache is None or sum(map(len, paths.values())) < _WORTH_CACHING:
        return _decode(paths, image_size)
    # A changed, added or removed picture changes the name of the cache.
    digest = hashlib.sha256(f"{root.resolve()} {image_size}".encode())
    for path in (path for split in paths.values() for path in split):
        stat = path.stat()
        digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}".encode())
    stored = Path(cache) / f"pictures-{digest.hexdigest()[:16]}.safetensors"
    if stored.is_file():
        try:
            return load_tensors(stored)[0]
        except UserError:
            pass  # decoded again and replaced below
    decoded = _decode(paths, image_size)
    try:
        save_tensors(stored, decoded, {"kind": "pixels"})
    except UserError:
        pass  # no room for a cache is no reason to stop
    return decoded


def _decode(paths: dict[str, list[Path]], image_size: int | None) -> dict[str, Tensor]:
    grey, size = _inspect(paths["train"] + paths["test"], image_size)
    return {
        split: torch.stack([_read_image(path, grey, size) for path in files])
        for split, files in paths.items()
    }


def list_folder(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its pictures, both sorted; ``UserError`` where there are none."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: expected {folder.name}/CLASS/IMAGE files under it")
    listing = {}
    for directory in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
        files = sorted(
            p
            for p in directory.iterdir()
            if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."
        )
        if not files:
            raise UserError(f"no images in {directory}: add some or remove the folder")
        listing[directory.name] = files
    if not listing:
        raise UserError(f"no images in {folder}: expected {folder.name}/CLASS/IMAGE files")
    return listing


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {path}: {error}; repair or remove it") from error


def _inspect(paths: list[Path], image_size: int | None) -> tuple[bool, int]:
    """Whether all pictures are grey, and the side of the squares to make of them."""
    grey, sizes = True, set()
    for path in paths:
        try:
            with Image.open(path) as image:  # reads the header alone
                grey = grey and image.mode in _GREY_MODES
                sizes.add(image.size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"cannot read the image {path}: {error}; remove it") from error
    if image_size is not None:
        return grey, image_size
    width, height = next(iter(sizes))
    return grey, width if len(sizes) == 1 and width == height else 32


def _read_image(path: Path, grey: bool, size: int) -> Tensor:
    image = _open(path)
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits to 8 instead of scaling them.
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    image = image.convert("L" if grey else "RGB")
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    pixels = torch.from_numpy(np.asarray(image).copy())
    return pixels.unsqueeze(0) if grey else pixels.permute(2, 0, 1).contiguous()
