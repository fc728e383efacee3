"""The tests for masking: honest networks pass all, masked ones are caught, by which is said."""

import json

import pytest
import torch
from helpers import Plane, images_around
from masked import (
    Halves,
    Noisy,
    Quantised,
    Shattered,
    Times,
    digits,
    k_winners,
    ldat_trained,
    pgd_trained,
    saturated_tanhs,
)
from test_robustness import COUNT, EPS, LOGITS, SIDE, closed_form

from ldatlib import UserError
from ldatlib.evaluation.gate import entry as gate
from ldatlib.evaluation.gate.wrappers import Averaged
from ldatlib.evaluation.masking import ball, landscape
from ldatlib.evaluation.masking.bench import Bench, Effort
from ldatlib.evaluation.masking.examine import examine
from ldatlib.evaluation.masking.verdicts import TITLES, against, below, mcnemar, some
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import evaluate, from_bits, predict, share

pytestmark = pytest.mark.slow

DIGITS_EPS, IMAGES = 0.22, 80
EFFORT = Effort(steps=15, restarts=2, queries=400)
METHODS = ("pgd", "apgd", "fab", "deepfool")
# What must sound: network -> budget, where it is neither right nor wrong everywhere.
MASKED = {
    "huge": DIGITS_EPS,
    "quantised": DIGITS_EPS,
    "shattered": DIGITS_EPS,
    "halves": DIGITS_EPS,
    "tanhs": 0.1,
    # Trained from seven other seeds it sounds here too (at 0.06 some machines hear nothing).
    "k_winners": 0.12,
}
# What must not, in these norms.
HONEST = {"honest": ("linf", DIGITS_EPS), "tiny": ("linf", DIGITS_EPS), "ldat": ("l2", 0.6)}


@pytest.fixture(scope="module")
def networks():
    honest = pgd_trained(0)
    return {
        "honest": honest,
        "tiny": Times(honest, 1e-4),
        "huge": Times(honest, 1e4),
        "quantised": Quantised(honest),
        "shattered": Shattered(honest),
        "halves": Halves(honest),
        "ldat": ldat_trained(0),
        "tanhs": saturated_tanhs(),
        "k_winners": k_winners(),
    }


@pytest.fixture(scope="module")
def images():
    return digits().split("test", IMAGES)


@pytest.fixture(scope="module")
def sibling():
    return pgd_trained(1)


@pytest.fixture(scope="module")
def records(networks, images, sibling):
    """Masked networks are judged by Table 1's attacks, honest ones by the search, too."""
    x, y = images
    found = {}
    for name, (norm, eps) in (HONEST | {n: ("linf", eps) for n, eps in MASKED.items()}).items():
        attacks = [Attack(method, norm, eps, 20) for method in METHODS]
        if name in HONEST:
            attacks.append(Attack("margin", norm, eps, 25))
        right = evaluate(networks[name], x, y, attacks).right
        reported = torch.stack(list(right.values())).all(0)
        settings = {"eps": eps, "norm": norm, "effort": EFFORT, "siblings": {"sibling": sibling}}
        found[name] = examine(networks[name], x, y, reported, **settings)
    return found


def by_name(record):
    return {test["test"]: test for test in record["tests"]}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_network_raises_no_alarm(records, name):
    record = records[name]
    assert record["alarms"] == []
    assert set(by_name(record)) == set(TITLES)
    assert all(test["verdict"] == "no alarm" for test in record["tests"])
    # It is robust, but not so that nothing could be overlooked.
    assert 0.1 < record["reported"]["value"] < record["clean_accuracy"]["value"] - 0.1


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_network_raises_the_alarm(records, name):
    record = records[name]
    assert record["alarms"]
    assert 0.1 < record["reported"]["value"] <= record["clean_accuracy"]["value"]


def test_saturated_logits_raise_the_alarm(records):
    """The worst case is right, thanks to DLR and FAB; PGD is misled, and each test says which."""
    record, tests = records["huge"], by_name(records["huge"])
    sound = {"square", "transfer", "growing_eps", "gradients", "surface"}
    assert sound <= set(record["alarms"]) and all(tests[name]["misled"] for name in sound)
    assert tests["square"]["numbers"]["p_value"] < 1e-4
    # DLR is held against the cross-entropy of logits of ordinary size, which finds its way.
    assert not tests["dlr"]["misled"]
    assert tests["gradients"]["numbers"]["ce"]["vanishing"]["value"] > 0.9
    assert tests["gradients"]["numbers"]["margin"]["vanishing"]["value"] == 0
    assert "plateau" in tests["growing_eps"]["reason"]


@pytest.mark.parametrize("name", ["quantised", "shattered"])
def test_where_gradients_lead_nowhere_other_tools_take_images(records, name):
    """Nothing that follows a gradient finds much; what does not, does."""
    record, tests = records[name], by_name(records[name])
    assert {"square", "transfer", "growing_eps", "surface"} <= set(record["alarms"])
    for test in ("square", "transfer"):
        assert tests[test]["misled"] and tests[test]["overstated"]
        assert tests[test]["numbers"]["beyond_white_box"]["low"] > 0.01
    assert "plateau" in tests["growing_eps"]["reason"]


def test_dlr_and_margin_are_blind_to_the_scale(records):
    for record in records.values():
        assert set(by_name(record)["rescaled"]["numbers"]["same"].values()) == {1.0}


def test_every_record_can_be_written_and_checks_itself(records):
    for record in records.values():
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        assert record["self_checks"] and all(check["passed"] for check in record["self_checks"])
        clean = record["clean_accuracy"]
        for bits in record["right"].values():
            assert share(from_bits(bits))["value"] <= clean["value"]


def test_a_randomised_network_is_not_blamed_for_drawing_anew(networks, images):
    """Nothing is masked, and no check asks that two draws agree."""
    x, y = images
    model = Averaged(Noisy(networks["honest"]), 16)
    right = evaluate(model, x, y, [Attack("pgd", "linf", DIGITS_EPS, 20)]).right["linf_pgd"]
    record = examine(model, x, y, right, eps=DIGITS_EPS, norm="linf", effort=Effort(5, 1, 50))
    assert [check for check in record["self_checks"] if not check["passed"]] == []
    assert not by_name(record)["rescaled"]["misled"]


def test_an_attack_that_follows_the_scale_is_noticed(networks, images, monkeypatch):
    """Were logits cut off after the scaling, margin and DLR would find less than before."""
    bench = Bench(networks["honest"], *images, DIGITS_EPS, "linf", EFFORT)
    assert not landscape.rescaled_test(bench, bench.clean)["misled"]
    forward = landscape.Scaled.forward
    cut_off = lambda self, images: forward(self, images).clamp(-1, 1)  # noqa: E731
    monkeypatch.setattr(landscape.Scaled, "forward", cut_off)
    assert landscape.rescaled_test(bench, bench.clean)["misled"]


def test_self_checks_notice_a_network_that_judges_by_the_batch():
    """By its first image, here; and one whose logits are not finite."""

    class Batchwise(Plane):
        def forward(self, x):
            return super().forward(x - x[:1] + 0.5)

    w, x = torch.randn(25), torch.rand(40, 1, 5, 5)
    for model, failing in (
        (Batchwise(w, -0.5 * float(w.sum()), classes=3), "other batches agree"),
        (Plane(w, -0.5 * float(w.sum()), classes=3, offset=float("nan")), "logits are finite"),
    ):
        y = predict(model, x)
        bench = Bench(model, x, y, 0.1, "linf", EFFORT)
        with gate.passed():
            bench.run("pgd", bench.library(Attack("pgd", "linf", 0.1, 5)))
        passed = {check["name"]: check["passed"] for check in bench.checks}
        assert passed[f"linf pgd: {failing}"] is False
        assert passed["linf pgd: inside the ball and [0,1]"] is True


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", LOGITS)
def test_attacks_of_its_own_on_every_kind_of_logits(norm, kind):
    """Margin and targeted search, on negative and shifted logits, against the closed form."""
    plane = Plane(torch.randn(SIDE * SIDE), classes=3)
    x = images_around(plane, COUNT, SIDE)
    y = plane.predict(x)
    model = LOGITS[kind](plane)
    bench = Bench(model, x, y, EPS[norm], norm, EFFORT)
    expected, unsure = closed_form(plane, x, y, norm, EPS[norm])
    reported = expected | unsure
    for test in (ball.restarts_test, ball.margin_test, ball.targeted_test):
        assert test(bench, reported)["verdict"] == "no alarm"
    for name in ("margin", "targeted"):
        assert torch.equal(bench.right[name][~unsure], expected[~unsure])


def bits(text):
    return torch.tensor([c == "1" for c in text])


def test_misled_is_mcnemar_on_the_same_images():
    """One-sided: of eleven images on which they differ ten go the one way, binom(11, 1/2)."""
    rival, right = bits("1" * 40 + "0" * 10), bits("1" * 30 + "0" * 10 + "1" + "0" * 9)
    expected = (11 + 1) / 2**11
    assert mcnemar(right, rival) == pytest.approx(expected)
    assert mcnemar(rival, right) == pytest.approx(1 - 1 / 2**11)
    # Of the lowest of five tools that were tried, five times as much.
    assert mcnemar(right, rival, tried=5) == pytest.approx(5 * expected)
    assert mcnemar(right, right) == 1 == mcnemar(rival, right, tried=3)
    nothing = torch.zeros(50, dtype=torch.bool)
    assert against("dlr", right, nothing, rival, "PGD")["misled"]
    assert not against("step_size", right, nothing, rival, "PGD", tried=5)["misled"]


def test_misled_is_more_than_what_separates_losses_on_honest_networks():
    """Of 1,000 images 40 or 60 go the one way, none the other: each is significant, one large."""
    nothing, rival = bits("0" * 1000), bits("1" * 600 + "0" * 400)
    for taken, sounds in ((40, False), (60, True)):
        right = bits("0" * taken + "1" * (600 - taken) + "0" * 400)
        found = against("margin", right, nothing, rival, "CE")
        assert found["misled"] is sounds and found["numbers"]["p_value"] < 1e-9


def test_overstated_counts_images_of_the_worst_case_that_a_tool_takes():
    """However many others the tool leaves: the shares alone would hide it."""
    reported = bits("1" * 50 + "0" * 50)
    takes = [bits("0" * k + "1" * (100 - k)) for k in (2, 3)]
    verdicts = [against("square", right, reported) for right in takes]
    assert [verdict["overstated"] for verdict in verdicts] == [False, True]
    assert [verdict["numbers"]["taken"]["value"] for verdict in verdicts] == [0.02, 0.03]
    assert not any(below(right, reported) for right in takes)


def test_a_black_box_that_takes_what_no_gradient_got_sounds():
    everything = torch.ones(100, dtype=torch.bool)
    nothing_reported = ~everything
    for taken, sounds in ((2, False), (3, True)):
        right = bits("0" * taken + "1" * (100 - taken))
        found = against("transfer", right, nothing_reported, right, "PGD", white_box=everything)
        assert found["misled"] is sounds and not found["overstated"]
        assert f"takes {taken} that no attack with gradients got" in found["reason"]


def test_about_none_is_the_wilson_interval():
    # The interval of 2 in 100 reaches down to 0.6%, that of 3 to 1.03%.
    assert [some(torch.arange(100) < k) for k in (0, 2, 3)] == [False, False, True]
    assert [some(torch.arange(1000) < k) for k in (16, 17)] == [False, True]


def test_without_siblings_and_with_two_classes_tests_are_skipped():
    plane = Plane(torch.randn(25), classes=2)
    plane.b = -0.5 * plane.w.detach().sum()
    x = torch.rand(30, 1, 5, 5)
    y = predict(plane, x)
    effort = Effort(steps=5, restarts=1, queries=20)
    record = examine(plane, x, y, y == y, eps=0.02, norm="l2", effort=effort)
    verdicts = {test["test"]: test["verdict"] for test in record["tests"]}
    assert verdicts["dlr"] == verdicts["transfer"] == "skipped"
    assert "dlr" not in record["right"] and "dlr" not in record["alarms"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"eps": 0.0}, "eps above 0, not 0"),
        ({"norm": "l1"}, "unknown norm 'l1'; known: linf, l2"),
        ({"reported": torch.ones(3, dtype=torch.bool)}, "3 reported verdicts for 5 images"),
    ],
)
def test_bad_input(change, named):
    plane, x = Plane(torch.randn(16), classes=3), torch.rand(5, 1, 4, 4)
    given = {"y": predict(plane, x), "reported": torch.ones(5, dtype=torch.bool)}
    given |= {"eps": 0.1, "norm": "linf"} | change
    with pytest.raises(UserError, match=named):
        examine(plane, x, **given)


def test_a_network_that_is_always_wrong_is_not_tested():
    plane, x = Plane(torch.randn(25), classes=3), torch.rand(5, 1, 5, 5)
    wrong = torch.full((5,), 2)
    record = examine(plane, x, wrong, torch.ones(5, dtype=torch.bool), eps=0.1, norm="linf")
    assert {test["verdict"] for test in record["tests"]} == {"skipped"}
    assert json.loads(json.dumps(record, allow_nan=False)) == record and record["alarms"] == []


def test_effort_has_limits():
    with pytest.raises(UserError, match="restarts must be at least 1, not 0"):
        Effort(restarts=0)
