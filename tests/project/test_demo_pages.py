"""The demo's pages say what its record says, and the record what a finished run did.

Sentences are tried on records whose numbers are turned round; what is right about a run is counted
in ``tests/report`` and ``tests/evaluation``.
"""

import copy
import re
import sys

import pytest
from tiny import PROJECT

from ldatlib import UserError, open_run
from ldatlib.files import read_json

sys.path.insert(0, str(PROJECT / "tools"))
import demo_contests  # noqa: E402
import demo_elsewhere  # noqa: E402
import demo_pages  # noqa: E402
import demo_record  # noqa: E402
import demo_scrutiny  # noqa: E402
import pictures  # noqa: E402
from markers import fill  # noqa: E402

RECORD = read_json(demo_record.RECORD)
README, PAGE = PROJECT / "README.md", PROJECT / "docs" / "demo.md"
PROFILES = PROJECT / "docs" / "profiles.md"


@pytest.mark.parametrize("page", [README, PAGE, PROFILES], ids=lambda page: page.name)
def test_a_page_says_what_the_record_says(page):
    text, rendered = page.read_text(encoding="utf-8"), demo_pages.render(RECORD)
    mine = re.findall(r"<!-- begin (demo-[\w-]+) -->", text)
    assert mine and set(mine) <= set(rendered)
    for name in mine:
        block = f"<!-- begin {name} -->\n{rendered[name]}\n<!-- end {name} -->"
        assert block in text, f"{name}: python tools/published_tables.py"


def test_no_number_of_the_demo_is_typed_by_hand():
    outside = re.sub(r"<!-- begin .*?<!-- end [\w-]+ -->", "", PAGE.read_text(), flags=re.DOTALL)
    # What an interval is, is no result.
    outside = re.sub(r"`[^`]*`|\([^)]*\)|95% interval", "", outside)
    assert not re.findall(r"\d+\.\d|\d ?%|\d points", outside)


def test_the_record_says_where_it_comes_from():
    source = RECORD["provenance"]
    assert re.fullmatch(r"[0-9a-f]{40}", source["revision"]) and source["device"]
    assert source["libraries"]["torch"] and re.fullmatch(r"\d{4}-\d\d-\d\d", source["date"])
    assert RECORD["kernels"]
    for other in RECORD["others"]:
        assert other["name"] and ("page" in other or other["source"]["revision"])


def test_a_worst_case_is_below_its_attacks_and_all_attacks_below_it():
    values = RECORD["values"]
    for norm in ("linf", "l2"):
        more = (f"{norm}_search", f"{norm}_all")
        attacks = [key for key in values if key.startswith(f"{norm}_") and key not in more]
        for name, worst in values[norm].items():
            assert worst <= min(values[key][name] for key in attacks)
            assert values[f"{norm}_all"][name] <= values[f"{norm}_search"][name] <= worst


@pytest.fixture
def record():
    return copy.deepcopy(RECORD)


def swapped(record, first, second):
    """The record with two networks' images, in every contest, exchanged."""
    for contest in [*record["contests"], *record["searched"]]:
        right = contest["right"]
        right[first], right[second] = right[second], right[first]
    return record


def test_whoever_is_ahead_is_said_to_be(record):
    own = record["base"]
    assert "ahead of the paper's four rivals" in demo_pages.readme(record)
    said = demo_pages.readme(swapped(record, own, "lbgat"))
    assert "ahead of the paper's four rivals" not in said
    assert demo_contests.sides(demo_contests.contests(record["contests"])["l2"], own)["behind"]


def test_where_nobody_is_overstated_nobody_is_named(record):
    for row in record["scrutiny"]:
        row["overstated"] = False
        row["converged"] = True
    said = demo_scrutiny.scrutinised(record)
    assert "No number of Table 1 is above" in said and "has not converged" not in said


def test_a_detector_that_holds_is_said_to_hold(record):
    for row in record["detector"]:
        row["union"] = row["ordinary"]
    assert "gets no more past" in demo_pages.short(record)


def test_differences_are_the_largest_and_of_whom(record):
    """Of two runs that differ in one number by 7 points."""
    other = {"name": "there", "values": copy.deepcopy(record["values"])}
    same = {"name": "again", "values": copy.deepcopy(record["values"])}
    other["values"]["l2"]["mart"] += 7
    record["others"] = [other, same]
    count = sum(map(len, record["values"].values()))
    assert f"up to 7.0 (MART), a number by {7 / count:.1f}" in demo_elsewhere.moved(record).replace(
        "\n", " "
    )
    (row,) = [
        line for line in demo_elsewhere.moves(record).splitlines() if "worst case, L2" in line
    ]
    assert row.endswith("| 7.0 (MART); 1.0 | none |")


def test_somebody_who_changes_sides_is_named(record):
    other = {"name": "there", "values": copy.deepcopy(record["values"])}
    other["values"]["natural"]["mart"] += 1
    other["searched"] = swapped(copy.deepcopy(record), record["base"], "lbgat")["searched"]
    record["others"] = [other]
    assert "place among the others changes" in demo_elsewhere.moves(record)
    assert "changed somewhere" in demo_pages.short(record).replace("\n  ", " ")


def test_a_place_is_said_of_the_runs_that_were_compared(record):
    """The same machine gave the same numbers, and of the page nothing but numbers is known."""
    values = copy.deepcopy(record["values"])
    values["l2"]["mart"] += 7
    page = {"name": "a page", "page": "x", "values": values}
    again = {"name": "again", "values": record["values"], "searched": record["searched"]}
    record["others"] = [page, again]
    said = demo_pages.readme(record).replace("\n", " ")
    assert "by up to 7.0 points (a page)." in said and "place" not in said
    record["others"] = [page | {"name": "there", "searched": record["searched"]}]
    assert "LDAT's place among the others (there) stays." in demo_pages.readme(record).replace(
        "\n", " "
    )


def test_what_the_last_epochs_moved(record):
    record["validation"] = {
        "mart": [[6, 50.0, 20.0], [7, 90.0, 40.0], [8, 91.0, 30.0], [10, 92.0, 44.0]],
        "ldat": [[6, 50.0, 20.0], [7, 90.0, 40.0], [8, 91.0, 30.0], [10, 85.0, 39.0]],
    }
    said = demo_pages.flattened(record)
    assert "| MART | 90.0 | 92.0 | 40.0 | 44.0 |" in said and "PGD, epoch 7" in said
    assert "by at most 5.0 points, PGD accuracy by at most 4.0 (MART)" in said


def test_without_another_run_nothing_is_said_of_it(record):
    record["others"] = []
    assert "was not measured" in demo_pages.short(record)
    assert "was not measured" in demo_pages.readme(record).replace("\n", " ")


def test_a_page_of_before_is_read():
    """Two rows of docs/demo.md as they stood in November 2026."""
    text = (
        "| defence | source | natural | L-inf PGD | L-inf worst case | L2 PGD | L2 worst case |\n"
        "| MART | measured | 92.67 | 62.33 | 55.67 | 59.33 | 47.67 |\n"
        "| | paper | 82.62 | 52.46 | | 62.31 | |\n"
    )
    assert demo_record.of_page(text) == {
        "natural": {"mart": 92.67},
        "linf_pgd": {"mart": 62.33},
        "linf": {"mart": 55.67},
        "l2_pgd": {"mart": 59.33},
        "l2": {"mart": 47.67},
    }


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(UserError, match="finish it"):
        demo_record.finished(open_run("demo", out=tmp_path, jobs=1))
    with pytest.raises(UserError, match="no record whitebox"):
        demo_record.beside(f"there={tmp_path}", None)
    with pytest.raises(UserError, match="neither a folder nor a page"):
        demo_record.beside("there=nowhere", None)
    with pytest.raises(UserError, match="it takes NAME=DIR"):
        demo_record.beside("there", None)


def test_markers_are_filled_and_others_left():
    text = "<!-- begin a -->\nold\n<!-- end a -->\n<!-- begin storm -->\nx\n<!-- end storm -->\n"
    assert fill(text, {"a": "new"}) == text.replace("old", "new")
    with pytest.raises(KeyError):
        fill(text, {})


def test_readmes_pictures_are_small_and_described():
    names = ("report.png", "explorer.gif")
    size = sum((pictures.IMAGES / name).stat().st_size for name in names)
    assert size <= pictures.MOST_BYTES
    for name in names:
        assert re.search(rf"!\[[^\]]{{20,}}\]\(docs/images/{name}\)", README.read_text())


def test_pictures_of_a_run_without_a_report_are_refused(tmp_path):
    with pytest.raises(UserError, match="runner.py makes it"):
        pictures.take(tmp_path / "report.html")
