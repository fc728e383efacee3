"""Arrays of images and labels, checked and brought to one form."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldatlib.data.pixels import Mapped, Pixels
from ldatlib.data.splits import Labelled
from ldatlib.errors import UserError

Array = np.ndarray | Tensor

_CHANNELS = (1, 3)
# Rounding of float arithmetic (a mean, a resize, 255/255) may pass 0 or 1 by a hair.
HAIR = 1e-6


def labelled_arrays(
    x_train: Array,
    y_train: Array,
    x_test: Array,
    y_test: Array,
    class_names: Sequence[str] | None = None,
) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    """Training and test images with their labels, as ``Dataset`` has them, and the class names.

    What is taken, and what raises ``UserError``: see ``Dataset.from_arrays``.
    """
    images = [_images(x_train, "x_train"), _images(x_test, "x_test")]
    labels = [
        labels_of(y, what, len(x), f"x_{what[2:]}")
        for y, what, x in zip((y_train, y_test), ("y_train", "y_test"), images, strict=True)
    ]
    shapes = [list(x.shape[1:]) for x in images]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"x_train has images of [channels, height, width] {shapes[0]}, x_test of {shapes[1]}"
        )
    names = _class_names(class_names, labels)
    return (images[0], labels[0]), (images[1], labels[1]), names


def _tensor(values: Any, what: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    if not isinstance(values, np.ndarray):
        raise UserError(f"{what} must be an array of NumPy or torch, not {type(values).__name__}")
    try:
        # Torch has neither negative strides nor other byte orders.
        plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        with warnings.catch_warnings():
            # Of arrays that are mapped to be read; nothing here writes into one.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(plain)
    except TypeError:
        raise UserError(f"{what} has the unusable dtype {values.dtype}") from None


def _images(values: Any, what: str) -> Pixels:
    """[N, channels, H, W] uint8."""
    x = images_of(values, what)
    if isinstance(x, Mapped) or x.dtype == torch.uint8:
        return x
    return x.mul(255).round().byte()


def images_of(values: Any, what: str) -> Pixels:
    """[N, channels, H, W] as they are: uint8, which stays in its file if mapped, or float32 in
    [0,1].

    What is taken, and what raises ``UserError``: see ``Dataset.from_arrays``.
    """
    x = _tensor(values, what)
    if x.ndim == 0 or x.numel() == 0:
        raise UserError(f"{what} has no images")
    if x.ndim == 3:
        x = x.unsqueeze(1)
    elif x.ndim == 4:
        x = _channels_first(x, what)
    else:
        raise UserError(
            f"{what} must have the shape [N, H, W], [N, H, W, channels] or [N, channels, H, W], "
            f"not {list(x.shape)}"
        )
    if x.dtype == torch.uint8:
        return Mapped.whole(x) if isinstance(values, np.memmap) else x.contiguous()
    if not x.is_floating_point():
        raise UserError(f"{what} must be uint8, or floats in [0,1], not {_dtype(x)}")
    low, high = float(x.min()), float(x.max())
    if not (low >= -HAIR and high <= 1 + HAIR):
        hint = "; divide by 255" if -HAIR <= low and 1 < high <= 255 else ""
        raise UserError(f"{what}: floats must lie in [0,1], not from {low:g} to {high:g}{hint}")
    return x.float().clamp(0, 1).contiguous()


def _channels_first(x: Tensor, what: str) -> Tensor:
    first, last = x.shape[1] in _CHANNELS, x.shape[3] in _CHANNELS
    if first and last:
        raise UserError(
            f"{what} of shape {list(x.shape)} could be [N, channels, H, W] or [N, H, W, channels]; "
            "pad the images to more than 3 pixels a side"
        )
    if not (first or last):
        raise UserError(
            f"{what} of shape {list(x.shape)} has 1 or 3 channels neither second nor last"
        )
    return x if first else x.permute(0, 3, 1, 2)


def labels_of(values: Any, what: str, count: int, images: str) -> Tensor:
    """[N] int64, at least 0: ``count`` of them, as many as there are ``images``."""
    y = _tensor(values, what)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UserError(f"{what} must be whole numbers from 0, not {_dtype(y)}")
    if y.shape != (count,):
        raise UserError(
            f"{what} must have the shape [{count}], as {images} says, not {list(y.shape)}"
        )
    y = y.long()
    if y.min() < 0:
        raise UserError(f"{what} must be whole numbers from 0, not {int(y.min())}")
    return y


def _class_names(given: Sequence[str] | None, labels: list[Tensor]) -> tuple[str, ...]:
    """Names of the classes 0, 1, ..., each of which has training images."""
    if given is None:
        found = int(max(y.max() for y in labels)) + 1
        # Before as many names are made as a stray label says.
        _check_gaps(labels, found, None)
        names = tuple(map(str, range(found)))
    else:
        # A single text is a sequence, too, of its letters.
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise UserError(f"class_names must be a list of texts, not {given!r}")
        names = tuple(map(str, given))
    if len(names) < 2:
        raise UserError(f"at least 2 classes are needed, not {len(names)}")
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise UserError("class_names must be different from each other and not empty")
    for y, what in zip(labels, ("y_train", "y_test"), strict=True):
        if y.max() >= len(names):
            raise UserError(
                f"{what} has the label {int(y.max())}, but there are {len(names)} class_names"
            )
    _check_gaps(labels, len(names), names)
    return names


def _check_gaps(labels: list[Tensor], count: int, names: Sequence[str] | None) -> None:
    present = set(labels[0].unique().tolist())
    missing = next((label for label in range(count) if label not in present), None)
    if missing is not None:
        name = f" ({names[missing]!r})" if names else ""
        raise UserError(
            f"y_train has no label {missing}{name}; labels are 0 to {count - 1} without gaps"
        )


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
