"""The threshold explorer without a browser: its controls are moved by code."""

import json

import pytest
import torch
from charted import drawn, read_off
from helpers import synthetic_record, whitebox

from ldatlib import UserError
from ldatlib.files import read_json, write_json
from ldatlib.report import detector
from ldatlib.report.widgets import threshold_explorer
from ldatlib.study.records import content


def shown(widget):
    """The four counts and the two rates as Vega draws them, with the parameters of the widget."""
    spec = widget.chart.chart.to_dict()
    for parameter in spec["params"]:
        parameter["value"] = getattr(widget.chart.params, parameter["name"])
    return read_off(drawn(spec))


def recomputed(record, score, name, clean, threshold):
    values, right = detector.scored(record, score, name)
    outcomes = [
        (v >= threshold, bool(r)) for v, r in zip(values.tolist(), right.tolist(), strict=True)
    ]
    order = ((True, True), (False, True), (True, False), (False, False))
    counts = [outcomes.count(kind) for kind in order]
    success = 100 * (counts[0] + counts[3]) / len(outcomes)
    clean_values, _ = detector.scored(record, score, clean)
    rejected = 100 * sum(v < threshold for v in clean_values.tolist()) / len(clean_values)
    rates = {"success": success, "refused": rejected}
    return counts, {name: pytest.approx(rate, abs=0.051) for name, rate in rates.items()}


@pytest.fixture
def records():
    other = synthetic_record(likelihood=False, defence="standard", title="Standard", key="other")
    return {"ldat": synthetic_record(), "standard": other}


@pytest.fixture
def stored(tmp_path, records):
    path = tmp_path / "detection.json"
    write_json(path, content(records["ldat"]))
    return path


@pytest.mark.parametrize("score", ["posterior", "log_likelihood"])
def test_moving_the_slider_changes_the_counts(records, score):
    widget = threshold_explorer(records, score=score)
    low, high = detector.score_range(records["ldat"], score)
    assert (widget.threshold.min, widget.threshold.max) == (low, high)
    for threshold in torch.linspace(low, high, 5).double().clamp(low, high).tolist():
        widget.threshold.value = threshold
        assert shown(widget) == recomputed(records["ldat"], score, "linf_pgd", "clean", threshold)


def test_every_choice_shows_its_own_images(records):
    widget = threshold_explorer(records, threshold=0.6)
    record = records["ldat"]
    for name in ("clean", "linf_pgd", "l2_cw"):
        widget.attack.value = name
        assert widget.threshold.value == 0.6
        assert shown(widget) == recomputed(record, "posterior", name, "clean", 0.6)
    widget.split.value = "val"
    assert widget.attack.disabled and widget.shown == "val"
    assert shown(widget) == recomputed(record, "posterior", "val", "val", 0.6)
    widget.split.value = "test"
    widget.score.value = "log_likelihood"
    assert widget.threshold.value == -92.0  # its own frozen threshold
    assert shown(widget) == recomputed(record, "log_likelihood", "l2_cw", "clean", -92.0)


def test_a_defence_without_a_likelihood_offers_none(records):
    widget = threshold_explorer(records, score="log_likelihood")
    widget.defence.value = "standard"
    assert [value for _, value in widget.score.options] == ["posterior"]
    assert (widget.threshold.min, widget.threshold.max) == (0, 1)
    assert widget.threshold.value == 0.58
    expected = recomputed(records["standard"], "posterior", "linf_pgd", "clean", 0.58)
    assert shown(widget) == expected


def test_a_threshold_between_two_steps_is_kept_exactly(records):
    widget = threshold_explorer(records)
    before = widget.chart.spec
    widget.threshold.value = 0.5
    assert widget.chart.spec is before
    values, _ = detector.scored(records["ldat"], "posterior", "linf_pgd")
    for threshold in (values[7].item(), values[7].item() + 1e-6):
        widget.move(threshold)
        assert shown(widget) == recomputed(
            records["ldat"], "posterior", "linf_pgd", "clean", threshold
        )


def test_the_chart_asks_nobody_and_is_dead_in_one_line(records):
    widget = threshold_explorer(records)
    assert "https://esm.sh" not in str(widget.chart._esm)
    assert repr(widget) == "the threshold explorer: run this cell, and move the threshold"


def test_the_button_stores_an_exploratory_threshold(records, stored):
    widget = threshold_explorer(records, stored)
    before = read_json(stored)
    assert before.pop("exploratory") == []
    widget.move(0.61)
    widget.store.click()
    assert "stored 0.6100 as exploratory" in widget.status.value
    widget.split.value = "val"
    widget.store.click()
    after = read_json(stored)
    first, second = after.pop("exploratory")
    assert after == before
    assert {**first, "time": ""} == {
        "threshold": 0.61,
        "score": "posterior",
        "attack": "linf_pgd",
        "split": "test",
        "defence": "ldat",
        "time": "",
    }
    assert first["time"].endswith("+00:00") and second["split"] == second["attack"] == "val"
    widget.move(0.5)
    assert widget.status.value == ""


def test_a_path_per_defence_and_none(records, stored):
    widget = threshold_explorer(records, {"ldat": stored})
    assert not widget.store.disabled
    widget.defence.value = "standard"
    assert widget.store.disabled and "no record to store" in widget.status.value
    assert threshold_explorer(records).store.disabled


def test_a_record_that_vanished_or_changed_is_said(records, stored):
    widget = threshold_explorer(records, stored)
    write_json(stored, {**content(records["ldat"]), "key": "of another run"})
    widget.store.click()
    assert "not stored" in widget.status.value and "another run" in widget.status.value
    assert not json.loads(stored.read_text())["exploratory"]
    write_json(stored, content(whitebox("1", {})))
    widget.store.click()
    assert "not stored" in widget.status.value and "not a detection record" in widget.status.value
    stored.unlink()
    widget.store.click()
    assert "not stored: cannot read the record" in widget.status.value


def test_bad_input_is_one_line(records, tmp_path):
    cases = [
        (({},), {}, "no detection records"),
        (({"ldat": whitebox("1", {})},), {}, "a detection record is needed, not whitebox"),
        ((records,), {"defence": "mart"}, "no record of 'mart'; known: ldat, standard"),
        ((records,), {"defence": "standard", "score": "log_likelihood"}, "has no likelihood"),
        ((records,), {"score": "entropy"}, "no score 'entropy'"),
        ((records,), {"threshold": 1.5}, "lies between 0 and 1"),
        ((records,), {"threshold": float("nan")}, "lies between 0 and 1"),
        ((records,), {"score": "log_likelihood", "threshold": 0.5}, "lies between"),
        ((records, tmp_path / "none.json"), {}, "no record"),
    ]
    for arguments, options, says in cases:
        with pytest.raises(UserError, match=says) as refusal:
            threshold_explorer(*arguments, **options)
        assert "\n" not in str(refusal.value)
    widget = threshold_explorer(records)
    with pytest.raises(UserError, match="lies between 0 and 1"):
        widget.move(1.01)
    records["standard"] = synthetic_record(fingerprint="of other data")
    with pytest.raises(UserError, match="standard is of other data"):
        threshold_explorer(records)
