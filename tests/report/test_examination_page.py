"""What shows an examination: the verdict, tables, pictures, and a page that asks for no other."""

import csv
import json
import re
import warnings
from dataclasses import replace

import msgspec
import pytest
import torch
from helpers import mostly_right, smooth_net
from torch import nn

import ldatlib
from ldatlib import UserError
from ldatlib.evaluation.autoattack import STANDARD
from ldatlib.evaluation.examination import effort as efforts
from ldatlib.evaluation.masking.verdicts import TITLES as TESTS
from ldatlib.evaluation.robustness import wilson_interval
from ldatlib.report.examination import robustbench, verdict
from ldatlib.report.examination.frames import FRAMES
from ldatlib.study.records.common import Said
from ldatlib.study.records.examination import read_examination

EPS = {"linf": 8 / 255, "l2": 0.2}
NAMES = ["<script>alert(1)</script>", "$a_b$", "c", "d", "猫"]


@pytest.fixture(scope="module")
def examined():
    torch.manual_seed(0)
    net = smooth_net()
    x, y = mostly_right(net, 30)
    quick = efforts.EFFORTS["quick"]
    efforts.EFFORTS["least"] = replace(
        quick, steps=4, search_steps=6, search_restarts=2, masking_images=10, detector_steps=4
    )
    try:
        lines = []
        found = ldatlib.examine(
            *(net, x, y, EPS),
            effort="least",
            score="posterior",
            say=lines.append,
            class_names=NAMES,
            source="<b>model</b>.py:make & more",
            command="ldat examine 'x' --out <dir>",
        )
    finally:
        del efforts.EFFORTS["least"]
    return found, lines


def test_the_verdict_says_the_lowest_number_with_its_interval(examined):
    found, _ = examined
    first = found.verdict.splitlines()[0]
    norm = found.record.norms["linf"]
    right = norm.right.count("1")
    low, high = wilson_interval(right, 30)
    assert first.startswith(
        f"at most {right / 30:.1%} [{low:.1%}, {high:.1%}] of 30 images right under L-inf 8/255"
    )
    assert "strongest: " in first and "converged: " in first and "masking: " in first
    assert str(found) == found.verdict


def test_what_is_said_before_it_starts_and_while_it_runs(examined):
    found, lines = examined
    (total,) = [line for line in lines if "forward passes of one image" in line]
    assert total.startswith(f"at most {found.record.passes:,} forward")
    # All of the plan is said before the first attack is done.
    assert lines.index(total) < next(i for i, line in enumerate(lines) if "PGD: " in line)
    # Once an attack is done its speed is known; at the very end there is nothing to go.
    assert re.fullmatch(r"L-inf PGD: \d+ left; at most about \d+ (s|min) to go", lines[9])
    assert re.fullmatch(r"L-inf APGD-DLR: \d+ left; at most about \d+ (s|min) to go", lines[10])
    assert lines[-1] == "L2 attack on the detector"


@pytest.mark.parametrize(
    ("norm", "eps", "said"),
    [
        ("linf", 8 / 255, "L-inf 8/255"),
        ("linf", 0.05, "L-inf 0.05"),
        ("l2", 0.5, "L2 0.5"),
        ("l2", 128 / 255, "L2 0.502"),
    ],
)
def test_budgets_as_the_field_writes_them(norm, eps, said):
    assert verdict.budget(norm, eps) == said


def test_classes_that_the_images_lack_are_named(examined):
    record = msgspec.structs.replace(examined[0].record, class_names=["a", "b"])
    assert any("are they numbered alike" in line for line in verdict.lines(record))
    assert not any("numbered alike" in line for line in verdict.lines(examined[0].record))


def test_in_a_notebook_it_shows_itself(examined):
    shown = examined[0]._repr_html_()
    assert shown.startswith('<div class="verdict') and "<script" not in shown


def test_a_doubt_names_what_to_try(examined):
    found, _ = examined
    record = msgspec.structs.replace(found.record, doubts=["gate: gradient", "l2: not converged"])
    said = verdict.belief(record)
    assert "differentiable stand-in" in said and "more steps and restarts" in said
    assert "upper bounds" in verdict.belief(msgspec.structs.replace(found.record, doubts=[]))


@pytest.mark.parametrize("name", FRAMES)
def test_frames(examined, name):
    frame = examined[0].frame(name)
    assert len(frame)
    if name == "attacks":
        for _, of_norm in frame.groupby("norm"):
            assert (of_norm.left <= of_norm.left.shift(fill_value=30)).all()


def test_the_images_say_what_the_detector_did_with_each(examined):
    """The half that is attacked; the sentence of the verdict counts the same images."""
    found, _ = examined
    table, of = found.frame("images"), found.record.norms["l2"].detector
    assert table.l2_missed.isna().tolist() == [True, False] * 15
    attacked = table[1::2]
    assert (attacked.l2_fooled == attacked.l2_stopped + attacked.l2_missed).all()
    assert attacked.l2_missed.mean() == pytest.approx(of.missed.value)
    (said,) = [line for line in found.verdict.splitlines() if line.startswith("L2 0.2: of 15")]
    refused = 15 - attacked.l2_clean_accepted.sum()
    assert f"refuses {refused} as they are; for {attacked.l2_fooled.sum()} an image" in said
    assert f"it stops {attacked.l2_stopped.sum()} of these, and accepts" in said
    older = msgspec.structs.replace(of, by_image=None)
    assert verdict.of_stopped(older) is None


def test_unknown_names_are_refused(examined):
    with pytest.raises(UserError, match="unknown table 'x'; known: verdict"):
        examined[0].frame("x")
    with pytest.raises(UserError, match="unknown figure 'x'; known: curve"):
        examined[0].figure("x")


def test_what_is_saved_is_read_back(examined, tmp_path):
    found, _ = examined
    assert found.save(tmp_path / "out") == tmp_path / "out"
    assert read_examination(tmp_path / "out" / "examination.json") == found.record
    with open(tmp_path / "out" / "tables" / "images.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert "".join(row["l2"] for row in rows) == found.record.norms["l2"].right
    path = tmp_path / "out" / "examination.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"images": 7}))
    with pytest.raises(UserError, match="altered"):
        read_examination(path)


def test_the_page_escapes_everything_and_asks_for_nothing(examined):
    page = examined[0].html()
    assert "<script" not in page and "<b>model</b>" not in page
    assert "&lt;b&gt;model&lt;/b&gt;.py:make &amp; more" in page
    assert "&lt;dir&gt;" in page
    # Nothing is fetched: every picture is in the page, and a policy forbids the rest.
    assert set(re.findall(r'src="([^,"]{0,40})', page)) == {"data:image/webp;base64"}
    assert "default-src 'none'" in page and "href" not in page and "@import" not in page
    # The verdict stands before everything else.
    assert page.index("at most") < page.index("<table")


def of_a_thousand(record, **norm):
    """The record with 1,000 images that every attack of AutoAttack met."""
    replace = msgspec.structs.replace
    turn = replace(record.norms["linf"].turns[0], family="autoattack", left=421)
    ensemble = [replace(turn, attack=f"linf_{name}") for name in STANDARD]
    of = replace(record.norms["linf"], turns=ensemble, converged=True, **norm)
    said = {"images": 1000, "data": "CIFAR-10", "doubts": [], "gate": []}
    return replace(record, norms={"linf": of}, **said)


def test_an_entry_of_robustbench(examined):
    """Fields and types as in RobustBench's model_info/cifar10/Linf/Bai2024MixedNUTS.json."""
    record = of_a_thousand(examined[0].record)
    entry = robustbench.entries(record)["Linf"]
    assert list(entry) == [
        *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset"),
        *("venue", "architecture", "eps", "clean_acc", "reported", "autoattack_acc", "external"),
        *("footnote", "unreliable"),
    ]
    assert (entry["dataset"], entry["eps"], entry["autoattack_acc"]) == ("cifar10", "8/255", "42.1")
    assert float(entry["external"]) == round(100 * record.norms["linf"].robust_accuracy.value, 2)
    assert entry["number_forward_passes"] == 1 and entry["unreliable"] is False
    assert entry["link"] is None and "unreliable" not in entry["footnote"]


def test_what_makes_an_entry_unreliable_is_said_in_words(examined):
    record = of_a_thousand(examined[0].record)
    noisy = {"name": "randomised", "severity": "warning", "text": "drawn"}
    record = msgspec.structs.replace(
        record,
        gate=[msgspec.convert(noisy, type=Said)],
        doubts=["gate: randomised", "linf: masking square", "l2: masking transfer"],
        settings=record.settings | {"eot": 20},
    )
    entry = robustbench.entries(record)["Linf"]
    assert entry["unreliable"] and entry["number_forward_passes"] == 20
    assert entry["footnote"].endswith(
        "Possibly unreliable: the forward pass is random; tests for gradient masking sound "
        f"({TESTS['square']})."
    )


@pytest.mark.parametrize(
    ("name", "remedy", "said"),
    [
        ("dark", "divided by 255 once", "divided by 255 twice"),
        ("shifted", "labels that run from 0", "labels seem to be shifted"),
    ],
)
def test_images_and_labels_that_look_wrong_make_it_unreliable(examined, name, remedy, said):
    found = {"name": name, "severity": "warning", "text": "something is wrong"}
    record = msgspec.structs.replace(
        of_a_thousand(examined[0].record),
        gate=[msgspec.convert(found, type=Said)],
        doubts=[f"gate: {name}"],
    )
    assert remedy in verdict.belief(record)
    entry = robustbench.entries(record)["Linf"]
    assert entry["unreliable"] and said in entry["footnote"]


def test_a_tiny_budget_makes_the_entry_of_its_norm_unreliable(examined):
    record = of_a_thousand(examined[0].record, eps=8 / 255 / 255)
    entry = robustbench.entries(record)["Linf"]
    assert entry["unreliable"] and "less than half a level of 8 bits" in entry["footnote"]


def test_where_there_is_no_entry_it_is_said_why(examined, tmp_path):
    record = examined[0].record
    assert robustbench.why_not(record) == "30 images are fewer than 1,000"
    enough = msgspec.structs.replace(record, images=1000)
    assert "did not run in full under L-inf" in robustbench.why_not(enough)
    whole = replace(examined[0], record=of_a_thousand(record))
    path = whole.save(tmp_path) / "robustbench" / "Linf.json"
    assert (
        json.loads(path.read_text())["clean_acc"]
        == robustbench.entries(whole.record)["Linf"]["clean_acc"]
    )
    examined[0].save(tmp_path)
    assert not path.exists()


def test_warnings_of_the_gate_are_in_the_verdict():
    torch.manual_seed(0)
    net = smooth_net()
    x, y = mostly_right(net, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ldatlib.examine(
            nn.Sequential(net, nn.Softmax(1)), x, y, {"linf": 0.05}, effort="quick"
        )
    assert "warning: probabilities" in found.verdict


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"time_limit": 0}, "time_limit is in seconds"),
        ({"source": "two\nlines"}, "line of text"),
        ({"class_names": [""]}, "line of text"),
        ({"state": 3}, "state must be a path"),
    ],
)
def test_bad_input(given, said, monkeypatch):
    monkeypatch.setattr("ldatlib.evaluation.examination.parts.worst_case", None)
    net = smooth_net()
    x, y = mostly_right(net, 12)
    with pytest.raises(UserError, match=said):
        ldatlib.examine(net, x, y, {"linf": 0.05}, **given)


@pytest.mark.slow
def test_the_page_in_a_real_browser_asks_for_nothing(page, examined, tmp_path):
    """What it looks like is for people; here no request leaves it, and every picture is drawn."""
    folder = examined[0].save(tmp_path / "out")
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    address = (folder / "examination.html").as_uri()
    page.goto(address)
    assert "at most" in page.locator(".verdict p").first.inner_text()
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 3 and min(widths) > 100
    assert not complaints
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.title() == "Examination of <b>model</b>.py:make & more"


@pytest.mark.parametrize(
    "test, overstated, alone",
    [
        ("step_size", False, " (of PGD alone)"),
        ("larger_balls", False, " (of searches inside the ball alone)"),
        ("larger_balls", True, ""),
        ("square", False, ""),
    ],
)
def test_whom_an_alarm_speaks_of(examined, test, overstated, alone):
    norm = examined[0].record.norms["linf"]
    (found,) = [one for one in norm.masking.tests if one.test == test]
    flags = {"verdict": "alarm", "misled": True, "overstated": overstated}
    masking = msgspec.structs.replace(norm.masking, tests=[msgspec.structs.replace(found, **flags)])
    said = verdict.masking(msgspec.structs.replace(norm, masking=masking))
    assert said == TESTS[test] + alone
