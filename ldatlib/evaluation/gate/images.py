"""Images and labels as callers hand them over, and as the attacks need them."""

import numpy as np
import torch
from torch import Tensor

from ldatlib.attacks import finite
from ldatlib.data.arrays import HAIR
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.findings import Findings

_CHANNELS = (1, 3, 4)
# The brightest pixel of images that were divided by 255 twice is 1/255.
_DARK = 1 / 128


def check_images(x, found: Findings) -> Tensor:
    """Images [N, C, H, W] in [0,1], float32 and contiguous: ``x`` itself where it is so."""
    x = _dense(_tensor(x, "images"), "images")
    _check_shape(x)
    if not x.is_floating_point():
        raise UserError(
            f"images are {_name(x.dtype)}, not floats in [0,1]; of pixels from 0 to 255 pass "
            "x.float() / 255"
        )
    x = _in_range(x, found)
    if x.dtype == torch.float64 and not torch.equal(x.float().double(), x):
        found.note(
            "dtype",
            "images of float64 were rounded to float32, in which the attacks compute (a pixel "
            "moves by at most 3e-8)",
        )
    return _plain(x.float())


def check_labels(y, count: int) -> Tensor:
    """Labels [N] as int64, of any integer type."""
    y = _plain(_dense(_tensor(y, "labels"), "labels"))
    if y.ndim == 2 and y.shape == (count, 1):
        raise UserError(f"labels have the shape [{count}, 1], not [{count}]; pass y.squeeze(1)")
    if y.ndim == 2 and len(y) == count:
        raise UserError(f"labels are {list(y.shape)}, as if one-hot; pass y.argmax(1), classes [N]")
    if y.ndim != 1:
        raise UserError(f"labels must be classes [N], not of shape {list(y.shape)}")
    if len(y) != count:
        raise UserError(f"{count} images and {len(y)} labels; pass one label an image")
    if y.is_floating_point() or y.is_complex():
        raise UserError(f"labels are {_name(y.dtype)}; pass y.long(), the classes as integers")
    return y.long()


def check_classes(y: Tensor, classes: int) -> None:
    """Labels run from 0 to C - 1."""
    low, high = int(y.min()), int(y.max())
    right = f"labels run from 0 to {classes - 1}, as the model has {classes} outputs"
    if low >= 1 and high == classes:
        raise UserError(f"{right}; yours from {low} to {classes}: subtract 1 (y - 1)")
    if low == -1 and high < classes - 1:
        raise UserError(f"{right}; yours from -1 to {high}: add 1, or leave out what has no label")
    if low < 0 or high >= classes:
        raise UserError(
            f"{right}; yours from {low} to {high}: map them to these classes, or pass a model "
            "with an output for each"
        )


def _tensor(values, what: str) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if what == "labels" and isinstance(values, list | tuple):
        values = np.asarray(values)
    if not isinstance(values, np.ndarray):
        raise UserError(f"{what} are a {type(values).__name__}; pass a tensor or a numpy array")
    if values.dtype.kind in "iub" and what == "labels":
        values = values.astype(np.int64)
    try:
        # A copy: arrays may be read-only, or run backwards.
        return torch.from_numpy(np.array(values, values.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise UserError(f"{what} are an array of {values.dtype}; pass numbers") from None


def _dense(values: Tensor, what: str) -> Tensor:
    if values.device.type == "meta":
        raise UserError(f"{what} are on the device meta, where there are no values")
    if values.layout != torch.strided or values.is_quantized:
        raise UserError(f"{what} are sparse or quantized; pass a dense tensor")
    return values.detach() if values.requires_grad else values


def _check_shape(x: Tensor) -> None:
    if x.ndim != 4:
        remedy = {
            1: "are x and y swapped?",
            2: "pass x.view(N, C, H, W)",
            3: "x.unsqueeze(0) for one image, x.unsqueeze(1) for one channel",
        }.get(x.ndim, "leave out the further dimensions")
        shape = list(x.shape)
        raise UserError(f"images must be [N, channels, height, width], not {shape}; {remedy}")
    if not len(x):
        raise UserError("no images to evaluate on")
    if not x.numel():
        raise UserError(f"images of the shape {list(x.shape)} have no pixels")
    # Square ones only: [N, 16, 100, 1] may be what it says.
    if x.shape[3] in _CHANNELS and x.shape[1] == x.shape[2] > max(_CHANNELS):
        raise UserError(
            f"images {list(x.shape)} look like [N, height, width, channels]; pass "
            "x.permute(0, 3, 1, 2)"
        )


def _in_range(x: Tensor, found: Findings) -> Tensor:
    low, high = float(x.min()), float(x.max())
    if not (-float("inf") < low and high < float("inf")):  # NaN included
        bad = int((~finite(x)).sum())
        raise UserError(
            f"{bad} of {len(x)} images have pixels that are NaN or infinite; images must lie in "
            "[0,1]: leave those out"
        )
    span = f"images must lie in [0,1], yours in [{low:.7g}, {high:.7g}]"
    hair = max(HAIR, 2 * torch.finfo(x.dtype).eps)
    if low < -hair:
        raise UserError(
            f"{span}; leave the normalisation to the model: lambda x: model((x - mean) / std)"
        )
    if high > 255:
        raise UserError(f"{span}; divide by the largest value that a pixel can have")
    if high > 2:
        raise UserError(f"{span}; divide by 255 (x / 255)")
    if high > 1 + hair:
        raise UserError(f"{span}; pass x.clamp(0, 1), or scale them")
    if low < 0 or high > 1:
        found.note("pixels", f"{span}: clipped, as that is rounding")
        x = x.clamp(0, 1)
    if 0 < high <= _DARK:
        found.warn(
            "dark",
            f"the brightest pixel is {high:.2g}: were the images divided by 255 twice? Budgets "
            "speak of images in [0,1]",
        )
    return x


def _plain(values: Tensor) -> Tensor:
    """Of no subclass, contiguous, and outside of inference mode; itself where it is."""
    if type(values) is not Tensor:
        values = values.detach().as_subclass(Tensor)
    values = values.contiguous()
    return values.clone() if values.is_inference() else values


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
