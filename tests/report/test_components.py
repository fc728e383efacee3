"""Tables and parts of pages: what a cell knows, and that every text stays text."""

import base64
import io
from pathlib import Path

import pandas as pd
import pytest
from charted import png
from hostile import NAMES, Structure
from markupsafe import Markup

from ldatlib.report import components, grid
from ldatlib.report.components import Drawing, Entry, Finding
from ldatlib.report.grid import BEST, LEVEL, Cell, Table


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("64.7 ± 5.4", 64.7),
        ("-0.3", -0.3),
        ("1,197 images", 1197.0),
        ("1e-3", 0.001),
        ("none", None),
    ],
)
def test_a_text_is_sorted_by_the_number_that_it_begins_with(text, number):
    assert grid.number(text) == number


def test_a_frame_as_a_table_knows_its_records_and_marks():
    frame = pd.DataFrame({"PGD": ["64.7 ± 5.4", "9.7 ± 3.4"], "gap": [1.25, float("nan")]})
    frame.index = pd.Index(["PGD-AT", "L2-AT"], name="defence")
    found = grid.of_frame(
        frame,
        "t",
        "A caption.",
        records=lambda key: [Path("records") / f"{key[0]}.json"],
        marks={"PGD": {("PGD-AT",): BEST, ("L2-AT",): LEVEL}},
        precision=2,
    )
    assert found.head == ["defence", "PGD", "gap"] and found.names == 1
    (name, pgd, gap), (_, other, empty) = found.rows
    assert (name.text, pgd.number, pgd.mark, other.mark) == ("PGD-AT", 64.7, BEST, LEVEL)
    assert pgd.source == "records/PGD-AT.json" and (gap.text, empty.text) == ("1.25", "")
    html = components.table(found)
    assert 'href="records/PGD-AT.json" title="records/PGD-AT.json">64.7' in html
    # A cell without a number leads nowhere.
    assert html.count("href=") == 4


def test_what_is_downloaded_are_the_numbers_as_they_are():
    numbers = pd.DataFrame({"defence": ["a,b"], "pgd": [64.6667]})
    table = Table("t", "", ["defence", "PGD"], [[Cell("a,b"), Cell("64.7")]], 1, numbers)
    kind, _, data = table.csv.partition(";base64,")
    assert kind == "data:text/csv"
    read = pd.read_csv(io.BytesIO(base64.b64decode(data)))
    pd.testing.assert_frame_equal(read, numbers)
    shown = Table("t", "", ["defence", "PGD"], [[Cell("a,b"), Cell("64.7")]])
    assert base64.b64decode(shown.csv.partition(",")[2]).decode() == 'defence,PGD\n"a,b",64.7\n'


def test_a_page_runs_no_more_than_it_needs():
    still = components.document("t", components.lead("x"))
    assert "default-src 'none'" in still and "script" not in still
    alive = components.document("t", components.lead("x"), [Entry("main", "In short")], alive=True)
    assert "script-src 'unsafe-inline'\"" in alive and Structure(alive).texts.count("In short") == 1
    drawn = components.document(
        "t", components.lead("x"), charts=Drawing(".own{}", "const drawn = 1 < 2;")
    )
    assert "'unsafe-inline' 'unsafe-eval'" in drawn
    # Style and script are ours, and stand in the page once, as they are.
    assert drawn.count("const drawn = 1 < 2;") == drawn.count(".own{}") == 1


def test_every_part_has_the_elements_of_plain_names():
    def parts(name):
        yield components.warning(name, name)
        yield components.findings([Finding(name, "claims")])
        yield components.advice(name, [name], [name])
        yield components.counts({name: 3})
        yield components.verdict([name], True)
        yield components.figure(png(), name, "n")
        yield components.chart("n", Markup("<div></div>"), name, png())

    for name in NAMES:
        for ours, plain in zip(parts(name), parts("plain"), strict=True):
            found = Structure(ours)
            assert found.elements == Structure(plain).elements
            assert name in "".join(found.texts)
