"""Claims: what decides a verdict, how far it reaches, and what is not swallowed on the way."""

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from helpers import detection_record, record, whitebox

from ldatlib.defences import TITLES
from ldatlib.report import claims
from ldatlib.report.claims import (
    ablations,
    black_box,
    contests,
    detector,
    evidence,
    features,
    table,
    training,
    white_box,
)
from ldatlib.report.claims.evidence import NoRecord, Records
from ldatlib.study.records import content

ALL, NONE = "1" * 40, "0" * 40
HALF = "1" * 20 + "0" * 20
NEARLY_HALF = "1" * 19 + "0" * 21


def attacked(defence, bits, clean=ALL, **more):
    keys = ("linf_pgd", "linf_deepfool", "l2_pgd", "l2_deepfool")
    columns = dict.fromkeys(keys, bits)
    return whitebox(clean, columns | more.pop("attacks", {}), defence=defence, **more)


def of(ldat, rivals=(("standard", NONE),), clean=ALL, **more):
    """Evidence of networks by name, each as bits under one attack; ``ldat`` is LDAT's."""
    found = evidence.Evidence.__new__(evidence.Evidence)
    found.ldat, found.title, found.classes = "ldat", "LDAT", 10
    networks = {"ldat": attacked("ldat", ldat, clean)}
    networks |= {name: attacked(name, bits) for name, bits in rivals}
    found.whitebox = Records(TITLES, networks)
    found.trained = Records(TITLES, {name: [r] for name, r in networks.items()})
    found.autoattack = found.search = found.masking = found.adaptive = Records(TITLES)
    vars(found).update(more)
    return found


def test_a_lead_is_significant_or_no_lead():
    assert white_box.highest_natural_accuracy(of(ALL, clean=HALF)).holds is False
    assert white_box.highest_natural_accuracy(of(ALL)).holds is None
    ahead = white_box.advantage_against_deepfool(of(ALL))
    assert ahead.holds is True and "LDAT 100.0%, PGD-AT 0.0% (p=3.6e-12)" in ahead.text
    assert white_box.advantage_against_deepfool(of(NEARLY_HALF, (("mart", HALF),))).holds is None


def test_best_against_all_needs_every_column_and_every_rival():
    held = white_box.best_against_all_attacks(of(ALL))
    assert held.holds is True and "ahead of everybody in 4 of 4 columns" in held.text
    two = (("standard", NONE), ("mart", ALL))
    assert white_box.best_against_all_attacks(of(ALL, two)).holds is None
    assert white_box.best_against_all_attacks(of(HALF, two)).holds is False


def test_l2_at_stands_beside_the_papers_rivals_and_narrows_the_verdict():
    """Ahead of the paper's rivals, level with what the paper leaves out."""
    found = of(ALL, (("standard", NONE), ("l2_at", ALL)))
    seen = white_box.advantage_against_deepfool(found)
    assert seen.holds is True and seen.scope == contests.AMONG_ITS_OWN
    assert "beside them L2-AT 100.0% (p=1)" in seen.text
    level = white_box.more_effective_under_l2(found)
    assert level.holds is None
    decides = "ahead of the paper's rivals, not told apart from L2-AT, which decides; "
    assert level.text.startswith(decides)
    both = (("standard", HALF), ("l2_at", NONE))
    assert "decides" not in white_box.more_effective_under_l2(of(ALL, both)).text
    behind = white_box.more_effective_under_l2(of(HALF, (("standard", NONE), ("l2_at", ALL))))
    assert behind.holds is False and "rivals, behind L2-AT, which decides" in behind.text
    ahead = white_box.more_effective_under_l2(of(ALL, (("standard", NONE), ("l2_at", NONE))))
    assert ahead.holds is True and ahead.scope == ""
    with pytest.raises(NoRecord, match="L2-AT"):
        white_box.more_effective_under_l2(of(ALL))


def autoattack(bits, norms):
    all_of = {"value": 1.0, "low": 0.9, "high": 1.0, "count": len(bits)}
    settings = {"eps": 0.1, "norm": "linf", "batch_size": 1, "seed": 0, "attacks": []}
    one = {"clean_accuracy": all_of, "robust_accuracy": all_of, "clean_right": bits, "right": bits}
    one |= {"attacks": {"apgd-ce": {"right": bits, "seconds": 1.0}}, "skipped": {}}
    one |= {"settings": settings | {"targets": 1, "queries": 1}}
    one |= {"black_box": {"found": all_of, "alarm": False}}
    more = {"images": len(bits), "adversarial": {}, "self_checks": [], "ok": True}
    return record("autoattack", norms=dict.fromkeys(norms, one), **more)


def test_what_was_tested_in_one_norm_is_answered_for_that_norm():
    def seen(*norms):
        auto = {"ldat": autoattack(ALL, norms), "standard": autoattack(NONE, norms)}
        return white_box.best_under_everything(of(ALL, autoattack=Records(TITLES, auto)))

    assert seen("l2").holds is True and seen("l2").scope == "tested under L2 alone"
    assert seen("linf", "l2").scope == ""
    # LDAT's alone: with whom should it be compared?
    with pytest.raises(NoRecord, match="standard"):
        only = Records(TITLES, {"ldat": autoattack(ALL, ("l2",))})
        white_box.best_under_everything(of(ALL, autoattack=only))


def test_a_rival_that_guesses_decides_nothing():
    found = of(ALL)
    networks = {"ldat": found.whitebox["ldat"], "standard": attacked("standard", NONE, clean=NONE)}
    found = of(ALL, whitebox=Records(TITLES, networks))
    seen = white_box.advantage_against_deepfool(found)
    assert seen.holds is None and "PGD-AT 0.0% (collapsed)" in seen.text


def test_methods_are_spoken_of_from_three_trainings_of_each():
    def seeded(defence, counts):
        bits = ["1" * n + "0" * (40 - n) for n in counts]
        return [attacked(defence, b, seed=i) for i, b in enumerate(bits)]

    def seen(ldat, standard):
        trained = {"ldat": seeded("ldat", ldat), "standard": seeded("standard", standard)}
        return white_box.advantage_against_deepfool(of(ALL, trained=Records(TITLES, trained)))

    assert seen((30, 31, 32), (10, 12)).of == "this network"
    methods = seen((30, 31, 32), (10, 11, 12))
    assert methods.holds is True and methods.of == "the methods, 3 trainings of each"
    assert "LDAT 77.5%, PGD-AT 27.5%" in methods.text
    # On these images the network is ahead; its method is not.
    assert seen((39, 5, 20), (0, 30, 15)).holds is None


def sweep(points):
    common = {"steps": 1, "step_size": 0.1, "cw_step_size": 0.01, "targets": 0, "ok": True}
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 40}
    points = [common | {"steps": 1, "robust_accuracy": share} | point for point in points]
    return record("sweep_eps", points=points, ok=True)


def test_who_falls_less_is_asked_of_images_that_both_had_right():
    def at(bits, scale=1.5):
        return sweep(
            [
                {"method": "pgd", "norm": norm, "eps": 0.1 * scale, "right": bits}
                for norm in ("linf", "l2")
            ]
        )

    def seen(ldat, rival, **more):
        found = of(ALL, (("standard", ALL),), **more)
        found.eps = Records(TITLES, {"ldat": at(ldat), "standard": at(rival)})
        return white_box.slower_decrease_over_budgets(found)

    assert seen(ALL, NONE).holds is True and seen(NONE, ALL).holds is False
    assert seen(HALF, NEARLY_HALF).holds is None
    # LDAT had only half of them right: it can lose none of the others.
    weak = seen(HALF, ALL, clean=HALF)
    assert weak.holds is None and "LDAT 100.0%" in weak.text
    with pytest.raises(NoRecord, match="1.5 budgets"):
        found = of(ALL, eps=Records(TITLES, {n: at(ALL, 2.0) for n in ("ldat", "standard")}))
        white_box.slower_decrease_over_budgets(found)


def basic(natural, pgd):
    made = content(attacked("ldat", pgd, natural))
    kept = ("clean_accuracy", "clean_right", "attacks", "worst_case", "self_checks", "ok")
    fields = {name: made[name] for name in kept}
    return record("basic", split="test", batch_size=1, attack_seed=0, **fields)


def test_beta_trades_where_both_ends_differ_and_saturates_within_the_margin():
    def seen(first, last, half=None):
        betas = {0.0: basic(*first), 0.5: basic(*(half or last)), 1.0: basic(*last)}
        found = of(ALL, betas=Records(betas, betas))
        return ablations.beta_trades_off(found).holds, ablations.beta_saturates(found).holds

    many = "1" * 300
    assert seen((ALL, NONE), (HALF, HALF)) == (True, None)
    assert seen((ALL, HALF), (HALF, NONE))[0] is False
    assert seen((ALL, HALF), (ALL, NEARLY_HALF))[0] is None
    assert seen((many, many), (many, many))[1] is True
    assert seen((many, many), (many, many), (many, "0" * 300))[1] is False
    assert seen((ALL, NONE), (NONE, NONE)) == (None, None)
    with pytest.raises(NoRecord):
        ablations.beta_saturates(of(ALL, betas=Records({0.3: 0}, {0.3: basic(ALL, ALL)})))


def test_algorithm_1_has_to_be_ahead_of_every_replacement():
    def seen(**bits):
        records = {name: basic(ALL, b) for name, b in bits.items()}
        records["Algorithm 1"] = basic(ALL, HALF)
        return ablations.algorithm1_is_better(of(ALL, attacks=Records(records, records)))

    assert seen(a=NONE, b=NONE).holds is True
    assert seen(a=NONE, b=NEARLY_HALF).holds is None
    assert seen(a=NONE, b=ALL).holds is False
    assert seen().holds is None


def transfer(by_defence, kept=True):
    """Shares, and where kept images, of each defence: clean, and under every attack."""

    def share(bits):
        value = bits.count("1") / len(bits)
        return {"value": value, "low": 0.0, "high": 1.0, "count": len(bits)}

    keys = ("clean", *black_box.ATTACKS)
    right = {d: dict(zip(keys, (c, a, a, a), strict=True)) for d, (c, a) in by_defence.items()}
    targets = {d: {k: share(b) for k, b in found.items()} for d, found in right.items()}
    one = {"value": 1.0, "low": 0.9, "high": 1.0, "count": 40}
    more = {"right": right} if kept else {}
    return record("transfer", source_accuracy=one, targets=targets, **more)


@pytest.mark.parametrize("kept", (True, False))
def test_the_black_box_is_paired_whether_images_were_kept_or_not(kept):
    long, gone = "1" * 200, "0" * 100 + "1" * 100
    labels = {"ldat": "ldat", "standard": "standard"}

    def found(undefended, defended):
        surrogates = {
            "natural": transfer({d: (long, b) for d, b in undefended.items()}, kept),
            "standard": transfer({d: (long, b) for d, b in defended.items()}, kept),
        }
        return of(ALL, labels=labels, surrogates=Records(TITLES, surrogates))

    weak = found({"ldat": long, "standard": long}, {"ldat": gone, "standard": gone})
    assert black_box.undefended_surrogate_is_weak(weak).holds is True
    far = black_box.defended_surrogate_is_strong(weak)
    assert far.holds is True and ", with the p of a difference of 5 points: PGD-AT" in far.text
    strong = found({"ldat": gone, "standard": gone}, {"ldat": long, "standard": long})
    assert black_box.undefended_surrogate_is_weak(strong).holds is False
    assert black_box.defended_surrogate_is_strong(strong).holds is False
    mixed = found({"ldat": long, "standard": gone}, {"ldat": long, "standard": gone})
    assert black_box.best_in_the_black_box(mixed).holds is True
    assert black_box.best_in_the_black_box(weak).holds is None
    # Nothing is known of the pairing of two networks; of one, that attacked is within clean.
    of_one = (("natural", "standard", "clean"), ("natural", "standard", "linf_pgd"))
    pair = mixed.transfer_pair(*of_one)
    assert (pair.first_only, pair.second_only, pair.count) == (100, 0, 200)


def featured(near, far, samples=True, labels=(0, 1, 2) * 10):
    numbers = {"moved": 1.0, "to own centroid, natural": near, "probe": 0.5}
    numbers |= {"to own centroid, adversarial": far, "probe low": 0.4, "probe high": 0.6}
    numbers |= {"silhouette, natural": near, "silhouette, adversarial": far}
    attack = {"method": "pgd", "norm": "linf", "eps": 8 / 255}
    spread = torch.linspace(0, 0.1, 30).tolist()
    each = {
        f"{what}_{which}": [value + s for s in spread]
        for what in ("silhouette", "own_centroid")
        for which, value in (("natural", near), ("adversarial", far))
    }
    flat = {"natural": [], "adversarial": [], "y": list(labels)}
    more = {"samples": each} if samples else {}
    more |= {"settings": {"attack": attack}, "numbers": numbers}
    return record("features", embedding=flat, images=30, **more)


def test_features_are_compared_image_by_image():
    def seen(ldat, trades, samples=True):
        found = {"ldat": featured(*ldat, samples), "trades": featured(*trades, samples)}
        here = of(ALL, features=Records(TITLES, found))
        return features.better_clustered(here), features.natural_features_are_closer(here)

    better, closer = seen((0.5, 0.6), (0.1, 0.2))
    assert better.holds is True and closer.holds is True
    better, closer = seen((0.1, 0.0), (0.5, 0.6))
    assert better.holds is False and closer.holds is False
    assert seen((0.5, 0.1), (0.1, 0.1))[0].holds is None
    # Means of another run's records say nothing about chance.
    better, closer = seen((0.5, 0.6), (0.1, 0.2), samples=False)
    assert better.holds is None and closer.holds is None and "means alone" in better.text


def test_a_natural_feature_is_not_in_the_mean_that_it_is_measured_to():
    """Two images a class: to the other one it is twice as far as to the mean of both."""

    def seen(near, far, labels):
        found = {"ldat": featured(near, far, labels=labels)}
        return features.natural_features_are_closer(of(ALL, features=Records(TITLES, found)))

    pairs = tuple(range(15)) * 2
    assert seen(0.4, 0.6, (0,) * 30).holds is True
    twice = seen(0.4, 0.6, pairs)
    assert twice.holds is False and "natural 0.90 (to that of the class's other" in twice.text
    assert "adversarial: PGD within L-inf 8/255 alone" in twice.text
    # An image alone in its class has no others: it is left out.
    assert seen(0.4, 0.6, (0,) * 29 + (1,)).holds is True


def test_means_left_out_are_those_computed_anew():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(12, 3)), [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    others = features._others(labels)
    for i, label in enumerate(labels):
        rest = [k for k, other in enumerate(labels) if other == label and k != i]
        own = [k for k, other in enumerate(labels) if other == label]
        assert others[i] == len(rest)
        far = np.linalg.norm(values[i] - values[own].mean(0)) * (1 + 1 / others[i])
        assert far == pytest.approx(np.linalg.norm(values[i] - values[rest].mean(0)))


def test_told_apart_is_compared_with_trades_on_the_same_images():
    def seen(ldat, trades):
        found = {}
        for name, hits in (("ldat", ldat), ("trades", trades)):
            found[name] = msgspec.structs.replace(featured(0.1, 0.2), probe_hits=hits)
        return features.same_distribution(of(ALL, features=Records(TITLES, found)))

    less, more = [1, 0, 1, 1] * 10, [2, 1, 2, 2] * 10
    assert seen(less, more).holds is True and seen(more, less).holds is False
    assert seen(less, less).holds is None
    text = seen(less, more).text
    assert "LDAT 50.0% [40.0%, 60.0%], TRADES 50.0%" in text
    before = seen(None, more)
    assert before.holds is None and "means alone" in before.text
    with pytest.raises(NoRecord, match="trades"):
        only = Records(TITLES, {"ldat": featured(0.1, 0.2)})
        features.same_distribution(of(ALL, features=only))


def scored_of(clean, under, right):
    """A network as the detector sees it: clean scores (all right), scores under every attack."""
    n = len(clean)
    sets = {"val": (clean, "1" * n), "clean": (clean, "1" * n)}
    keys = (*detector.STOP_AT_THE_BOUNDARY, *detector.WALK_ON)
    for key in keys:
        sets[key] = (under[key in detector.WALK_ON], right)
    thresholds = {"posterior": {"paper": 0.6, "accept_95": 0.5, "accept_99": 0.4}}
    found = {"ldat": detection_record({"posterior": sets}, thresholds)}
    return of(ALL, detection=Records(TITLES, found))


def test_rejection_spares_natural_images_within_the_margin():
    def seen(rejected):
        scores = [0.1] * rejected + [0.9] * (200 - rejected)
        return detector.spares_natural_images(scored_of(scores, (scores, scores), "1" * 200)).holds

    assert seen(0) is True and seen(10) is None and seen(60) is False


def test_low_confidence_is_below_that_of_natural_images():
    clean, low, high = [0.9] * 40, [0.1] * 40, [0.8] * 40

    def seen(near, right=NONE):
        return detector.successes_have_low_confidence(scored_of(clean, (near, low), right)).holds

    assert seen(low) is True and seen(high) is False and seen(low, ALL) is None


def test_a_threshold_helps_where_robust_accuracy_rises():
    clean, low, high = [0.9] * 200, [0.1] * 200, [0.8] * 200
    fooled = "0" * 200
    near = detector.helps_against_the_near(scored_of(clean, (low, high), fooled))
    assert near.holds is True and "+100.0" in near.text
    # Of the attacks that walk on the margin is tested, and the sentence says which p that is.
    assert near.text.count("(p of a difference of 5 points=") == len(detector.WALK_ON)
    # Against PGD, too: the claim says that it does not.
    assert detector.helps_against_the_near(scored_of(clean, (low, low), fooled)).holds is False
    # One that rejects everything misses nothing, and has nothing right.
    everything = scored_of([0.1] * 200, (low, low), "1" * 200)
    assert detector.helps_against_the_near(everything).holds is False


def test_the_attack_that_knows_the_threshold_and_all_others_count_together():
    clean, low = [0.9] * 40, [0.1] * 40
    check = {"images": 40, "self_checks": [], "ok": True, "adversarial": "", "half_budget": {}}

    def seen(scores, norms=("l2",), clean=clean):
        found = scored_of(clean, (low, low), NONE)
        entry = {"cut": 0.5, "score": scores, "right": NONE}
        made = {norm: {"posterior": {"accept_95": entry}} for norm in norms}
        adaptive = {"ldat": record("adaptive", norms=made, **check)}
        found.adaptive = Records(TITLES, adaptive)
        return detector.helps_against_the_adaptive(found)

    # Every ordinary image is wrong and rejected; what decides is the attack that knows.
    assert seen([0.1] * 40).holds is True and seen([0.9] * 40).holds is None
    assert seen([0.1] * 40).scope == "tested under L2 alone"
    assert seen([0.1] * 40, ("linf", "l2")).scope == ""


def test_a_claim_about_growing_lambda_is_of_a_training_that_has_it():
    def seen(schedule, clean=HALF, log=(0.9, 0.9), **more):
        config = {"defence": {"lambda_schedule": schedule, "lambda_init": 1.0}}
        lines = [{"val_clean_accuracy": value} for value in log]
        more.setdefault("switched", Records({"lambda 0"}))
        trained = Records(TITLES, {"ldat": SimpleNamespace(config=config, val_images=300)})
        logs = Records(TITLES, {"ldat": lines})
        return training.still_classifies(of(ALL, clean=clean, training=trained, logs=logs, **more))

    with pytest.raises(NoRecord, match="lambda grows"):
        seen("constant")

    # Against the same training without the term, on the same images.
    def without(bits):
        return Records({"lambda 0"}, {"lambda 0": basic(bits, ALL)})

    many = "1" * 300
    assert seen("grow", many, switched=without(many)).holds is True
    assert seen("grow", "1" * 200 + "0" * 100, switched=without(many)).holds is False
    # Without that training nobody can tell, whatever the epochs say.
    for log in ((0.9, 0.86), (0.9, 0.3), (0.995, 0.995)):
        alone = seen("grow", log=log)
        assert alone.holds is None and "the same training without it (lambda 0)" in alone.text
    assert seen("grow", clean="1" * 4 + "0" * 36).holds is False


def test_the_perturbation_grows_with_robustness():
    def seen(lengths, robust):
        lines = [
            {"epoch": i, "attack_norm": a, "val_robust_accuracy": r}
            for i, (a, r) in enumerate(zip(lengths, robust, strict=True))
        ]
        return training.growing_perturbation(of(ALL, logs=Records(TITLES, {"ldat": lines})))

    steps = [3, 1, 4, 2, 8, 5, 7, 6]
    up = np.cumsum(steps).tolist()
    assert seen(up, up).holds is True and seen(up, [-u for u in up]).holds is False
    assert seen(up, [0.5] * 8).holds is None
    assert "(Kendall, 7 changes)" in seen(up, up).text
    # Three changes cannot tell whatever they are.
    assert seen(up[:4], up[:4]).holds is None
    # Both rise as trained networks do, and neither follows the other.
    level = [10 * i for i in range(8)]
    assert seen(up, level).holds is None


def test_two_trends_that_do_not_follow_each_other_are_not_told_to():
    """Lengths and accuracies that both rise over the epochs, by steps of their own."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(500):
        lengths, robust = rng.exponential(size=(2, 20)).cumsum(1).tolist()
        lines = [
            {"epoch": i, "attack_norm": a, "val_robust_accuracy": r}
            for i, (a, r) in enumerate(zip(lengths, robust, strict=True))
        ]
        here = of(ALL, logs=Records(TITLES, {"ldat": lines}))
        found.append(training.growing_perturbation(here).holds is not None)
    assert np.mean(found) <= 0.05 + 3 * (0.05 * 0.95 / 500) ** 0.5


def test_the_perturbation_that_counts_is_that_of_right_images():
    """The mean falls here, because fewer images are right; around those that are it grows."""
    lines = [
        {
            "epoch": i,
            "attack_norm": 1 - 0.01 * i**2,
            "attack_norm_right": 1 + 0.01 * i**2,
            "val_robust_accuracy": 0.01 * i**2,
        }
        for i in range(8)
    ]
    found = training.growing_perturbation(of(ALL, logs=Records(TITLES, {"ldat": lines})))
    assert found.holds is True and "around right images 1.00 in epoch 0" in found.text


def test_apgd_above_pgd_is_asked_for_its_loss():
    def seen(pgd, apgd, same_loss):
        found = of(ALL)
        columns = {f"{norm}_apgd": apgd for norm in ("linf", "l2")}
        found.whitebox["ldat"] = attacked("ldat", pgd, attacks=columns)
        found.autoattack = Records(TITLES, {"ldat": autoattack(same_loss, ("l2",))})
        return white_box.apgd_above_pgd(found)

    odd = seen(NONE, HALF, NONE)
    assert odd.holds is True and "the loss makes the difference" in odd.text
    assert "odd on the same loss, too" in seen(NONE, HALF, HALF).text
    assert seen(HALF, NONE, NONE).holds is False
    # Six images that only APGD leaves, in either norm: p=0.031, with the other one 0.063.
    two = seen(HALF, "1" * 26 + "0" * 14, HALF)
    assert two.holds is None and two.text.count("(p=0.062): no more than chance may do") == 2
    level = seen(HALF, "1" * 21 + "0" * 19, HALF)
    assert level.holds is None and "no more than chance may do" in level.text


def test_a_missing_record_is_said_and_a_defect_is_not_swallowed(run, monkeypatch):
    with pytest.raises(NoRecord):
        of(ALL, surrogates=Records(TITLES), labels={}).transferred("natural", "ldat", "clean")
    with pytest.raises(NoRecord):
        detector.spares_natural_images(of(ALL, detection=Records(TITLES)))
    # A name that no run has is a slip of ours.
    with pytest.raises(KeyError):
        of(ALL).whitebox["ldta"]

    for defect, broken in (
        (KeyError, lambda found: found.whitebox["ldat"].attacks["no such attack"]),
        (KeyError, lambda found: found.whitebox["ldta"]),
        (IndexError, lambda found: found.logs["standard"][10**6]),
    ):
        broken_claim = claims.Claim("0", "a defect of ours", broken, "03")
        monkeypatch.setattr(table, "CLAIMS", (broken_claim,))
        with pytest.raises(defect):
            claims.claims(run)


def test_published_claims_have_a_verdict_of_this_scale(run):
    found = claims.claims(run)
    assert len(found) == len(claims.CLAIMS) == 23
    for name in ("ldat", run.profile.base):
        judged = claims.claims(run, name)
        assert judged.verdict.str.contains("at this scale").all()
        assert {"yes", "no", "cannot tell"} <= set(judged["same here?"])
    # The paper's stand in our words; what it does not say is marked, and only that.
    assert found["claim, in our words"].str.startswith("(ours) ").sum() == 3
    # Only what varies the training is not all measured there yet.
    missing = found[found["seen here"].str.contains("needs records")]
    assert missing["claim, in our words"].str.contains("beta|Algorithm 1").all()
