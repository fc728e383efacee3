"""Pages on paper, printed by a real browser: a long table on several pages.

Skipped with its reason where chromium or Playwright is missing, unless LDAT_REQUIRE_BROWSER=1.
"""

import re
import zlib

import pytest

from ldatlib.report import components
from ldatlib.report.grid import Cell, Table

pytestmark = pytest.mark.slow

ROWS = 8
# Lines of a row below its first. More than half a page: where a row may be torn, the second is.
FURTHER = 30


def runs_of_text(stream):
    """The lines of text in a page's content, each as its glyphs, whose numbers mean nothing."""
    for block in re.findall(rb"BT\n(.*?)ET", stream, re.DOTALL):
        yield b"".join(re.findall(rb"<([0-9A-F]+)>", block))


def is_noon(glyphs):
    """Four glyphs, the outer two alike and the inner two: the head, and no number of a row."""
    a, b, c, d = (glyphs[k : k + 4] for k in range(0, 16, 4))
    return len(glyphs) == 16 and a == d != b == c


def is_first_line(glyphs):
    """Five glyphs, none like another: ``12345``."""
    return len(glyphs) == 20 and len({glyphs[k : k + 4] for k in range(0, 20, 4)}) == 5


def is_further_line(glyphs):
    """Six glyphs, all of them alike."""
    return len(glyphs) == 24 and len({glyphs[k : k + 4] for k in range(0, 24, 4)}) == 1


def test_every_page_has_the_head_of_its_table_and_no_row_is_torn(page, tmp_path):
    """A cell has a line ``12345`` and 30 of ``oooooo``; its column is called ``noon``."""
    rows = [[Cell(f"{k}"), Cell("12345" + FURTHER * " oooooo")] for k in range(ROWS)]
    table = components.table(Table("long", "A caption.", ["row", "noon"], rows))
    style = "<style>td { width: 4em; min-width: 0; max-width: 4em }</style>"
    html = components.document("Long", table, alive=True).replace("</head>", f"{style}</head>")
    (tmp_path / "long.html").write_text(html, encoding="utf-8")
    page.goto((tmp_path / "long.html").as_uri())
    assert page.locator("thead button").count() == 2
    printed = page.pdf(prefer_css_page_size=True)
    found = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", printed, re.DOTALL):
        try:
            lines = list(runs_of_text(zlib.decompress(stream)))
        except zlib.error:
            continue
        if lines:
            found.append(lines)
    assert len(found) == len(re.findall(rb"/Type /Page\b", printed)) >= 3
    assert [sum(map(is_noon, lines)) for lines in found] == [1] * len(found)
    first, further = (
        [sum(map(of, lines)) for lines in found] for of in (is_first_line, is_further_line)
    )
    assert further == [FURTHER * rows for rows in first] and sum(first) == ROWS
