"""Names that users give, of classes, files and data: one line of text each, whatever is in it."""

import unicodedata
from pathlib import Path

from ldatlib.errors import UserError

# Categories of what no line of text holds: control characters, bytes that are no UTF-8, new lines.
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")


def shown(path: Path | str) -> str:
    """A path as text on one line that any terminal takes, whatever bytes are in it."""
    text = str(path)
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _NO_TEXT else c
        for c in text
    )


def check_line(what: str, text: str) -> None:
    """Raises ``UserError`` where ``text`` is empty, or holds what no line of text does."""
    known = isinstance(text, str) and text.strip()
    if not known or any(unicodedata.category(c) in _NO_TEXT for c in text):
        raise UserError(f"the {what} must be a line of text, not {text!r}; rename it")
