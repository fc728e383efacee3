"""Tables and figures of the published records; the paper's numbers beside them."""

from types import SimpleNamespace

import matplotlib
import msgspec
import pandas as pd
import pytest

from ldatlib.errors import UserError
from ldatlib.evaluation.masking.verdicts import TITLES
from ldatlib.report import figures, glossary, summary, tables
from ldatlib.report.comparisons import share
from ldatlib.report.words import column_title, doubt, percent

KINDS = ("whitebox", "detection", "autoattack", "masking", "adaptive")


@pytest.fixture(scope="module")
def first(run):
    return run.select_seed(run.trainings())


@pytest.fixture(scope="module")
def found(run, first):
    return {kind: run.records(kind, first) for kind in KINDS}


@pytest.fixture(scope="module")
def others(found):
    several = zip(found["masking"], found["adaptive"], strict=True)
    return {records[0].defence: list(records) for records in several}


def test_table_1_is_the_record_in_percent(found):
    table = tables.table1(found["whitebox"]).set_index("defence")
    for record in found["whitebox"]:
        row = table.loc[record.defence]
        accuracy = record.attacks["l2_cw"].robust_accuracy
        assert row.l2_cw == round(100 * accuracy.value, 2) <= row.l2_cw_high
        assert row.linf_worst_case == round(100 * record.worst_case["linf"].value, 2)
        assert row.images == record.clean_accuracy.count
    shown = tables.table1_beside_paper(found["whitebox"], "here")
    assert list(shown.columns)[0] == glossary.title("natural_accuracy")
    ldat = shown.loc[glossary.defence("ldat")]
    assert ldat.loc["paper, CIFAR-10", "L-inf FAB"] == "48.57"
    assert ldat.loc["measured, here", "L2 DDN"] != "" == ldat.loc["paper, CIFAR-10", "L2 DDN"]
    assert list(dict.fromkeys(shown.index.get_level_values(0)))[0] == glossary.defence("natural")


def test_the_worst_case_has_the_words_of_the_glossary(found, others):
    table = tables.scrutiny(found["whitebox"], found["autoattack"], others)
    assert (table.worst_case <= table[["strongest", "search"]].min(axis=1)).all()
    shown = tables.scrutiny_for_reading(table)
    wanted = ("strongest", "table1_worst_case", "searched", "all_worst_case", "gap")
    assert list(shown.columns)[:5] == [glossary.title(key) for key in wanted]
    assert len(shown) == len(table) == 2 * len(found["whitebox"])


def test_tests_for_masking_are_rows(found):
    rows = tables.masking_rows(found["masking"])
    tests = [test for r in found["masking"] for norm in r.norms.values() for test in norm.tests]
    assert len(rows) == len(tests) > 2 * 11 * len(found["masking"])
    assert set(rows.verdict) <= {"alarm", "no alarm", "skipped"}
    restarts = rows[rows.test == "restarts"]
    assert restarts.rival.isna().all() and (restarts.robust_accuracy <= restarts.pgd_high).all()
    names = rows.test.unique()
    shape = (len(names), len(found["masking"]))
    assert tables.masking_verdicts(found["masking"], "l2").shape == shape
    assert set(tables.alarms(found["masking"]).tests) <= set(range(14))


def test_an_alarm_says_what_it_tells():
    silent = {"verdict": "no alarm", "misled": False, "overstated": False, "numbers": {}}
    tests = [
        silent | {"test": name, "title": TITLES[name], "reason": "why", "verdict": "alarm"} | flags
        for name, flags in (
            ("margin", {"misled": True}),
            ("larger_balls", {"misled": True, "overstated": True}),
        )
    ]
    network = SimpleNamespace(
        defence="mart",
        seed=0,
        ok=True,
        norms={"l2": SimpleNamespace(tests=[SimpleNamespace(**test) for test in tests])},
    )
    verdicts = tables.masking_verdicts([network], "l2")["MART"]
    assert list(verdicts) == ["ALARM (misled)", "ALARM (overstated, stuck)"]
    (alarms,) = tables.alarms([network]).alarms
    assert alarms == ("C&W margin, restarts (misled); starts from larger balls (overstated, stuck)")


def test_outcomes_of_thresholds_for_reading(found):
    record = next(r for r in found["detection"] if r.defence == "ldat_chosen")
    rows = pd.DataFrame(tables.outcome_rows(record, "posterior"))
    assert (rows[list(tables.COUNTS)].dropna().sum(axis=1) == record.images).all()
    shown = tables.outcomes_for_reading(rows)
    worst = shown.xs(column_title("linf"), level="images")
    assert (worst["defence success %"] == "").all() and (worst["AUC"] == "").all()
    assert shown.loc[("no threshold", "natural"), "rejected of all %"].startswith("0.0 ±")
    thresholds = tables.thresholds({record.defence: record})
    assert set(thresholds.index.get_level_values("score")) == {"posterior", "log_likelihood"}
    assert len(thresholds) == 5 and "no threshold" not in thresholds.index.get_level_values(2)
    assert list(tables.scores_by_attack(record).index)[:2] == ["natural", "L-inf PGD"]


def test_a_collapsed_network_has_no_feature_numbers(run):
    (sound,) = run.records("features", [run.training("trades")])
    words = msgspec.structs.asdict(sound.numbers)
    lost = msgspec.structs.replace(
        sound,
        numbers=type(sound.numbers)(**dict.fromkeys(words)),
        undefined=dict.fromkeys(words, "all features lie in one point"),
    )
    numbers = tables.feature_numbers({"trades": sound, "lost": lost})
    assert numbers.trades.notna().all() and numbers.lost.isna().all()


def test_distances_need_centroids(run):
    training = run.training("ldat_chosen")
    distances = tables.feature_distances(run.model(training), run.adversarial(training))
    nearest = distances["to the nearest centroid"]
    assert (nearest <= distances["to the second nearest"]).all() and len(distances) == 4
    with pytest.raises(UserError, match="no centroids"):
        tables.feature_distances(run.model(run.training("standard")), {})


def test_percent_is_value_and_half_the_interval():
    import torch

    half = share(torch.arange(100) < 50)
    assert percent(half) == "50.0 ± 9.6"
    assert column_title("l2") == "L2 worst case" and column_title("linf_mi_fgsm") == "L-inf MI-FGSM"


@pytest.mark.slow
def test_every_figure_is_drawn(run, first, found, others, alike):
    table = tables.scrutiny(found["whitebox"], found["autoattack"], others)
    adaptive = tables.adaptive_rows(found["adaptive"], found["detection"])
    detection = {record.defence: record for record in found["detection"]}
    swept = {
        kind: {r.defence: r for r in run.records(kind, first)}
        for kind in ("sweep_eps", "sweep_steps")
    }
    replaced = run.attack_trainings()
    basic = dict(zip(replaced, alike("basic", list(replaced.values())), strict=True))
    panels = {
        figures.scrutiny(table): 2,
        figures.adaptive(adaptive): 12,
        # A row a norm: with rejection, and none refused within three shares of the budget.
        figures.rejection(tables.rejection_rows(found["adaptive"], found["detection"])): 8,
        figures.surfaces(found["masking"], "l2"): 4 * -(-len(first) // 4),
        figures.accuracy_by_eps(swept["sweep_eps"]): 2,
        figures.accuracy_by_steps(swept["sweep_steps"]): 2,
        figures.replaced_attack(basic): 3,
        # Both scores of LDAT, and the posterior of two rivals.
        figures.defence_success(detection): 4,
        figures.likelihood_histograms(detection["ldat_chosen"]): 12,
        # A loss of its own for each, and six panels that they share.
        figures.training_curves({t.name: run.log(t) for t in first}): len(first) + 6,
    }
    for figure, count in panels.items():
        assert isinstance(figure, matplotlib.figure.Figure) and len(figure.axes) == count
    growing = figures.growing_eps(found["masking"], "linf").axes[0]
    labels = [text.get_text().rpartition(" ")[0] for text in growing.texts]
    assert set(labels) - {""} == {glossary.defence(t.name) for t in first}


def test_the_gallery_shows_an_image_that_all_have_right(run, first, found):
    names = ("standard", "ldat_chosen")
    shown = [t for t in first if t.name in names]
    records = {r.defence: r for r in found["whitebox"] if r.defence in names}
    saved = {t.name: run.adversarial(t) for t in shown}
    rows = figures.gallery_rows(records, {t.name: run.model(t) for t in shown}, saved)
    assert [title for title, _ in rows] == [
        column_title(key) for key in records["standard"].attacks
    ]
    (image,) = {cell.x.sum().item() for _, cells in rows for cell in cells}
    index = [x.sum().item() for x in saved["standard"]["x"]].index(image)
    assert all(record.clean_right[index] == "1" for record in records.values())
    fooled = [cell.predicted != cell.label for _, cells in rows for cell in cells]
    assert 0 < sum(fooled) < len(fooled)
    assert len(figures.gallery(rows, run.dataset.class_names, 3.0).axes) == (1 + 2 * 2) * len(rows)


def test_a_small_p_value_is_not_zero():
    assert [doubt(p) for p in (0.03124, 1e-4, 1e-9)] == ["0.0312", "0.0001", "<0.0001"]


def test_a_defence_of_ones_own_has_a_colour_and_a_title():
    assert figures.colour("own") not in [figures.colour("ldat"), figures.colour("natural")]
    assert glossary.defence("own") == "own" and glossary.defence("natural") != "natural"


def test_the_summary_is_of_what_there_is(run):
    frames = summary.scrutiny(run)
    assert len(next(iter(frames.values()))) == 2 * len(run.profile.defences)
    assert len(frames) >= 4
    assert summary.self_checks(run).empty
    (record,) = run.records("train", [run.training("ldat")])
    assert record.provenance.device in summary.facts(run, record).loc["device", "this run"]
