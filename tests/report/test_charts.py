"""Charts that are alive without Python: their numbers against those that Python computes."""

import json

import pytest
import torch
from charted import drawn, read_all
from helpers import detection_record, synthetic_record, whitebox
from hostile import TITLES, Structure

from ldatlib import UserError
from ldatlib.defences import TITLES as KNOWN
from ldatlib.report import charts, detector
from ldatlib.report.charts import cuts
from ldatlib.report.charts.page import specification


@pytest.fixture
def records():
    other = synthetic_record(likelihood=False, defence="standard", title="Standard", key="other")
    return {"ldat": synthetic_record(), "standard": other}


def counted(record, score, name, threshold):
    """By hand, image by image: kept, lost, missed, caught; robust, refused, success in percent."""
    unattacked = "val" if name == "val" else "clean"
    values, right = (part.tolist() for part in detector.scored(record, score, name))
    clean, clean_right = (part.tolist() for part in detector.scored(record, score, unattacked))
    fates = [(bool(r), v >= threshold) for v, r in zip(values, right, strict=True)]
    counts = [fates.count(f) for f in ((True, True), (True, False), (False, True), (False, False))]
    robust = [
        was and before >= threshold and not (not r and v >= threshold)
        for v, r, before, was in zip(values, right, clean, clean_right, strict=True)
    ]
    rates = {
        "robust": sum(robust) / len(robust),
        "refused": sum(v < threshold for v in clean) / len(clean),
        "success": (counts[0] + counts[3]) / len(fates),
    }
    return counts, {name: pytest.approx(100 * rate, abs=0.051) for name, rate in rates.items()}


@pytest.mark.parametrize("score", ["posterior", "log_likelihood"])
def test_a_page_counts_what_python_counts(records, score):
    chart = charts.explorer(records, score=score)
    grid = cuts.grid(records["ldat"], score, detector.first_threshold(records["ldat"], score))
    for name in ("linf_pgd", "l2_cw", "clean"):
        for place in (0, 37, 120, 200):
            svg = drawn(chart.to_dict(), attack=name, place=place)
            expected = counted(records["ldat"], score, name, float(grid.cuts[place]))
            assert read_all(svg) == expected, (name, place)
    svg = drawn(chart.to_dict(), split="val", place=150)
    assert read_all(svg) == counted(records["ldat"], score, "val", float(grid.cuts[150]))


def test_a_defence_without_a_likelihood_shows_its_posterior(records):
    chart = charts.explorer(records, score="log_likelihood")
    svg = drawn(chart.to_dict(), defence="standard", place=120)
    grid = cuts.grid(records["standard"], "posterior")
    expected = counted(records["standard"], "posterior", "linf_pgd", float(grid.cuts[120]))
    assert read_all(svg) == expected and "largest posterior" in svg


def test_every_cut_counts_exactly():
    """Random scores with ties, on cuts and between them; all places, against plain counting."""
    generator = torch.Generator().manual_seed(0)

    def entry(images):
        steps = torch.randint(0, 401, (images,), generator=generator)
        bits = torch.rand(images, generator=generator) < 0.6
        return (steps / 400).double().tolist(), "".join("01"[int(b)] for b in bits)

    sets = {name: entry(90) for name in ("val", "clean", "linf_pgd")}
    thresholds = {"paper": 0.6, "accept_95": 0.3333, "accept_99": 0.3331}
    record = detection_record({"posterior": sets}, {"posterior": thresholds})
    grid = cuts.grid(record, "posterior")
    assert (grid.cuts.diff() > 0).all() and all(grid.has(cut) for cut in thresholds.values())
    for row in cuts.rows({"ldat": record}):
        for place, cut in enumerate(grid.cuts.tolist()):
            counts, rates = counted(record, "posterior", row["shown"], cut)
            kept, missed = sum(row["right"][place:]), sum(row["wrong"][place:])
            assert [kept, missed] == [counts[0], counts[2]]
            assert 100 * sum(row["robust"][: place + 1]) / row["total"] == rates["robust"]
            good, bad = detector.groups(record, "posterior", row["shown"])
            assert sum(row["good"][place:]) == int((good >= cut).sum())
            assert sum(row["bad"][place:]) == int((bad >= cut).sum())


def test_a_recorded_threshold_is_a_cut(records):
    for score in ("posterior", "log_likelihood"):
        stored = records["ldat"].scores[score].thresholds.values()
        grid = cuts.grid(records["ldat"], score)
        assert all(grid.has(cut) for cut in stored if cut is not None)


def test_an_attack_that_never_succeeds_has_no_roc():
    sure = ([0.9, 0.8], "11")
    sets = {"val": sure, "clean": sure, "l2_cw": ([0.7, 0.6], "11")}
    thresholds = {"posterior": {"paper": 0.6, "accept_95": 0.8, "accept_99": 0.8}}
    record = detection_record({"posterior": sets}, thresholds)
    svg = drawn(charts.explorer({"ldat": record}).to_dict())
    assert "one of the groups is empty" in svg and 'aria-roledescription="circle"' not in svg


def test_bad_input_is_one_line(records):
    cases = [
        (({},), {}, "no detection records"),
        (({"ldat": whitebox("1", {})},), {}, "a detection record is needed, not whitebox"),
        ((records,), {"defence": "mart"}, "no record of 'mart'; known: ldat, standard"),
        ((records,), {"defence": "standard", "score": "log_likelihood"}, "has no likelihood"),
        ((records,), {"threshold": 1.5}, "lies between 0 and 1"),
        ((records,), {"attack": "l2_fab"}, "no images 'l2_fab'"),
    ]
    for arguments, options, says in cases:
        with pytest.raises(UserError, match=says) as refusal:
            charts.explorer(*arguments, **options)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="a chart's name in a page is a word"):
        charts.element(charts.explorer(records), "a b")


def test_hostile_titles_stay_text(records, monkeypatch):
    """The page has the elements that it has with plain ones, and every title comes back."""
    plain = Structure(charts.html({"explorer": charts.explorer(records)}))
    for title in (*TITLES, "</script><script>alert(1)</script><!--", "\u2028 ' \" \\"):
        monkeypatch.setitem(KNOWN, "ldat", title)
        chart = charts.explorer(records)
        text = specification(chart)
        assert not set("<>&\u2028\u2029") & set(text)
        assert title in json.dumps(json.loads(text), ensure_ascii=False) or "\\" in title
        assert Structure(charts.html({"explorer": chart})).elements == plain.elements


def test_a_page_has_one_copy_of_the_scripts_and_no_address(records):
    chart = charts.explorer(records)
    page = charts.html({"first": chart, "second": chart}, "Two charts")
    assert page.count(charts.script()) == 1 and len(charts.script()) < 1_000_000
    assert "<script src" not in page and '<link rel="stylesheet"' not in page
    assert charts.caption(chart) in Structure(page).texts
