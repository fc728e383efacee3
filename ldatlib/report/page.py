"""Pieces of the report's page, as HTML: paragraphs, pictures with words beside them, tables."""

import base64
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler
from PIL import Image

from ldatlib.report.escape import in_html

# A page typesets $...$ in its text as formulas, but for elements of these classes.
_PLAIN = 'class="tex2jax_ignore mathjax_ignore"'
# Where a PNG says what it shows; ``figures.save`` writes it.
DESCRIPTION = "Description"


def paragraph(text: str, strong: str = "") -> str:
    """A paragraph of plain text, with a beginning in bold type."""
    first = f"<b>{in_html(strong)}</b> " if strong else ""
    return f"<p {_PLAIN}>{first}{in_html(text)}</p>"


def picture(path: Path, title: str) -> str:
    """A PNG with what it shows, below it and as its alternative text; ``title`` where it is mute.

    The picture is in the text: the page needs no other file.
    """
    with Image.open(path, formats=["PNG"]) as image:
        said = in_html(str(image.info.get(DESCRIPTION) or title))
    return inlined(path.read_bytes(), said)


def inlined(content: bytes, said: str) -> str:
    """A PNG's bytes; ``said``, already HTML, is what they show."""
    data = base64.b64encode(content).decode()
    return (
        f'<figure {_PLAIN} style="margin:0 0 2em">'
        f'<img alt="{said}" src="data:image/png;base64,{data}" style="max-width:100%">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def styled(frame: pd.DataFrame, name: str, precision: int = 6) -> Styler:
    """A table for reading, whatever text is in it; ``name`` makes its HTML the same every time."""
    style = frame.style.set_uuid(name).set_table_attributes(_PLAIN)
    style = style.format(escape="html", precision=precision)
    for axis in (0, 1):
        style = style.format_index(escape="html", precision=precision, axis=axis)
    return style
