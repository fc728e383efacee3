"""Two examinations side by side: what ``compare`` returns, in sentences, tables and a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from ldatlib.errors import UserError
from ldatlib.files import as_path, write_bytes, write_json
from ldatlib.report import components, words
from ldatlib.report.examination import comparison_figures as figures
from ldatlib.report.examination import frames, page
from ldatlib.report.examination.verdict import belief, budget, interval, masking
from ldatlib.report.paired import ALPHA
from ldatlib.report.words import NORMS
from ldatlib.study.records.comparison import Compared
from ldatlib.study.records.comparison import Comparison as Record
from ldatlib.study.records.examination import Examination

TABLES = ("comparison", "masking")
FIGURES = ("differences", "curve")
PAGE, RECORD = "comparison.html", "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """The ``record``, whose fields are those of ``comparison.json``, and both examinations."""

    record: Record
    examinations: tuple[Examination, Examination]

    @property
    def verdict(self) -> str:
        """In sentences, a line each: what differs, and whether to believe it."""
        return "\n".join(lines(self))

    def frame(self, name: str = "comparison") -> pd.DataFrame:
        """A table: ``comparison`` or ``masking``. Shares and differences are in percent.

        Raises ``UserError`` for another name.
        """
        if name not in TABLES:
            raise UserError(f"unknown table {name!r}; known: {', '.join(TABLES)}")
        if name == "masking":
            return pd.DataFrame([msgspec.to_builtins(test) for test in self.record.tests])
        return _rows(self.record)

    def figure(self, name: str = "differences") -> Figure:
        """A picture: ``differences`` or ``curve``. Raises ``UserError`` for another."""
        if name not in FIGURES:
            raise UserError(f"unknown figure {name!r}; known: {', '.join(FIGURES)}")
        if name == "curve":
            return figures.curve(self.examinations)
        return figures.differences(self.record)

    def html(self) -> str:
        """The page: one file that asks for no other, the verdict first."""
        return components.document("Two examinations side by side", _body(self, True))

    def save(self, folder: str | Path) -> Path:
        """``comparison.json``, ``comparison.html`` and ``tables/*.csv``. Returns the folder.

        Raises ``UserError`` where it cannot be written.
        """
        folder = as_path(folder, "folder")
        frames.save(folder, TABLES, self.frame)
        write_bytes(folder / PAGE, self.html().encode())
        write_json(folder / RECORD, msgspec.to_builtins(self.record))
        return folder

    def __str__(self) -> str:
        return self.verdict

    def _repr_html_(self) -> str:
        """For a notebook."""
        return str(_body(self, False))


def lines(found: Comparison) -> list[str]:
    """The verdict: each norm, the detectors, clean accuracy, then what to be careful with."""
    record, order = found.record, ("worst_case", "detector", "clean")
    said = [_sentence(record, r) for what in order for r in record.rows if r.what == what]
    a, b = (examined.norms for examined in found.examinations)
    said += [f"{NORMS[n]}: masking alarms: A {masking(a[n])}; B {masking(b[n])}" for n in a]
    said += [f"unlike: {text}" for text in record.unlike]
    for side, examined in zip((record.first, record.second), found.examinations, strict=True):
        if not side.ok:
            said.append(f"{side.name}: SELF-CHECK FAILED, do not use the numbers")
        said.append(f"{side.name}: {belief(examined)}")
    return said


def _sentence(record: Record, row: Compared) -> str:
    under = "without an attack"
    if row.norm is not None:
        under = budget(row.norm, record.eps[row.norm])
        under += f" {row.title}" if row.what == "detector" else ""
    count, what = row.first.count, "robust" if row.what == "detector" else "right"
    return (
        f"{under}: A {interval(row.first)}, B {interval(row.second)} of {count} images {what}; "
        f"{_conclusion(record, row)}"
    )


def _conclusion(record: Record, row: Compared) -> str:
    only = f"only A has {row.first_only}, only B {row.second_only}"
    if row.p is None or row.p_holm is None:
        return f"not tested, the attacks are not the same ({only})"
    tests = sum(r.p is not None for r in record.rows)
    how = f"{only}; p = {row.p_holm:.2g}, corrected for {tests} tests"
    if row.p_holm >= ALPHA:
        return f"no difference is shown ({how})"
    ahead, ends = ("B", (row.low, row.high)) if row.difference > 0 else ("A", (-row.high, -row.low))
    low, high = (f"{100 * end:.1f}" for end in ends)
    return f"{ahead} has {100 * abs(row.difference):.1f} points more [{low}, {high}] ({how})"


def _rows(record: Record) -> pd.DataFrame:
    """A row a norm and attack: both shares, images that one alone has, the paired test."""
    found = []
    for row in record.rows:
        entry: dict[str, Any] = {"norm": row.norm or "", "what": row.what, "under": row.title}
        entry |= {"images": row.first.count}
        entry |= words.columns("A", row.first) | words.columns("B", row.second)
        entry |= {"only_A": row.first_only, "only_B": row.second_only}
        ends = {"": row.difference, "_low": row.low, "_high": row.high}
        entry |= {f"B_less_A{end}": round(100 * value, 2) for end, value in ends.items()}
        found.append(entry | {"p": row.p, "p_holm": row.p_holm})
    return pd.DataFrame(found)


def _shown(record: Record) -> pd.DataFrame:
    """The same for reading: intervals within brackets."""
    return pd.DataFrame(
        {
            "norm": NORMS[row.norm] if row.norm else "",
            "right": row.title if row.what != "attack" else f"after {row.title}",
            "A": interval(row.first),
            "B": interval(row.second),
            "only A": row.first_only,
            "only B": row.second_only,
            "B less A, points": f"{100 * row.difference:+.1f} "
            f"[{100 * row.low:+.1f}, {100 * row.high:+.1f}]",
            "p": "not tested" if row.p is None else f"{row.p:.2g}",
            "p, corrected": "" if row.p_holm is None else f"{row.p_holm:.2g}",
        }
        for row in record.rows
    )


def _body(found: Comparison, pictures: bool) -> Markup:
    record, sides = found.record, (found.record.first, found.record.second)
    alarm = any(side.doubts or not side.ok for side in sides)
    models = pd.DataFrame(
        {"": s.name, "model": s.source, "effort": s.effort, "examination": s.key} for s in sides
    )
    how = (
        "Only what is still right is attacked: each share is of the images that are right under "
        "this attack and all before it. p: McNemar's exact test on the same images; corrected by "
        "Holm over all tests of this page. It speaks of these two models, not of two methods."
    )
    tests = found.frame("masking").rename(columns={"first": "A", "second": "B"})
    tests = tests[["norm", "title", "A", "B"]] if len(tests) else tests
    commands = [f"{side.name}: {side.command}" for side in sides if side.command]
    again = (components.heading("Again"), components.lines(commands)) if commands else ()
    return components.joined(
        *(components.paragraph(side.source, f"{side.name}:") for side in sides),
        components.verdict(lines(found), alarm),
        page.section("The two", models, "models"),
        components.paragraph(f"{record.data}: {record.images} images.", "Data."),
        page.section("Images right", _shown(record), "comparison"),
        components.paragraph(how, "How to read it."),
        *(page.drawn(found.figure(name)) for name in FIGURES if pictures),
        page.section("Tests for gradient masking", tests, "masking"),
        *again,
    )
