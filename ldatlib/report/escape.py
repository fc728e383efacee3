"""Text of users at the border to where characters mean something: figures and HTML.

Class names, titles of data and of defences may be any line of text. Everything else in the report
handles them as they are; what goes into a matplotlib text passes ``in_figure`` once, what goes into
HTML a part of ``components`` or a table of ``page.styled``.
"""

import re
import unicodedata
from collections.abc import Sequence

from ldatlib.defences import TITLES
from ldatlib.report import fonts

# Characters that a title in a figure may have; a name of a class has less room.
_LONGEST, _LONGEST_CLASS = 32, 24
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_NUMBER = re.compile(r"#\d+")


def in_figure(text: str) -> str:
    """A title for matplotlib, which takes ``$`` for formulas and hides labels that begin with _.

    A defence whose title no font can draw is called by its name, other such characters are left
    out; a long text is cut.
    """
    text = _one_line(text)
    for name, title in TITLES.items():
        if not fonts.drawable(title):
            text = text.replace(_one_line(title), name)
    text = "".join(c for c in text if fonts.drawable(c))
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return _escaped(text)


def class_labels(names: Sequence[str]) -> list[str]:
    """What figures call the classes: their names, or ``#3`` where ``class_key`` has the name."""
    return [
        _escaped(_one_line(name)) if _is_label(name, names) else f"#{number}"
        for number, name in enumerate(names)
    ]


def class_key(names: Sequence[str]) -> str:
    """The classes that figures call by number, such as ``#3: 猫``; empty where there are none."""
    return ", ".join(f"#{k}: {name}" for k, name in enumerate(names) if not _is_label(name, names))


def _is_label(name: str, names: Sequence[str]) -> bool:
    """Whether a figure can show a name of a class, and nobody takes it for another one."""
    shown = _one_line(name)
    return (
        0 < len(shown) <= _LONGEST_CLASS
        and not _NUMBER.fullmatch(shown)
        and [_one_line(other) for other in names].count(shown) == 1
        and fonts.drawable(shown)
    )


def _one_line(text: str) -> str:
    """Accents as one character with their letter, no control characters, one space in a row."""
    composed = unicodedata.normalize("NFC", text)
    kept = (" " if unicodedata.category(c) in _INVISIBLE else c for c in composed)
    return " ".join("".join(kept).split())


def _escaped(text: str) -> str:
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
