"""How a picture of any kind becomes one of 8 bits, grey (``L``) or colour (``RGB``).

``RULES`` says it mode by mode, in Pillow's names. Depth is scaled by what the file says of its
bits, never by the values of one picture, so that a grey means the same in a whole folder; where
the file does not say what white is, the picture is refused. It is turned upright, and what is
transparent is laid on white. Colour profiles are not applied. For users: ``docs/data.md``.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

# What a file may be, by its content. Pillow knows more; some run programs, such as EPS.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# Tags of a TIFF file, and two of their values.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = (0,), (2,)
# Pillow scales pixels of 2 and 4 bits to 8, but not the transparent grey beside them.
_STEPS = {"L;2": 85, "L;4": 17}
_HALF_A_GREY = 0.5 / 255


class Refused(ValueError):
    """A picture whose values have no certain meaning: what it is, and the remedy."""


def flatten(image: Image.Image) -> Image.Image:
    """The picture as ``L`` or ``RGB``; loads it where it is not loaded yet.

    Raises ``Refused`` for a picture without a rule, and what Pillow does for a broken one.
    """
    rule = rule_of(image)
    _mend_transparency(image)
    image.load()
    _turn_upright(image)
    return rule.convert(image)


def is_grey(image: Image.Image) -> bool:
    """Whether the picture is grey, from its header; a palette's pixels are looked at."""
    rule = rule_of(image)
    if rule.grey is not None:
        # Pillow has no mode for 16-bit grey with alpha.
        return rule.grey or _packing(image) == "LA;16B"
    red, green, blue = (band.tobytes() for band in flatten(image).split())
    return red == green == blue


def rule_of(image: Image.Image) -> "Rule":
    """The rule for a picture, of which no more than the header is needed."""
    mode = image.mode
    if mode not in RULES:
        raise Refused(f"it is of Pillow's mode {mode!r}, which has no rule; save it as RGB")
    if image.format == "TIFF":
        if _tags(image, _SAMPLE_FORMAT) == _SIGNED:
            raise Refused("it holds signed integers: which is white? save it with 8 bits")
        if mode in ("I;16", "F") and _tags(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
            raise Refused("its white is 0 at more than 8 bits; save it with black as 0")
    if mode == "I" and image.format not in ("PNG", "PPM"):
        raise Refused("it holds integers of 32 bits: which is white? save it with 8 or 16 bits")
    return RULES[mode]


def _packing(image: Image.Image) -> str:
    """How the file packs the pixels of a picture that is not loaded: ``RGB;16B``."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles else ""


def _tags(image: Image.Image, tag: int) -> tuple[object, ...]:
    """The values of a tag of a TIFF file; none in another file."""
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def _mend_transparency(image: Image.Image) -> None:
    """The transparent grey or colour of a PNG in the scale that its pixels will have."""
    key = image.info.get("transparency")
    if key is None or image.mode not in ("L", "RGB"):
        return
    packing = _packing(image)
    if packing == "RGB;16B":
        raise Refused("it has a transparent colour of 16 bits; save it with an alpha channel")
    if packing in _STEPS:
        image.info["transparency"] = key * _STEPS[packing]


def _turn_upright(image: Image.Image) -> None:
    """As the orientation of its EXIF or XMP block says; TIFF has done it while loading."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # of many kinds: a block that nobody can read says nothing
        pass


def _on_white(mode: str, image: Image.Image) -> Image.Image:
    """``L`` or ``RGB``; what shines through alpha or a transparent colour is white."""
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    layer = image.convert("LA" if mode == "L" else "RGBA")
    white = Image.new(mode, image.size, "white")
    white.paste(layer.convert(mode), mask=layer.getchannel("A"))
    return white


def _sixteen_bits(image: Image.Image) -> Image.Image:
    """Black 0, white 65535, or 4095 in a TIFF of 12 bits."""
    levels = np.asarray(image)
    grey = _greys(4095 if _tags(image, _BITS) == (12,) else 65535)[levels]
    if "transparency" in image.info:
        grey[levels == image.info["transparency"]] = 255
    return Image.fromarray(grey)


@cache
def _greys(white: int) -> np.ndarray:
    """The grey of 8 bits for every level up to that of white."""
    return np.rint(np.arange(white + 1) / (white / 255)).astype(np.uint8)


def _decimals(image: Image.Image) -> Image.Image:
    """Black 0, white 1; what lies outside, but for rounding, has another scale."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise Refused("it holds NaN or infinity; save it with 8 or 16 bits")
    if low < -_HALF_A_GREY or high > 1 + _HALF_A_GREY:
        raise Refused(
            f"it holds decimals from {low:.4g} to {high:.4g}, where 0 is black and 1 is white; "
            "scale them to that, or save it with 8 bits"
        )
    return Image.fromarray(np.rint(values * np.float32(255)).clip(0, 255).astype(np.uint8))


class Rule(NamedTuple):
    """Whether pictures of a mode are grey (None: the pixels say), and what makes 8 bits of them."""

    grey: bool | None
    convert: Callable[[Image.Image], Image.Image]


_GREY, _COLOUR = partial(_on_white, "L"), partial(_on_white, "RGB")
RULES = {
    # Grey of at most 8 bits, scaled to 0..255 by Pillow; alpha or one transparent grey.
    "1": Rule(True, _GREY),
    "L": Rule(True, _GREY),
    "LA": Rule(True, _GREY),
    "La": Rule(True, _GREY),
    # A palette: its colours, each as opaque as the palette or the alpha beside it says.
    "P": Rule(None, _COLOUR),
    "PA": Rule(None, _COLOUR),
    # Colour; of 16 bits a channel Pillow keeps the upper 8. The X of RGBX means nothing.
    "RGB": Rule(False, _COLOUR),
    "RGBX": Rule(False, _COLOUR),
    "RGBA": Rule(False, _COLOUR),
    "RGBa": Rule(False, _COLOUR),
    # Other descriptions of colour, by their plain formulas. CMYK of a JPEG is stored inverted, as
    # Adobe does it, and Pillow has turned it back.
    "CMYK": Rule(False, _COLOUR),
    "YCbCr": Rule(False, _COLOUR),
    "LAB": Rule(False, _COLOUR),
    "HSV": Rule(False, _COLOUR),
    # Grey of 12 or 16 bits; PGM of more than 8 bits comes as I, its own white (1023, ...) scaled.
    "I;16": Rule(True, _sixteen_bits),
    "I;16L": Rule(True, _sixteen_bits),
    "I;16B": Rule(True, _sixteen_bits),
    "I;16N": Rule(True, _sixteen_bits),
    "I": Rule(True, _sixteen_bits),
    # Grey in decimals.
    "F": Rule(True, _decimals),
}
