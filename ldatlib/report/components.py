"""The parts that pages are built of: one template a part, everything in it escaped.

Each function returns HTML that a page may hold as it is (``Markup``); whatever else reaches a
template, such as a class's name, is text. A page asks for no other file and nothing of a network:
its policy forbids it.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ldatlib.report.grid import Table
from ldatlib.report.page import DESCRIPTION
from ldatlib.report.pictures import uri_of_png

# Nothing but what stands in the page is shown; scripts are those of the page, or none at all.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SCRIPTS = "; script-src 'unsafe-inline'"
# Vega compiles the expressions of a chart.
_CHARTS = " 'unsafe-eval'"


@dataclass(frozen=True)
class Entry:
    """A line of the contents: where it leads and what it is called."""

    name: str
    title: str


@dataclass(frozen=True)
class Drawing:
    """What draws the charts of a page: a style sheet and a script, trusted as they are, once."""

    style: str
    script: str


@dataclass(frozen=True)
class Finding:
    """A sentence of the first screen, and the section where its ground stands."""

    text: str
    ground: str


@functools.cache
def _templates() -> Environment:
    loader = PackageLoader("ldatlib.report", "templates")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def _render(part: str, **values: Any) -> Markup:
    # The template has escaped every value; what it returns is HTML.
    return Markup(_templates().get_template(f"{part}.html").render(**values))


def document(
    title: str,
    body: Markup,
    contents: Sequence[Entry] = (),
    *,
    alive: bool = False,
    charts: Drawing | None = None,
) -> str:
    """A whole page. ``contents``: the entries of the column that stays beside it.

    ``alive``: tables sort, claims filter, contents follow. ``charts``: what draws those in it.
    """
    policy = _POLICY + (_SCRIPTS if alive or charts else "") + (_CHARTS if charts else "")
    page = _render(
        "document",
        title=title,
        body=body,
        contents=contents,
        # Of our own words: its quotes stay quotes.
        policy=Markup(policy),
        alive=alive,
        charts=charts,
    )
    return str(page)


def joined(*parts: Markup | None) -> Markup:
    """Parts below each other."""
    return Markup("\n").join(part for part in parts if part)


def paragraph(text: str, strong: str = "") -> Markup:
    """A paragraph of plain text, with a beginning in bold type."""
    return _render("paragraph", text=text, strong=strong)


def lines(texts: Sequence[str]) -> Markup:
    """Sentences as a list."""
    return _render("lines", texts=texts)


def preformatted(text: str) -> Markup:
    """A command, or settings, as they are typed."""
    return _render("preformatted", text=text)


def section(name: str, title: str, body: Markup, opened: bool = True) -> Markup:
    """A section that folds."""
    return _render("section", name=name, title=title, body=body, opened=opened)


def heading(title: str, name: str = "") -> Markup:
    """A heading within a section, or of a page that does not fold."""
    return _render("heading", title=title, name=name)


def warning(text: str, strong: str = "") -> Markup:
    """What a reader must not miss."""
    return _render("warning", text=text, strong=strong)


def table(content: Table, download: bool = True) -> Markup:
    """A table with its caption: sortable where the page is alive, its numbers to download."""
    return _render("table", table=content, download=download)


def figure(content: bytes, said: str, name: str = "") -> Markup:
    """A PNG's bytes with what it shows, below it and as its alternative text."""
    return _render("figure", uri=uri_of_png(content), said=said, name=name)


def picture(path: Path, title: str, name: str = "") -> Markup:
    """A PNG file with what it says that it shows; ``title`` where it is mute."""
    with Image.open(path, formats=["PNG"]) as image:
        said = str(image.info.get(DESCRIPTION) or title)
    return figure(path.read_bytes(), said, name or path.stem)


def chart(name: str, drawn: Markup, caption: str, static: bytes | None = None) -> Markup:
    """A live chart: ``drawn`` is its place in the page, as ``report.charts`` makes it.

    ``static``: the same as a PNG, for print and where no script runs.
    """
    uri = uri_of_png(static) if static else ""
    return _render("chart", name=name, drawn=drawn, caption=caption, uri=uri)


def lead(text: str) -> Markup:
    """The sentence that a page begins with."""
    return _render("lead", text=text)


def findings(found: Sequence[Finding]) -> Markup:
    """What was found, each sentence with the way to its ground."""
    return _render("findings", findings=found)


def advice(title: str, good: Sequence[str], bad: Sequence[str]) -> Markup:
    """When to build on something, and when not."""
    return _render("advice", title=title, good=good, bad=bad)


def counts(found: Mapping[str, int], title: str = "The paper's claims") -> Markup:
    """Verdicts counted, a cell each, that lead to the claims of that verdict."""
    return _render("counts", counts=found, title=title)


def claims(judged: Sequence[Any], name: str) -> Markup:
    """Claims with their verdicts, to be filtered; ``judged``: of ``report.claims.judged``."""
    sections = list(dict.fromkeys(one.claim.section for one in judged))
    outcomes = list(dict.fromkeys(one.outcome for one in judged))
    return _render("claims", judged=judged, name=name, sections=sections, outcomes=outcomes)


def verdict(sentences: Sequence[str], doubt: bool) -> Markup:
    """The verdict of an examination; ``doubt``: whether something speaks against it."""
    return _render("verdict", sentences=sentences, doubt=doubt)
