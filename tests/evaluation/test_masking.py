"""The tests for masking: an honest network passes all, masked ones are caught several times."""

import json

import pytest
import torch
import torch.nn.functional as F
from helpers import Plane, images_around
from test_robustness import COUNT, EPS, LOGITS, SIDE, closed_form
from torch import nn

from ldatlib import UserError, load_dataset, pgd
from ldatlib.evaluation.masking import ball, landscape
from ldatlib.evaluation.masking.bench import Bench, Effort
from ldatlib.evaluation.masking.examine import examine
from ldatlib.evaluation.masking.verdicts import TITLES, below, some
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import evaluate, from_bits, predict, share
from ldatlib.models import NetworkConfig, build_network

pytestmark = pytest.mark.slow

TRAINING_EPS, DIGITS_EPS, IMAGES = 0.15, 0.22, 50
EFFORT = Effort(steps=15, restarts=2, queries=400)


def trained(seed):
    """A small network, trained on PGD examples of the digits for a few seconds."""
    data = load_dataset("digits", val_size=100, test_size=100)
    torch.manual_seed(seed)
    config = NetworkConfig(num_classes=10, depth=6, stages=2, width=8, in_channels=1)
    model = build_network(config, *data.statistics())
    x, y = data.split("train")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    epochs, steps = 7, len(x) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for rows in order[: steps * 64].split(64):
            ball = {"eps": TRAINING_EPS, "step_size": 0.05, "num_steps": 4}
            x_adv = pgd(model, x[rows], y[rows], **ball)
            model.train()
            loss = F.cross_entropy(model(x_adv), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval(), data.split("test", IMAGES)


class Saturated(nn.Module):
    """Logits so large that the softmax is exactly one-hot: the cross-entropy has no gradient."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 1e5 * self.model(x)


class Quantised(nn.Module):
    """Pixels in steps: the gradient is 0 almost everywhere, for every loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model((x * 8).round() / 8)


@pytest.fixture(scope="module")
def networks():
    honest, (x, y) = trained(0)
    sibling, _ = trained(1)
    return {"honest": honest, "saturated": Saturated(honest), "quantised": Quantised(honest)}, (
        sibling,
        x,
        y,
    )


@pytest.fixture(scope="module")
def records(networks):
    models, (sibling, x, y) = networks
    found = {}
    for name, model in models.items():
        attacks = [Attack(m, "linf", DIGITS_EPS, 20) for m in ("pgd", "apgd", "fab", "deepfool")]
        right = evaluate(model, x, y, attacks).right
        reported = torch.stack(list(right.values())).all(0)
        settings = {"eps": DIGITS_EPS, "norm": "linf", "effort": EFFORT}
        found[name] = examine(model, x, y, reported, siblings={"sibling": sibling}, **settings)
    return found


def by_name(record):
    return {test["test"]: test for test in record["tests"]}


def test_an_honest_network_raises_no_alarm(records):
    record = records["honest"]
    assert record["alarms"] == []
    assert set(by_name(record)) == set(TITLES)
    assert all(test["verdict"] == "no alarm" for test in record["tests"])
    # It is robust, but not so that nothing could be overlooked.
    assert 0.2 < record["reported"]["value"] < record["clean_accuracy"]["value"] - 0.1


def test_saturated_logits_raise_the_alarm(records):
    """The worst case is right, thanks to DLR and FAB; PGD is misled, and each test says which."""
    record, tests = records["saturated"], by_name(records["saturated"])
    assert {"dlr", "margin", "square", "growing_eps", "gradients", "surface"} <= set(
        record["alarms"]
    )
    assert tests["dlr"]["misled"] and not tests["dlr"]["overstated"]
    assert tests["gradients"]["numbers"]["ce"]["vanishing"]["value"] > 0.9
    assert tests["gradients"]["numbers"]["margin"]["vanishing"]["value"] == 0
    assert "plateau" in tests["growing_eps"]["reason"]


def test_a_quantised_input_raises_the_alarm(records):
    """Nothing that follows a gradient finds anything; what does not, does."""
    record, tests = records["quantised"], by_name(records["quantised"])
    assert {"square", "transfer", "growing_eps", "gradients", "surface"} <= set(record["alarms"])
    assert tests["transfer"]["misled"] and tests["transfer"]["overstated"]
    assert tests["gradients"]["numbers"]["margin"]["vanishing"]["value"] == 1
    assert not tests["dlr"]["misled"] and "plateau" in tests["growing_eps"]["reason"]


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


def test_an_attack_that_follows_the_scale_is_noticed(networks, monkeypatch):
    """Were logits cut off after the scaling, margin and DLR would find less than before."""
    models, (_, x, y) = networks
    bench = Bench(models["honest"], x, y, DIGITS_EPS, "linf", EFFORT)
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


def test_the_rule_is_the_wilson_interval():
    reference = torch.arange(100) < 50  # 95% interval 40.4% to 59.6%
    assert not below(torch.arange(100) < 41, reference)
    assert below(torch.arange(100) < 40, reference)
    assert not below(torch.arange(1000) < 500, reference)
    # Newcombe's interval of 2 in 100 reaches down to 0.6%, that of 3 to 1.03%.
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
