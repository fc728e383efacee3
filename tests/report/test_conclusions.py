"""What notebooks conclude: the sentence follows the numbers, either way."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import detection_record, record, whitebox

from ldatlib import open_run
from ldatlib.report import conclusions, oddity, paper
from ldatlib.report.claims import rules
from ldatlib.report.conclusions.saying import listed, told_apart
from ldatlib.report.paired import Pair


def test_comparisons_are_said_by_their_side():
    ahead, behind = Pair(50, 2, 100), Pair(2, 50, 100)
    supports = [rules.ahead(p) for p in (ahead, behind, Pair(3, 2, 100), ahead)]
    sides = told_apart(["A", "B", "C", "D"], supports)
    assert sides.sentence("ahead of", "behind") == (
        "ahead of A and D; behind B; not told apart from C."
    )
    assert told_apart([], []).sentence("ahead of", "behind") == "compared with nobody."
    assert listed(["a", "b", "c"]) == "a, b and c" and listed(["a"]) == "a"


def test_where_a_walk_ends():
    near = np.array([1.5, 0.4, -0.2, 0.3])
    found = conclusions.walks({"one": near, "other": -near})
    assert found[0].startswith("one ends 0.30 before the boundary; 1 of its 3 points")
    assert found[1].startswith("other ends 0.30 behind the boundary; 2 of its 3 points")


def test_whose_features_stay_nearer():
    spread = np.linspace(0, 0.1, 60)
    moves = {"A": 0.5 + spread, "B": 0.1 + spread, "LDAT": 0.3 + spread}
    said = conclusions.nearness(moves, "LDAT")[1]
    assert "nearer to each other than with A; further apart than with B" in said
    alike = conclusions.nearness({"A": spread, "LDAT": spread[::-1].copy()}, "LDAT")[1]
    assert "not told apart from A" in alike


def test_algorithm_1_stands_beside_its_radius(tmp_path):
    run = open_run("demo", out=tmp_path)
    trainings = run.trainings(("natural", "standard", "ldat"))
    lines = [{"attack_norm": a, "perturbation_norm": b} for a, b in ((0.5, 0.5), (9.0, 2.25))]
    logs = {"natural": [{}, {}], "standard": lines, "ldat": lines}
    plain, own = conclusions.perturbations(trainings, logs)
    assert plain == "PGD-AT: mean length 0.50 in the first epoch, 9.00 in the last."
    assert "projection radius 2.25; projection and pixel range take 75% of the mean." in own


def test_algorithm_1_is_told_of_right_and_wrong_images_apart(tmp_path):
    run = open_run("demo", out=tmp_path)
    line = {"attack_norm": 0.75, "perturbation_norm": 0.6, "attacked_right": 0.6}
    line |= {"attack_norm_right": 1.18, "projected_right": 0.2}
    line |= {"attack_norm_wrong": 0.11, "projected_wrong": 0.0}
    (said,) = conclusions.perturbations(run.trainings(("ldat",)), {"ldat": [line, line]})
    assert "1.18 around the 60% right before the attack (20% of them beyond the radius)" in said
    assert "0.11 around the 40% wrong before the attack (0% of them beyond the radius)" in said
    assert "take 20% of the mean" in said


def test_centroids_that_fell_onto_each_other_are_named():
    log = [{"smallest_centroid_distance": 2.0}, {"smallest_centroid_distance": 0.1}]

    def said(clean):
        last = {"val_clean_accuracy": clean}
        found = SimpleNamespace(defence="ldat", last=last, val_images=300)
        plain = SimpleNamespace(defence="standard", last=last, val_images=300)
        logs = {"ldat": log, "standard": [{}]}
        return conclusions.centroids([found, plain], logs, classes=10)

    assert len(said(0.9)) == 1 and "the classifier holds" in said(0.9)[0]
    assert "the likelihood term has won" in said(0.11)[0] and "2.00 at most, 0.10" in said(0.11)[0]


def swept(bits, norm="linf"):
    share = {"low": 0.0, "high": 1.0, "count": 4}
    common = {"step_size": 0.1, "cw_step_size": 0.01, "targets": 0, "ok": True, "method": "pgd"}
    points = [
        common
        | {"norm": norm, "steps": 10 * i, "eps": 0.1 * i, "right": b}
        | {"robust_accuracy": share | {"value": b.count("1") / 4}}
        for i, b in enumerate(bits, 1)
    ]
    return record("sweep_eps", points=points, ok=True)


def test_an_attack_converges_or_goes_on_taking():
    still = {"ldat": swept(("1111", "1100", "1000")), "mart": swept(("1111", "1100", "1100"))}
    (said,) = conclusions.convergence(still)
    assert "has not converged: from 20 to 30 iterations it still takes, of 4 images, 1 of" in said
    (said,) = conclusions.convergence({"ldat": swept(("1111", "1000", "1000"))})
    assert said == "PGD has converged: from 20 to 30 iterations it takes none of 4 images more."


def test_the_largest_budget_leaves_nothing_or_a_doubt():
    assert conclusions.emptied({"ldat": swept(("1111", "0000"))}) == [
        "L-inf 0.2 leaves none of 4 images of any network."
    ]
    (said,) = conclusions.emptied({"ldat": swept(("1111", "0100")), "mart": swept(("1", "0"))})
    assert "leaves 25.0% of LDAT, of 4 images: PGD fails there" in said


def test_apgd_is_judged_by_the_same_words_here_and_in_the_paper():
    half = {f"{norm}_apgd": "1" * 20 + "0" * 20 for norm in ("linf", "l2")}
    low = whitebox("1" * 40, half | {f"{norm}_pgd": "0" * 40 for norm in ("linf", "l2")})
    high = whitebox("1" * 40, half | {f"{norm}_pgd": "1" * 40 for norm in ("linf", "l2")})
    odd, even = conclusions.oddities([low, high])
    # Of four comparisons the two smallest p-values, 1.9e-06 each, take a factor of four.
    words = "leaves 50.0 points more than PGD (p=7.6e-06): odd"
    assert odd.count(words) == 2 and even.count("as it should be") == 2
    said = dict(zip(paper.table(1).defence, oddity.of_the_paper(paper.table(1)), strict=True))
    assert "L-inf APGD-DLR leaves 1.2 points more than PGD" in said["ldat"]
    assert "undecided without the images; L2" in said["ldat"] and said["ldat"].endswith("odd")
    assert said["trades"].count("as it should be") == 2


def test_apgd_above_pgd_is_corrected_for_all_that_are_told_together():
    """Six images that only APGD leaves: p=0.031 alone, and no longer where many are asked."""

    def of(extra):
        columns = {f"{norm}_pgd": "1" * 20 + "0" * 20 for norm in ("linf", "l2")}
        above = "1" * (20 + extra) + "0" * (20 - extra)
        return whitebox("1" * 40, columns | {"linf_apgd": above, "l2_apgd": "1" * 20 + "0" * 20})

    alone = oddity.sentences([("A", {"linf": oddity.measured(of(6), None)["linf"]})])
    assert alone == ["A: L-inf APGD-DLR leaves 15.0 points more than PGD (p=0.031): odd"]
    said = conclusions.oddities([of(6), of(6), of(0)])
    assert all("(p=0.19): no more than chance may do" in one for one in said[:2])


def test_a_gap_of_deepfool_and_fab_stands_beside_the_papers():
    def of(deepfool):
        columns = {f"{norm}_fab": "1" * 10 + "0" * 30 for norm in ("linf", "l2")}
        bits = "1" * deepfool + "0" * (40 - deepfool)
        return whitebox(
            "1" * 40, columns | {"linf_deepfool": bits, "l2_deepfool": "1" * 10 + "0" * 30}
        )

    (small,) = conclusions.minimal_norm_gaps([of(12)])
    assert small == (
        "DeepFool leaves up to 5.0 points more than FAB here, of LDAT (L-inf); in the paper's "
        "table up to 20.62."
    )
    _, wide = conclusions.minimal_norm_gaps([of(20)])
    assert wide.startswith("At least as far apart as the paper's are LDAT (L-inf) 25.0:")
    assert conclusions.minimal_norm_gaps([whitebox("11", {"linf_pgd": "10"})]) == []


def test_what_replaces_algorithm_1_stands_beside_its_length_and_norm(tmp_path):
    trainings = open_run("demo", out=tmp_path).attack_trainings()
    logs = {name: [{"perturbation_norm": 0.5}, {"perturbation_norm": 0.9}] for name in trainings}
    said = dict(zip(trainings, conclusions.lengths(trainings, logs), strict=True))
    assert said["Algorithm 1"].endswith("within L2 2.25 (at most the radius).")
    assert "0.90 in the last epoch; PGD within L2 0.75 (fixed budget)" in said["PGD-CE"]
    assert "PGD within L-inf 0.25 (fixed budget)" in said["PGD-CE*"]

    def of(bits):
        return whitebox(ALL, {"linf_pgd": bits, "l2_pgd": bits})

    found = dict.fromkeys(trainings, of(NONE)) | {"Algorithm 1": of(HALF)}
    (ahead,) = conclusions.within_l2(trainings, found | {"PGD-KL": of(HALF)})
    assert ahead == (
        "Within L2 Algorithm 1 is ahead of PGD-CE under L2 PGD and PGD-CE under L-inf PGD; not "
        "told apart from PGD-KL under L2 PGD and PGD-KL under L-inf PGD."
    )
    assert (
        "behind PGD-CE under L2 PGD"
        in conclusions.within_l2(trainings, found | {"PGD-CE": of(ALL)})[0]
    )


def test_features_are_said_to_be_attacked_in_one_ball(tmp_path):
    trainings = open_run("demo", out=tmp_path).trainings(("natural", "trades", "ldat"))
    said = conclusions.one_attack(trainings, "l2", 0.5)
    assert said.startswith("All of this is under PGD within L2 0.5 alone.")
    assert "Undefended nothing, TRADES PGD within L-inf 0.25, LDAT Algorithm 1 within L2" in said


def crafted(by_label):
    """A transfer record: label -> digits right when clean and under PGD."""

    def share(bits):
        return {"value": bits.count("1") / len(bits), "low": 0.0, "high": 1.0, "count": len(bits)}

    right = {name: {"clean": c, "linf_pgd": a} for name, (c, a) in by_label.items()}
    targets = {name: {k: share(b) for k, b in found.items()} for name, found in right.items()}
    return record("transfer", source_accuracy=share("1"), targets=targets, right=right)


ALL, HALF, NONE = "1" * 60, "1" * 30 + "0" * 30, "0" * 60
TARGETS = [SimpleNamespace(label=name, title=name.upper()) for name in ("a", "b")]


def test_which_surrogate_is_the_stronger_attacker():
    weak, strong = (
        crafted({"a": (ALL, ALL), "b": (ALL, HALF)}),
        crafted({"a": (ALL, HALF), "b": (ALL, HALF)}),
    )
    first, second = conclusions.surrogates([weak, strong], TARGETS)
    assert "takes 0.0 to 50.0 points of natural accuracy, most from B." in first
    assert "the stronger attacker against A; not told apart from the other against B." in second
    assert "the weaker one against A;" in conclusions.surrogates([strong, weak], TARGETS)[1]


def test_ones_own_attack_is_the_strongest_or_masked():
    honest = [
        crafted({"a": (ALL, NONE), "b": (ALL, HALF)}),
        crafted({"a": (ALL, HALF), "b": (ALL, NONE)}),
    ]
    (said,) = conclusions.own_attack(honest, TARGETS, TARGETS)
    assert said.startswith("No network's images fool another one better than its own PGD does")
    masked = [
        crafted({"a": (ALL, ALL), "b": (ALL, HALF)}),
        crafted({"a": (ALL, HALF), "b": (ALL, NONE)}),
    ]
    (said,) = conclusions.own_attack(masked, TARGETS, TARGETS)
    assert "than by its own PGD: A by images of B. There the gradients mislead PGD" in said


def test_the_probe_tells_or_does_not():
    def of(low, hits=None):
        numbers = {"probe": 0.6, "probe_low": low, "probe_high": 0.7}
        numbers = SimpleNamespace(**numbers)
        return SimpleNamespace(numbers=numbers, undefined={}, defence="ldat", probe_hits=hits)

    above, about, point = conclusions.probes({"A": of(0.55), "B": of(0.45), "C": of(None)})
    assert above.endswith("not one distribution.")
    assert about.endswith("not told apart by this probe.") and "one point" in point
    less, more = of(0.55, [1, 0, 1, 1] * 10), of(0.55, [2, 1, 2, 2] * 10)
    more.defence = "trades"
    alone, beside = conclusions.probes({"TRADES": more, "LDAT": less})
    assert alone.endswith("one distribution.") and "; less than TRADES's (p=" in beside
    less.probe_hits = more.probe_hits
    assert "neither more nor less" in conclusions.probes({"TRADES": more, "LDAT": less})[1]


def scored(clean, under, right="0" * 60, likelihood=None):
    """A detection record: clean scores, all right, and scores under PGD and FAB."""
    sets = {"val": (clean, ALL), "clean": (clean, ALL)}
    sets |= {"linf_pgd": (under[0], right), "linf_fab": (under[1], right)}
    sets |= {"l2_pgd": (under[0], right)}
    scores = {"posterior": sets}
    cuts = {"posterior": {"paper": 0.6, "accept_95": 0.5, "accept_99": 0.4}}
    if likelihood:
        scores["log_likelihood"] = {k: (likelihood[k == "clean"], b) for k, (_, b) in sets.items()}
        cuts["log_likelihood"] = {"paper": None, "accept_95": -9.0, "accept_99": -10.0}
    return detection_record(scores, cuts)


HIGH, LOW = np.linspace(0.8, 0.95, 60).tolist(), np.linspace(0.1, 0.3, 60).tolist()


def test_a_score_points_one_way_or_the_other():
    right_way, wrong_way = conclusions.direction(scored(HIGH, (LOW, LOW), likelihood=(HIGH, LOW)))
    assert "is lower than of natural ones, as a threshold needs it, under L-inf PGD" in right_way
    assert "HIGHER, so that a threshold rejects the wrong images, under L-inf PGD" in wrong_way
    (same,) = conclusions.direction(scored(HIGH, (HIGH, HIGH)))
    assert "not told apart under L-inf PGD" in same


def test_confidence_tells_who_walks_on_or_does_not():
    assert (
        "tells the two kinds apart"
        in conclusions.confident_successes(scored(HIGH, (HIGH, LOW)))[-1]
    )
    mixed = conclusions.confident_successes(scored(HIGH, (LOW, HIGH)))
    assert "does not tell the two kinds apart" in mixed[-1] and "L-inf FAB 100%" in mixed[0]
    assert conclusions.confident_successes(scored(HIGH, (HIGH, HIGH), right=ALL)) == []


def test_a_threshold_is_said_with_its_price():
    free = conclusions.thresholds(scored(HIGH, (LOW, LOW)))[0]
    assert free.startswith("At 0.6 (paper): 0.0% of the clean images rejected")
    assert "higher under 3 of 3 attacks; missed in the worst case, L-inf 100.0% to 0.0%" in free
    dear = conclusions.thresholds(scored(LOW, (HIGH, HIGH)))[0]
    assert "100.0% of the clean images rejected" in dear and "60 of them though right" in dear
    assert "higher under 0 of 3 attacks" in dear and "L-inf 100.0% to 100.0%" in dear


def test_who_gains_from_rejecting():
    helped, not_helped = scored(HIGH, (LOW, LOW)), scored(HIGH, (HIGH, HIGH))
    networks = {"ldat": helped, "mart": not_helped, "trades": helped}
    said = conclusions.gains(networks, own="ldat")
    assert "LDAT 0% to 100%" in said[0]
    assert said[2] == "L-inf: LDAT gains more than MART; no different from TRADES."
    said = conclusions.gains(networks, own="mart")
    assert said[2] == "L-inf: MART gains less than LDAT and TRADES."


def test_a_refused_image_counts_as_kept_and_what_answers_stands_beside():
    refused, answered = scored(HIGH, (LOW, LOW), right=ALL), scored(HIGH, (HIGH, HIGH), right=ALL)
    some_refused = scored(HIGH, (HIGH, HIGH[:30] + LOW[30:]), right=ALL)
    said = conclusions.gains({"ldat": refused, "mart": answered, "trades": some_refused}, "ldat")
    every = "LDAT 100% to 100%, MART 100% to 100% and TRADES 100% to 100%."
    assert said[0] == f"L-inf, robust accuracy without and with rejection: {every}"
    left = "LDAT 0%, MART 100% and TRADES 50%."
    assert said[1] == f"L-inf, if no attacked image may be refused: {left}"
    # What is answered wrong is missed, and not what is answered.
    wrong = conclusions.gains({"mart": scored(HIGH, (HIGH, HIGH))}, "mart")
    assert wrong[1].endswith("MART 0%.")


def scrutinised(overstated):
    row = {"defence": "ldat", "norm": "l2", "table1_worst_case": 60.0, "worst_case": 50.0}
    row |= {"worst_case_low": 45.0, "worst_case_high": 55.0, "overstated": overstated}
    return pd.DataFrame([row])


def test_an_overstated_number_is_named():
    high = conclusions.worst_cases(scrutinised(True))
    assert high[0].endswith("OVERSTATED.") and "too much for LDAT (L2)" in high[1]
    assert conclusions.worst_cases(scrutinised(False))[1].startswith("No number of Table 1")


def masking_rows(*tests, norm="l2"):
    """Rows of tests as (name, misled, overstated), and a silent one."""
    first = {"defence": "mart", "norm": norm}
    return pd.DataFrame(
        [
            first
            | {"test": name, "misled": m, "overstated": o}
            | {"verdict": "alarm" if m or o else "no alarm"}
            for name, m, o in (("rescaled", False, False), *tests)
        ]
    )


def test_only_what_misleads_is_masking():
    said = conclusions.masks(masking_rows(("dlr", True, False), ("targeted", False, True)))
    assert said == [
        "MART, L2: MASKING, a gradient or a loss misleads (DLR, restarts).",
        "MART, L2: Table 1's number is too high (every class a target).",
        "PGD alone is misled on MART (L2): never use its column there.",
    ]
    # The norm is that of the alarm, and no network is named for one in which it is silent.
    both = pd.concat(
        [masking_rows(("square", True, True), norm="linf"), masking_rows(("dlr", False, True))]
    )
    assert conclusions.masks(both)[-1].startswith("PGD alone is misled on MART (L-inf):")


def test_a_search_that_is_stuck_says_nothing_about_pgd():
    said = conclusions.masks(masking_rows(("larger_balls", True, True), ("margin", False, True)))
    assert said == [
        "MART, L2: Table 1's number is too high (starts from larger balls; C&W margin, restarts).",
        "MART, L2: searches from starts in the ball are stuck at local maxima, which is no masking "
        "(starts from larger balls).",
        "No gradient or loss misleads under L2: no test says masking.",
    ]


def test_that_none_sounds_is_said_with_the_norms():
    silent = pd.concat([masking_rows(norm="linf"), masking_rows()])
    found = conclusions.masks(silent)
    assert found == ["No test for gradient masking sounds under L-inf and L2."]


def test_what_is_left_if_nothing_is_refused():
    row = {"defence": "ldat", "norm": "l2", "score": "log_likelihood", "robust_0": 52.0}
    curve = pd.DataFrame([row | {"acceptance": a, "robust_1": 7.0} for a in (0.9, 0.95, 1.0)])
    assert conclusions.refusals(curve, "ldat") == [
        "LDAT's detector, L2, log-likelihood log p(f), 95% accepted: robust with rejection 52%; "
        "7% if no image of the ball may be refused."
    ]
    assert conclusions.refusals(curve, "mart") == []
    # Records from before these attacks do not tell.
    assert conclusions.refusals(curve.drop(columns="robust_1"), "ldat") == []
    assert conclusions.refusals(curve.assign(robust_1=float("nan")), "ldat") == []


@pytest.mark.parametrize("consistent, said", ((True, "None of 1"), (False, "1 of 1")))
def test_what_the_detector_misses(consistent, said):
    row = {"defence": "ldat", "norm": "l2", "score": "posterior", "threshold": "95% frozen"}
    row |= {"ordinary": 10.0, "union": 25.0, "consistent": consistent}
    found = conclusions.detectors(pd.DataFrame([row]), "ldat")
    assert "10% by the strongest ordinary attack, 25% by the adaptive one" in found[0]
    assert "LDAT's detector, L2, largest posterior, 95% frozen" in found[0]
    assert found[1].startswith(said)
