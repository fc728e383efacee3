"""Which installed font can draw a text, by the fonts' own tables of characters."""

import functools
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib
from matplotlib import ft2font
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

# Of the fonts that come with matplotlib those whose tables say what they draw: others have symbols
# in the places of letters, and "Last Resort" has a box for everything.
_BUNDLED = ("DejaVu Sans", "STIXGeneral")
# Categories of characters that stand on others, and directions of writing that go to the left.
_MARKS, _LEFTWARD = ("Mn", "Mc", "Me"), ("R", "AL", "AN")
# Newer ones of matplotlib have a library that places marks and turns lines.
_SHAPES = hasattr(ft2font, "__libraqm_version__")


def fallback(text: str) -> tuple[str, ...] | None:
    """Font families that have what the usual font lacks of a text: none are needed, or a few.

    None where no installed font has it, or this matplotlib cannot lay it out.
    """
    if not _SHAPES and any(map(_needs_shaping, text)):
        return None
    missing = {ord(c) for c in text if not c.isspace()} - _characters(*_usual())
    families: list[str] = []
    while missing:
        best = max(_installed(), key=lambda name: len(missing & _characters(name)), default=None)
        if best is None or not missing & _characters(best):
            return None
        families.append(best)
        missing -= _characters(best)
    return tuple(families)


def drawable(text: str) -> bool:
    """Whether figures can show this text."""
    return fallback(text) is not None


def _needs_shaping(character: str) -> bool:
    return (
        unicodedata.category(character) in _MARKS
        or unicodedata.bidirectional(character) in _LEFTWARD
    )


def _usual() -> Iterable[str]:
    return tuple(matplotlib.rcParams["font.family"])


@functools.cache
def _characters(*families: str) -> frozenset[int]:
    """The numbers of the characters that a font has: the one that is found for these families."""
    return frozenset(get_font(findfont(FontProperties(family=list(families)))).get_charmap())


@functools.cache
def _installed() -> tuple[str, ...]:
    """Families to fall back on, sorted: the same text gets the same font."""
    return tuple(sorted(set(_families())))


def _families() -> Iterator[str]:
    bundled = Path(matplotlib.get_data_path())
    for entry in fontManager.ttflist:
        ours = entry.name in _BUNDLED or bundled not in Path(entry.fname).parents
        if ours and (entry.style, entry.weight, entry.stretch) == ("normal", 400, "normal"):
            yield entry.name
