"""Networks in pairs, methods over seeds, and when a run is of the paper's data and scale."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import record, whitebox
from scipy.stats import ttest_ind

from ldatlib import open_run
from ldatlib.data import load_dataset, outline
from ldatlib.errors import UserError
from ldatlib.report import comparisons, paper, tables
from ldatlib.report.words import p_value


def seeded(defence, seed, right, images=20):
    bits = "1" * right + "0" * (images - right)
    attacks = {f"{norm}_pgd": bits for norm in ("linf", "l2")}
    return whitebox("1" * images, attacks, defence=defence, seed=seed)


COUNTS = {"ldat": (10, 12, 14), "standard": (3, 5, 4), "mart": (7,)}
RECORDS = [seeded(d, seed, n) for d, counts in COUNTS.items() for seed, n in enumerate(counts)]


def test_spread_over_seeds_is_that_of_the_trainings():
    table = tables.over_seeds(RECORDS)
    assert set(table.defence) == {"ldat", "standard"}  # one training has no spread
    row = table[(table.defence == "ldat") & (table.column == "linf_pgd")].iloc[0]
    percent = np.array([50.0, 60.0, 70.0])
    assert row["mean"] == pytest.approx(percent.mean()) and row.seeds == 3
    assert row.sd == pytest.approx(percent.std(ddof=1))
    assert (row.low, row.high) == (50, 70)
    # With one attack a norm the worst case is that attack.
    worst = table[(table.defence == "ldat") & (table.column == "linf")].iloc[0]
    assert worst["mean"] == pytest.approx(row["mean"])


def test_methods_are_compared_by_welch_over_at_least_three_seeds():
    expected = ttest_ind([0.5, 0.6, 0.7], [0.15, 0.25, 0.2], equal_var=False)
    found = comparisons.compare_methods(RECORDS, "ldat", "standard", "l2")
    assert found.p == pytest.approx(expected.pvalue) and found.difference == pytest.approx(0.4)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert (found.low > 0) == (found.p < 0.05)
    with pytest.raises(UserError, match="mart has 1 training"):
        comparisons.compare_methods(RECORDS, "ldat", "mart", "l2")


def test_seeds_that_all_agree_have_no_p():
    """Networks that never learn are all alike: there is no spread to measure a difference by."""
    same = [seeded(d, seed, n) for d, n in (("ldat", 5), ("standard", 5)) for seed in range(3)]
    alike = comparisons.compare_methods(same, "ldat", "standard", "l2")
    assert p_value(alike.p).startswith("no p") and alike.difference == 0
    one = same[:3] + [record for record in RECORDS if record.defence == "standard"]
    found = comparisons.compare_methods(one, "ldat", "standard", "l2").p
    assert 0 < found < 1 and p_value(found) == f"p = {found:.2g}"


def test_only_the_seeded_defences_have_more_trainings(tmp_path):
    run = open_run("demo", {"seeds": 3, "seeded": ("standard", "ldat")}, tmp_path)
    seeds = {}
    for training in run.trainings():
        seeds.setdefault(training.name, []).append(training.config.seed)
    assert seeds["standard"] == seeds["ldat"] == [0, 1, 2]
    assert seeds["trades"] == seeds["natural"] == [0]


def test_a_copy_of_cifar_is_the_papers_data_and_digits_are_not():
    cifar = outline("cifar10", 1000)
    assert paper.is_papers_data(cifar)
    copy = replace(cifar, name="folder", class_names=tuple(sorted(paper.CIFAR10_CLASSES)))
    assert paper.is_papers_data(copy)
    assert not paper.is_papers_data(replace(copy, class_names=("cat", "dog")))
    assert not paper.is_papers_data(load_dataset("digits"))


def test_scale_is_network_epochs_and_images(tmp_path):
    run = open_run("cifar10", {}, tmp_path)
    run.plan_without_data()
    config = run.training("ldat").config
    assert paper.is_papers_scale(config, 49_000)
    assert not paper.is_papers_scale(config, 20_000)
    assert not paper.is_papers_scale(replace(config, epochs=60), 49_000)
    narrow = replace(config, network=replace(config.network, width=16))
    assert not paper.is_papers_scale(narrow, 49_000)


def ensemble(bits):
    """AutoAttack's record of one norm, of which only the images left matter here."""
    all_of = comparisons.share(comparisons.from_bits(bits))
    share = {"value": all_of.value, "low": all_of.low, "high": all_of.high, "count": len(bits)}
    settings = {"eps": 0.1, "norm": "linf", "batch_size": 1, "seed": 0, "attacks": []}
    found = {"clean_accuracy": share, "robust_accuracy": share, "clean_right": bits, "right": bits}
    found |= {"attacks": {}, "skipped": {}, "settings": settings | {"targets": 1, "queries": 1}}
    found |= {"black_box": {"found": share, "alarm": False}}
    more = {"images": len(bits), "adversarial": {}, "self_checks": [], "ok": True}
    return record("autoattack", norms={"linf": found}, **more)


def test_images_that_an_attack_was_not_shown_count_as_right():
    white = whitebox("111", {"linf_pgd": "011", "linf_fab": "110", "l2_pgd": "000"})
    right = comparisons.survivors(white, ensemble("11011"), [], "linf")
    assert right["table1"].tolist() == [False, True, False, True, True]
    assert right["worst_case"].tolist() == [False, True, False, True, True]
    assert torch.equal(right["worst_case"][3:], right["autoattack"][3:])
    assert set(right) == {
        *("linf_pgd", "linf_fab"),
        *("table1", "search", "autoattack", "worst_case"),
    }
    # The other way round, and where AutoAttack was run in another norm alone.
    other = comparisons.survivors(white, ensemble("1"), [], "linf")
    assert other["worst_case"].tolist() == [False, True, False]
    l2 = comparisons.survivors(white, ensemble("0"), [], "l2")
    assert l2["autoattack"].all() and not l2["worst_case"].any()


def test_what_the_search_and_the_detector_find_counts_in_the_worst_case():
    white = whitebox("1111", {"linf_pgd": "1110", "l2_pgd": "0000"})
    share = {"value": 0.5, "low": 0.2, "high": 0.8, "count": 4}
    settings = {"method": "margin", "norm": "linf", "eps": 0.1, "steps": 1, "step_size": None}
    settings |= {"cw_step_size": 0.01, "targets": 0}
    of_norm = {"reported": share, "robust_accuracy": share, "right": "0110", "settings": settings}
    more = {"images": 4, "self_checks": [], "ok": True, "adversarial": "images"}
    searched = record("search", norms={"linf": of_norm}, **more)
    highest = {"score": [0.5, 0.5], "right": "10", "auc": None}
    detector = record(
        "adaptive",
        norms={"linf": {"posterior": {}}},
        highest={"linf": {"posterior": highest}},
        half_budget={},
        **more,
    )
    right = comparisons.survivors(white, ensemble("11"), [searched, detector], "linf")
    assert right["search"].tolist() == [False, True, True, False]
    assert right["worst_case"].tolist() == [False, False, True, False]


def test_the_same_images_are_compared_in_pairs():
    first, second = whitebox("11110", {"l2_pgd": "11100"}), whitebox("11111", {"l2_pgd": "00110"})
    assert comparisons.mcnemar(first, second, "l2_pgd") == (2, 1, pytest.approx(1.0))
    assert comparisons.mcnemar(first, second, "natural") == (0, 1, 1.0)
    assert comparisons.mcnemar(first, first, "l2") == (0, 0, 1.0)
