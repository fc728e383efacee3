"""Two examinations side by side: paired, corrected, and only what both have met."""

import csv
import json
import re
from dataclasses import replace

import msgspec
import pytest
import torch
from helpers import mostly_right, smooth_net
from scipy.stats import binomtest

import ldatlib
from ldatlib import UserError
from ldatlib import __main__ as command
from ldatlib.evaluation.examination import effort as efforts
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report.examination.compare import compare
from ldatlib.report.paired import holm

EPS = {"linf": 8 / 255, "l2": 0.2}


def examined(net, x, y, source, **more):
    return ldatlib.examine(net, x, y, EPS, effort="least", source=source, **more)


@pytest.fixture(scope="module")
def world():
    """A network, a blunter one that is right on more images of every ball, and their images."""
    quick = efforts.EFFORTS["quick"]
    few = {"steps": 4, "search_steps": 6, "search_restarts": 2, "masking_images": 10}
    efforts.EFFORTS["least"] = replace(quick, **few, detector_steps=4, detector_queries=5)
    efforts.EFFORTS["more"] = replace(efforts.EFFORTS["least"], search_steps=8)
    torch.manual_seed(0)
    net, blunt = smooth_net(), smooth_net()
    with torch.no_grad():
        blunt.first.weight.mul_(0.2)
        blunt.first.bias.mul_(0.2)
    x, y = mostly_right(net, 40)
    try:
        yield net, blunt, x, y
    finally:
        del efforts.EFFORTS["least"], efforts.EFFORTS["more"]


@pytest.fixture(scope="module")
def pair(world):
    net, blunt, x, y = world
    return [
        examined(n, x, y, source, score="posterior")
        for n, source in ((net, "<b>a</b>.py:make"), (blunt, "b.py:make"))
    ]


def test_every_row_is_mcnemars_test_of_the_same_images(pair):
    a, b = (found.record for found in pair)
    found = compare(*pair).record
    assert [row.what for row in found.rows if row.norm == "l2"] == [
        *("attack", "attack", "attack", "worst_case", "detector")
    ]
    for row in found.rows:
        if row.what == "clean":
            ours, theirs = a.clean_right, b.clean_right
        elif row.what == "worst_case":
            ours, theirs = a.norms[row.norm].right, b.norms[row.norm].right
        else:
            continue
        ours, theirs = from_bits(ours), from_bits(theirs)
        only = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        assert (row.first_only, row.second_only) == only
        expected = binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
        assert row.p == pytest.approx(expected)
        assert row.difference == pytest.approx((only[1] - only[0]) / 40)
        assert row.low <= row.difference <= row.high
    tested = [row for row in found.rows if row.p is not None]
    assert [row.p_holm for row in tested] == pytest.approx(holm([row.p for row in tested]).tolist())


def test_attacks_are_compared_after_their_turns(pair):
    rows = [row for row in compare(*pair).record.rows if (row.norm, row.what) == ("l2", "attack")]
    turns = [turn for turn in pair[0].record.norms["l2"].turns if turn.family != "masking"]
    assert [row.first.value * 40 for row in rows] == pytest.approx([turn.left for turn in turns])


def test_detectors_are_compared_by_what_is_robust_with_rejection(pair):
    for row in compare(*pair).record.rows:
        if row.what == "detector":
            of = [found.record.norms[row.norm].detector for found in pair]
            shares = [row.first, row.second]
            assert [s.value for s in shares] == [d.robust["0"].value for d in of]
            assert row.first.count == 20 and row.p is not None


def test_the_verdict_says_who_has_more_or_that_nothing_is_shown(pair):
    found = compare(*pair)
    same = pair[0].compare(pair[0])
    assert same.verdict.count("no difference is shown (only A has 0, only B 0; p = 1") == 5
    assert "unlike: both are of the same weights" in same.verdict
    row = next(r for r in found.record.rows if r.what == "worst_case")
    first = found.verdict.splitlines()[0]
    assert first.startswith(f"L-inf 8/255: A {row.first.value:.1%} [")
    assert f"only A has {row.first_only}, only B {row.second_only}; p = " in first
    assert "L2: masking alarms: A " in found.verdict
    assert "\nA: " in found.verdict and "\nB: " in found.verdict


def test_a_difference_is_said_with_its_interval(pair):
    """40 images, of which only B has 20: p = 2^-19, whatever else is on the page."""
    a, b = (found.record for found in pair)
    norms = {n: msgspec.structs.replace(of, right="0" * 40) for n, of in a.norms.items()}
    better = {n: msgspec.structs.replace(of, right="01" * 20) for n, of in b.norms.items()}
    found = compare(
        msgspec.structs.replace(a, norms=norms), msgspec.structs.replace(b, norms=better)
    )
    assert "B has 50.0 points more [3" in found.verdict.splitlines()[0]
    turned = compare(found.examinations[1], found.examinations[0])
    assert "A has 50.0 points more [3" in turned.verdict.splitlines()[0]


def test_other_efforts_are_said_and_only_what_both_met_is_tested(world, pair):
    net, blunt, x, y = world
    more = ldatlib.examine(blunt, x, y, EPS, effort="more", source="b.py:make")
    found = compare(pair[0], more)
    rows = [row for row in found.record.rows if row.norm == "linf"]
    assert [row.what for row in rows] == ["attack", "attack", "worst_case"]
    assert rows[-1].p is None and rows[0].p is not None
    said = "\n".join(found.record.unlike)
    assert "effort: A least, B more" in said and "L-inf: A alone is a detector" in said
    assert "L-inf: both met 2 attacks with the same settings" in said
    assert "not tested, the attacks are not the same" in found.verdict


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "0" * 64}, "not the same images"),
        ({"norms": "l2"}, "A was examined under L-inf and L2, B under L2"),
        ({"norms": "other"}, "A was examined under L-inf 8/255, B under L-inf 0.05"),
    ],
)
def test_what_cannot_be_compared(pair, change, said):
    record = pair[1].record
    norms = dict(record.norms)
    if change.get("norms") == "l2":
        change = {"norms": {"l2": norms["l2"]}}
    elif "norms" in change:
        change = {"norms": norms | {"linf": msgspec.structs.replace(norms["linf"], eps=0.05)}}
    with pytest.raises(UserError, match=said):
        compare(pair[0], msgspec.structs.replace(record, **change))


def test_no_examination_there(tmp_path):
    with pytest.raises(UserError, match="there is no examination .*name the folder"):
        compare(tmp_path, tmp_path)
    with pytest.raises(UserError, match="must be a path"):
        compare(3, tmp_path)


def test_the_command_leaves_record_page_and_tables(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, found in zip("ab", pair, strict=True):
        found.save(name)
    assert command.main(["compare", "a", "b/examination.json", "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert "L-inf 8/255: A " in out and out.endswith("the page: out/comparison.html\n")
    left = {str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/**/*.*")}
    tables = {"tables/comparison.csv", "tables/masking.csv"}
    assert left == {"comparison.html", "comparison.json"} | tables
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["first"]["source"] == "<b>a</b>.py:make" and content["images"] == 40
    with open("out/tables/comparison.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["A"]) == 100 * pair[0].record.clean_accuracy.value
    assert command.main(["compare", "b", "a", "--out", "out"]) == 1
    assert "holds another comparison" in capsys.readouterr().err
    assert command.main(["compare", "a", "b", "--out", "out"]) == 0
    assert command.main(["compare", "a", "nowhere"]) == 1


def test_the_page_escapes_everything_and_asks_for_nothing(pair):
    found = compare(*pair)
    page = found.html()
    assert "<script" not in page and "<b>a</b>" not in page and "&lt;b&gt;a&lt;/b&gt;" in page
    assert set(re.findall(r'src="([^,"]{0,40})', page)) == {"data:image/webp;base64"}
    assert "default-src 'none'" in page and page.index("p = ") < page.index("<table")
    assert "<script" not in found._repr_html_() and 'class="verdict' in found._repr_html_()
    with pytest.raises(UserError, match="unknown table"):
        found.frame("x")
    with pytest.raises(UserError, match="unknown figure"):
        found.figure("x")


@pytest.mark.slow
def test_the_page_in_a_real_browser_asks_for_nothing(page, pair, tmp_path):
    folder = compare(*pair).save(tmp_path)
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    address = (folder / "comparison.html").as_uri()
    page.goto(address)
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 2 and min(widths) > 100 and not complaints
    assert [url for url in requests if not url.startswith("data:")] == [address]
