"""Defences that are known to be broken: they run, are found out, and the page says what was found.

What breaks each is known from its code; the numbers are those of ``data/results/broken.json``.
"""

import sys

import pytest
import torch
from tiny import PROJECT

from ldatlib import examine
from ldatlib.data.images import load_images
from ldatlib.files import read_json

sys.path.insert(0, str(PROJECT / "tools"))
import broken  # noqa: E402
import published_tables  # noqa: E402

PAGE = (PROJECT / "docs" / "broken.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def images():
    return load_images("digits", limit=40)


def right(model, x, y):
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean()


def test_every_file_is_a_defence_of_the_record():
    files = {path.stem for path in broken.BROKEN.glob("*.py")} - {"small"}
    assert files == set(broken.NAMES)
    rows = read_json(broken.RECORD)["defences"]
    assert [row["name"] for row in rows] == list(broken.NAMES)


@pytest.mark.parametrize("name", broken.NAMES)
def test_the_record_is_of_todays_code(name):
    (row,) = [r for r in read_json(broken.RECORD)["defences"] if r["name"] == name]
    assert row["code"] == broken.fingerprint(name), "python tools/broken.py; published_tables.py"


@pytest.mark.parametrize("name", broken.NAMES)
def test_an_example_is_short_and_says_what_it_claims(name):
    text = (broken.BROKEN / f"{name}.py").read_text(encoding="utf-8")
    assert text.startswith('"""Claims: ') and 20 <= len(text.splitlines()) <= 75


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in broken.NAMES])
def test_it_classifies_and_its_reader_breaks_it(name, images):
    model, score, attack = broken.load(name)
    model.requires_grad_(False)
    x, y = images.x, images.y
    torch.manual_seed(0)
    clean = right(model, x, y)
    assert clean >= 0.8
    # Where everything is accepted an attacker has nothing to mind but the class.
    x_adv = attack(model, x, y, 0.15, *([-1.0] if score else []))
    assert (x_adv - x).abs().max() <= 0.15 + 1e-6 and 0 <= x_adv.min() <= x_adv.max() <= 1
    if name == "adversarial_training":
        assert right(model, x_adv, y) > clean / 2
    else:
        assert right(model, x_adv, y) < clean / 2


def quick(name, images):
    model, *_ = broken.load(name)
    return examine(model, images.x, images.y, {"linf": broken.EPS}, effort="quick").record


def test_masked_gradients_are_named(images):
    with pytest.warns(UserWarning, match="gradient is 0"):
        record = quick("jpeg_compression", images)
    assert {"gate: gradient", "linf: masking square", "linf: masking gradients"} <= set(
        record.doubts
    )


def test_of_an_honest_training_no_test_sounds(images):
    record = quick("adversarial_training", images)
    assert record.norms["linf"].alarms == [] and record.gate == []


def test_no_number_that_is_too_high_is_believed():
    for row in read_json(broken.RECORD)["defences"]:
        assert published_tables.ending(row) != "above, believed", row["name"]


def test_the_honest_one_is_believed_and_not_broken():
    honest = read_json(broken.RECORD)["defences"][0]
    assert honest["name"] == "adversarial_training" and honest["doubts"] == []
    assert honest["examine"]["value"] > 0.5


@pytest.mark.parametrize("table", ["broken", "broken_said"])
def test_the_page_holds_what_was_recorded(table):
    name = {"broken": "broken-table", "broken_said": "broken-said"}[table]
    made = getattr(published_tables, table)()
    assert f"<!-- begin {name} -->\n{made}\n<!-- end {name} -->" in PAGE


def test_an_ending_says_who_is_right():
    def row(examined, adaptive, doubts):
        return {
            "examine": {"value": examined},
            "adaptive": {"value": adaptive},
            "doubts": doubts,
        }

    assert published_tables.ending(row(0.14, 0.10, [])) == "believed"
    assert published_tables.ending(row(0.14, 0.10, ["gate: gradient"])) == "doubted"
    assert published_tables.ending(row(0.4, 0.1, ["gate: gradient"])) == "above, doubted"
    assert published_tables.ending(row(0.4, 0.1, [])) == "above, believed"
