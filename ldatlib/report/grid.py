"""A table of a page: cells that know their number, their record and whether nobody is ahead."""

import base64
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

# "64.7 ± 5.4", "-0.3", "1,197 images": the number that a text begins with.
_NUMBER = re.compile(r"\s*[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
BEST, LEVEL = "best", "level"


@dataclass(frozen=True)
class Cell:
    """``text`` as it is shown; ``number`` that it is sorted by, None where there is none.

    ``beside``: the paper's number, shown with it. ``records``: names of the records that it comes
    from. ``mark``: ``BEST`` of its column, ``LEVEL`` with it (not told apart), or nothing.
    """

    text: str
    number: float | None = None
    beside: str = ""
    records: tuple[str, ...] = ()
    mark: str = ""

    @property
    def source(self) -> str:
        """The records' names, for whoever points at the number."""
        return ", ".join(f"records/{name}" for name in self.records)


@dataclass(frozen=True)
class Table:
    """``head``: titles of columns, the first ``names`` of which name their row.

    ``name`` is its place in the page and the name of its file; ``numbers`` is what can be
    downloaded: a frame without roundings where there is one.
    """

    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    names: int = 1
    numbers: pd.DataFrame | None = field(default=None, compare=False)

    @property
    def marked(self) -> bool:
        """Whether any cell is the best of its column, or not told apart from it."""
        return any(cell.mark for row in self.rows for cell in row)

    @property
    def beside(self) -> bool:
        """Whether the paper's numbers stand in it."""
        return any(cell.beside for row in self.rows for cell in row)

    @property
    def csv(self) -> str:
        """The numbers as a link that asks nobody: ``data:text/csv;base64,...``."""
        text = self._frame().to_csv(index=False)
        return f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"

    def _frame(self) -> pd.DataFrame:
        if self.numbers is not None:
            return self.numbers
        shown = [[cell.text for cell in row] for row in self.rows]
        return pd.DataFrame(shown, columns=list(self.head))


def number(text: str) -> float | None:
    """The number that a text begins with, or none."""
    found = _NUMBER.match(text)
    return float(found.group().replace(",", "")) if found else None


def cell(value: Any, records: Iterable[Path] = (), precision: int = 1) -> Cell:
    """A cell of whatever a frame holds: a number with ``precision`` digits, a text as it is."""
    names = tuple(path.name for path in records)
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return Cell("", None, records=names)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", None, records=names)
    if isinstance(value, float):
        return Cell(f"{value:.{precision}f}", value, records=names)
    return Cell(str(value), number(str(value)), records=names)


def of_frame(
    frame: pd.DataFrame,
    name: str,
    caption: str,
    *,
    records: Callable[[tuple], Iterable[Path]] | None = None,
    marks: Mapping[str, Mapping[tuple, str]] | None = None,
    numbers: pd.DataFrame | None = None,
    precision: int | Mapping[str, int] = 1,
    links: Collection[str] | None = None,
) -> Table:
    """A frame for reading as a table; the levels of its index name the rows.

    ``records``: the files that a row comes from, by the row's index, a tuple; of the columns
    ``links`` alone, where said. ``marks``: column -> row -> mark. ``precision``: digits behind the
    point, 1 in columns that a mapping leaves out.
    """
    named = not isinstance(frame.index, pd.RangeIndex)
    levels = [str(level or "") for level in frame.index.names] if named else []
    rows = []
    for index, values in zip(frame.index, frame.itertuples(index=False, name=None), strict=True):
        key = index if isinstance(index, tuple) else (index,)
        paths = list(records(key)) if records else []
        row = [cell(part) for part in key] if named else []
        for column, value in zip(frame.columns, values, strict=True):
            linked = paths if links is None or column in links else ()
            digits = precision if isinstance(precision, int) else precision.get(str(column), 1)
            made = cell(value, linked, digits)
            mark = (marks or {}).get(str(column), {}).get(key, "")
            row.append(Cell(made.text, made.number, "", made.records, mark))
        rows.append(row)
    head = [*levels, *map(str, frame.columns)]
    return Table(name, caption, head, rows, max(len(levels), 1), numbers)
