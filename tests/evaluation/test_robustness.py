"""Evaluation: closed forms on a plane, honest counting, and self-checks that can fail."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import Plane, images_around, snapshot
from torch import nn

from ldatlib.errors import UserError
from ldatlib.evaluation import robustness
from ldatlib.evaluation.gate.entry import passed
from ldatlib.evaluation.named_attacks import METHODS, Attack, table1_attacks
from ldatlib.evaluation.robustness import (
    evaluate,
    from_bits,
    predict,
    rescore,
    run_attack,
    share,
    wilson_interval,
)
from ldatlib.gmm import GaussianMixtureHead

pytestmark = pytest.mark.slow

COUNT, SIDE = 60, 6
EPS = {"linf": 0.03, "l2": 0.15}
RUNS = [(method, norm) for method, how in METHODS.items() for norm in how.norms]
every_attack = pytest.mark.parametrize(("method", "norm"), RUNS, ids=lambda name: name)


@pytest.fixture
def plane():
    return Plane(torch.randn(SIDE * SIDE), classes=3)


@pytest.fixture
def x(plane):
    """Far from the ends of the pixel range, at up to twice the budgets from the plane."""
    return images_around(plane, COUNT, SIDE)


@pytest.fixture
def y(plane, x):
    """A sixth of the labels are wrong."""
    y = plane.predict(x)
    y[::6] = 1 - y[::6]
    return y


def attack(method, norm, eps=None, **options):
    options = {"steps": 200 if method == "square" else 40} | options
    return Attack(method, norm, EPS[norm] if eps is None else eps, **options)


def run(plane, x, y, method, norm, eps=None, **options):
    spec = attack(method, norm, eps, **options)
    result = evaluate(plane, x, y, [spec])
    return result.right[spec.key], result


def closed_form(plane, x, y, norm, eps):
    """The images that stay right under the best attack, and those too close to call."""
    distance = plane.distance(x, norm)
    unsure = (distance / eps - 1).abs() < 0.02
    return (plane.predict(x) == y) & (distance > eps), unsure


# Intervals


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Newcombe 1998, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval(successes, count, low, high):
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(count - successes, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_interval_of_another_confidence():
    z, n, p = 2.5758293, 50, 0.4
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    expected = pytest.approx((middle - half, middle + half))
    assert wilson_interval(20, 50, 0.99) == expected


def test_share():
    found = share(torch.tensor([True] * 81 + [False] * 182))
    assert found == pytest.approx(
        {"value": 81 / 263, "low": 0.2553, "high": 0.3662, "count": 263}, abs=5e-5
    )


# Closed forms


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_on_a_plane(plane, x, y, norm, factor):
    eps = factor * EPS[norm]
    right, result = run(plane, x, y, "pgd", norm, eps)
    expected, unsure = closed_form(plane, x, y, norm, eps)
    assert torch.equal(right[~unsure], expected[~unsure])
    assert 0 < expected.sum() < (plane.predict(x) == y).sum()
    assert result.record["attacks"][f"{norm}_pgd"]["robust_accuracy"]["value"] == (
        right.sum().item() / COUNT
    )


def plane_logits(offset, classes):
    def model(plane):
        return Plane(plane.w.detach(), plane.b, classes=classes, offset=offset)

    return model


def centroids(plane):
    """Two centroids whose boundary is the plane; a third is far away."""
    head = GaussianMixtureHead(SIDE * SIDE, 3)
    w = plane.w.detach()
    head.means.data = torch.stack([0.5 - w / 2, 0.5 + w / 2, w + 10])
    return head


def mixture_logits(plane):
    return nn.Sequential(nn.Flatten(), centroids(plane))


class DistanceLogits(nn.Module):
    """``-d_k`` in full, all negative."""

    def __init__(self, plane):
        super().__init__()
        self.head = centroids(plane)

    def forward(self, x):
        return -self.head.half_squared_distances(x.flatten(1))


LOGITS = {
    "three classes": plane_logits(0.0, 3),
    "two classes": plane_logits(0.0, 2),
    "shifted down": plane_logits(-100.0, 3),
    "shifted far down": plane_logits(-1000.0, 3),
    "shifted up": plane_logits(100.0, 3),
    "mixture": mixture_logits,
    "distances": DistanceLogits,
}


@every_attack
@pytest.mark.parametrize("kind", LOGITS)
def test_every_attack_on_every_kind_of_logits(plane, x, y, method, norm, kind):
    """All-negative logits break attacks that mask a class by 0 or -1e4."""
    model = LOGITS[kind](plane)
    assert torch.equal(predict(model, x), plane.predict(x))
    if kind in ("shifted down", "shifted far down", "distances"):
        assert model(x).max() < 0
    right, _ = run(model, x, y, method, norm)
    expected, unsure = closed_form(plane, x, y, norm, EPS[norm])
    within_reach = (plane.predict(x) == y) & ~expected & ~unsure
    assert right[expected & ~unsure].all(), "an attack beats the closed form"
    assert within_reach.sum() >= 10 and (expected & ~unsure).sum() >= 10
    # Square searches at random.
    found = (within_reach & ~right).sum() / within_reach.sum()
    assert found >= (0.2 if method == "square" else 1)


@pytest.mark.parametrize(
    ("method", "norm"),
    [
        *[("fab", "linf"), ("fab", "l2"), ("deepfool", "linf"), ("deepfool", "l2")],
        *[("cw", "l2"), ("ddn", "l2")],
    ],
)
@pytest.mark.parametrize("factor", [0.3, 1.7, 10])
def test_minimal_attacks_count_inside_the_ball_alone(plane, x, y, method, norm, factor):
    """They cross the plane from everywhere, however small the ball."""
    eps = factor * EPS[norm]
    right, _ = run(plane, x, y, method, norm, eps)
    expected, unsure = closed_form(plane, x, y, norm, eps)
    assert torch.equal(right[~unsure], expected[~unsure])
    if factor == 10:
        assert not right.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_saturated_softmax_hides_nothing_from_the_worst_case(plane, x, y, norm):
    """The cross-entropy has no gradient left; attacks on the logits find their way."""
    plane.scale = 1e4
    expected, unsure = closed_form(plane, x, y, norm, EPS[norm])
    attacks = [attack(method, norm) for method in ("pgd", "apgd", "fab", "deepfool")]
    result = evaluate(plane, x, y, attacks)
    assert result.right[f"{norm}_pgd"].sum() > expected.sum() + 10
    for method in ("apgd", "fab", "deepfool"):
        right = result.right[f"{norm}_{method}"]
        assert torch.equal(right[~unsure], expected[~unsure]), method


# Counting, with attacks of our own


def install(monkeypatch, method, function):
    """Replace what runs under the name of an attack; returns the images that it was given."""
    given = []

    def spy(model, x, y, spec, seed):
        given.append(x.clone())
        return function(x)

    monkeypatch.setitem(METHODS, method, replace(METHODS[method], run=spy))
    return given


def across(plane, x, length):
    """Images moved straight towards the plane and beyond it."""
    along = plane.outward(x).view(-1, 1, 1, 1) * (plane.w / plane.w.norm()).view(1, SIDE, SIDE)
    return (x + length * along).detach()


def test_images_that_are_wrong_already_are_not_attacked(plane, x, y, monkeypatch):
    given = install(monkeypatch, "fgsm", lambda images: images)
    clean = plane.predict(x) == y
    right, result = run(plane, x, y, "fgsm", "linf")
    assert torch.equal(torch.cat(given), x[clean])
    assert torch.equal(result.x_adv["linf_fgsm"][~clean], x[~clean])
    assert torch.equal(right, clean) and 0 < clean.sum() < COUNT
    accuracy = result.record["attacks"]["linf_fgsm"]["robust_accuracy"]
    assert accuracy["count"] == COUNT and accuracy["value"] == clean.sum().item() / COUNT


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_outside_the_ball_are_brought_back(plane, x, y, norm, monkeypatch):
    install(monkeypatch, "fgsm", lambda images: across(plane, images, 5.0))
    assert (plane.predict(across(plane, x, 5.0)) != plane.predict(x)).all()
    right, result = run(plane, x, y, "fgsm", norm, 1e-4)
    clean = plane.predict(x) == y
    assert torch.equal(right, clean & (plane.distance(x, norm) > 1e-4))
    delta = (result.x_adv[f"{norm}_fgsm"] - x).flatten(1)[clean]
    size = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    torch.testing.assert_close(size, torch.full_like(size, 1e-4), rtol=1e-2, atol=1e-6)


def test_pixels_outside_the_range_are_clipped(plane, x, y, monkeypatch):
    install(monkeypatch, "fgsm", lambda images: images + 10)
    result = evaluate(plane, x, y, [Attack("fgsm", "linf", 20.0)])
    assert result.x_adv["linf_fgsm"].max() == 1 and result.record["ok"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_images_found_nothing(plane, x, y, value, monkeypatch):
    """One bad pixel spoils an image, and no other."""

    def spoil(images):
        found = across(plane, images, 0.6)
        found[0, 0, 0, 0] = value
        return found

    install(monkeypatch, "fgsm", spoil)
    right, result = run(plane, x, y, "fgsm", "l2", 0.7)
    first = (plane.predict(x) == y).nonzero()[0]
    assert right.nonzero().squeeze(1).tolist() == first.tolist()
    assert torch.equal(result.x_adv["l2_fgsm"][first], x[first])


def test_black_images_of_carlini_and_wagner_found_nothing():
    """Class 1 is never reached, and foolbox answers black for images without a find."""
    plane = Plane(torch.ones(SIDE * SIDE), b=-1.0)
    x = torch.full((2, 1, SIDE, SIDE), 0.1)
    y = plane.predict(x)
    found = run_attack(plane, x, y, attack("cw", "l2", 10.0, steps=1))
    assert (y == 1).all() and plane.predict(torch.zeros_like(x)).sum() == 0
    assert torch.equal(found, x)


def test_worst_case_is_counted_image_by_image(plane, x, y, monkeypatch):
    """Two attacks that each fool the half that the other leaves alone."""

    def fool(parity):
        def attack(images):
            chosen = torch.arange(len(images)).view(-1, 1, 1, 1) % 2 == parity
            return torch.where(chosen, across(plane, images, 0.6), images)

        return attack

    install(monkeypatch, "fgsm", fool(0))
    install(monkeypatch, "mi_fgsm", fool(1))
    attacks = [Attack(method, "l2", 0.7) for method in ("fgsm", "mi_fgsm")]
    result = evaluate(plane, x, y, [*attacks, Attack("fgsm", "linf", 0.0)])
    values = [column["robust_accuracy"]["value"] for column in result.record["attacks"].values()]
    assert values == [25 / COUNT, 25 / COUNT, 50 / COUNT]
    worst = result.record["worst_case"]
    assert worst["l2"]["value"] == 0 and worst["l2"]["count"] == COUNT
    assert worst["linf"]["value"] == 50 / COUNT


def test_record(plane, x, y):
    specs = [attack("pgd", "linf"), attack("apgd", "l2")]
    told = []
    result = evaluate(plane, x, y, specs, batch_size=32, seed=3, on_attack=told.append)
    record = json.loads(json.dumps(result.record, allow_nan=False))
    assert told == list(record["attacks"]) == ["linf_pgd", "l2_apgd"]
    clean = plane.predict(x) == y
    assert torch.equal(from_bits(record["clean_right"]), clean)
    assert record["clean_accuracy"] == share(clean)
    assert (record["batch_size"], record["attack_seed"]) == (32, 3)
    for key, column in record["attacks"].items():
        right = from_bits(column["right"])
        assert torch.equal(right, result.right[key]) and not (right & ~clean).any()
        assert column["robust_accuracy"] == share(right)
        assert torch.equal(right, predict(plane, result.x_adv[key]) == y)
        assert column["seconds"] > 0
    settings = record["attacks"]["linf_pgd"]["settings"]
    assert settings == {
        "method": "pgd",
        "norm": "linf",
        "eps": 0.03,
        "steps": 40,
        "step_size": 0.0075,
        "cw_step_size": 0.01,
        "targets": 0,
    }
    assert set(record["worst_case"]) == {"linf", "l2"} and record["ok"]


def test_step_sizes():
    assert Attack("pgd", "linf", 0.1).absolute_step == pytest.approx(0.025)
    assert Attack("pgd", "l2", 0.1).absolute_step == pytest.approx(0.02)
    assert Attack("pgd", "l2", 0.1, step_size=0.07).absolute_step == 0.07


@pytest.mark.parametrize(("classes", "loss"), [(2, "ce"), (3, "dlr"), (4, "dlr")])
def test_apgd_loss_fits_the_number_of_classes(plane, x, y, classes, loss):
    plane.classes = classes
    right, result = run(plane, x, y, "apgd", "linf")
    assert result.record["attacks"]["linf_apgd"]["settings"]["loss"] == loss
    expected, unsure = closed_form(plane, x, y, "linf", EPS["linf"])
    assert torch.equal(right[~unsure], expected[~unsure])


@every_attack
def test_a_model_that_is_always_wrong(plane, x, method, norm):
    """Nothing is left to attack, and that is no error."""
    y = 1 - plane.predict(x)
    right, result = run(plane, x, y, method, norm)
    assert not right.any() and result.record["ok"]
    assert result.record["attacks"][f"{norm}_{method}"]["robust_accuracy"]["value"] == 0


@every_attack
def test_one_image(plane, x, method, norm):
    nearest = plane.distance(x).argmin().view(1)
    y = plane.predict(x[nearest])
    right, result = run(plane, x[nearest], y, method, norm, 4 * EPS[norm])
    assert result.record["ok"] and result.x_adv[f"{norm}_{method}"].shape == (1, 1, SIDE, SIDE)
    assert method == "square" or not right.any()


@every_attack
def test_a_constant_model(x, method, norm):
    """No gradient anywhere: no attack finds anything, and none breaks down."""
    plane = Plane(torch.zeros(SIDE * SIDE), b=-1.0, classes=3)
    right, result = run(plane, x, torch.zeros(COUNT).long(), method, norm, steps=5)
    assert right.all() and result.record["ok"]


# What an evaluation leaves alone


@every_attack
def test_model_and_random_state_are_left_as_they_were(plane, x, y, method, norm):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.plane, self.norm = plane, nn.BatchNorm1d(3)
            self.plane.eval()
            self.norm.bias.requires_grad_(False)

        def forward(self, images):
            in_train_mode.append(self.norm.training)
            return self.norm(self.plane(images))

    in_train_mode = []
    model = Mixed()
    before, state = snapshot(model), torch.get_rng_state()
    pixels = x.clone()
    run(model, x, y, method, norm, steps=3)
    assert snapshot(model) == before and torch.equal(x, pixels)
    assert torch.equal(torch.get_rng_state(), state)
    assert in_train_mode and not any(in_train_mode)


@every_attack
def test_evaluation_is_reproducible(plane, x, y, method, norm):
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        found.append(run(plane, x, y, method, norm, steps=5)[1])
    first, again = found
    assert torch.equal(first.x_adv[f"{norm}_{method}"], again.x_adv[f"{norm}_{method}"])
    for result in found:
        del result.record["attacks"][f"{norm}_{method}"]["seconds"]
    assert first.record == again.record


@pytest.mark.parametrize("method", ["pgd", "square"])
def test_seeds_differ(plane, x, y, method):
    spec = attack(method, "linf", steps=2)
    first, other = (run_attack(plane, x, y, spec, seed=seed) for seed in (0, 1))
    assert not torch.equal(first, other)


# Self-checks


def checks(result):
    return {check["name"]: check["passed"] for check in result.record["self_checks"]}


class Batchwise(Plane):
    """Judges an image by its batch, as batch norm in train mode does."""

    def forward(self, x):
        return super().forward(x - x.mean(0, keepdim=True) + 0.5)


class Random(Plane):
    def forward(self, x):
        return super().forward(x) + 3 * torch.randn(len(x), self.classes)


NAMES = {
    "clean": "a budget of 0 gives the clean accuracy",
    "ball": "l2_pgd: inside the ball and [0,1]",
    "batches": "l2_pgd: other batches agree",
    "finite": "clean: logits are finite",
    "finite_adversarial": "l2_pgd: logits are finite",
}


def test_self_checks_pass(plane, x, y):
    _, result = run(plane, x, y, "pgd", "l2")
    assert checks(result) == dict.fromkeys(NAMES.values(), True)
    assert result.record["ok"] is True


def test_self_checks_of_no_attack(plane, x, y):
    result = evaluate(plane, x, y, [])
    assert checks(result) == {NAMES["clean"]: True, NAMES["finite"]: True}
    assert result.record["worst_case"] == {}


@pytest.mark.filterwarnings("ignore::ldatlib.evaluation.gate.findings.EvaluationWarning")
@pytest.mark.parametrize(
    ("kind", "failing"), [(Random, ["clean", "batches"]), (Batchwise, ["batches"])]
)
def test_self_checks_notice_the_model(plane, x, y, kind, failing):
    """Behind the gate, which refuses the first and warns of the second."""
    model = kind(plane.w.detach(), plane.b, classes=3)
    with passed():
        _, result = run(model, x, y, "pgd", "l2")
    for name in failing:
        assert not checks(result)[NAMES[name]]
    assert result.record["ok"] is False
    assert not (result.right["l2_pgd"] & ~from_bits(result.record["clean_right"])).any()


@pytest.mark.parametrize("tampering", [2e-3, 0.6])
def test_self_checks_notice_images_outside_the_ball(plane, x, y, tampering, monkeypatch):
    honest = robustness.run_restarts

    def tampered(*a, **k):
        images, restart = honest(*a, **k)
        return images + tampering / 4, restart

    monkeypatch.setattr(robustness, "run_restarts", tampered)
    _, result = run(plane, x, y, "pgd", "l2")
    assert not checks(result)[NAMES["ball"]] and result.record["ok"] is False


def test_self_checks_notice_pixels_outside_the_range(plane, x, y, monkeypatch):
    monkeypatch.setattr(
        robustness, "run_restarts", lambda model, x, y, *a, **k: (x + 0.6, -1 + 0 * y)
    )
    _, result = run(plane, x, y, "pgd", "l2", 100.0)
    assert not checks(result)[NAMES["ball"]]


def test_self_checks_notice_logits_that_are_not_finite(plane, x, y):
    """The largest of several NaN has an index, which is no prediction."""
    plane.offset = float("nan")
    with passed():
        _, result = run(plane, x, y, "pgd", "l2")
    assert result.record["ok"] is False
    assert not checks(result)[NAMES["finite"]]


def test_rescore(plane, x, y):
    right, result = run(plane, x, y, "pgd", "l2")
    images = result.x_adv["l2_pgd"]
    assert rescore(plane, images, y, right, "l2_pgd")["passed"]
    check = rescore(plane, x, y, right, "l2_pgd")
    assert not check["passed"] and check["value"] == (plane.predict(x) == y).sum().item() / COUNT


def test_bits():
    bits = "0110001"
    assert from_bits(bits).tolist() == [False, True, True, False, False, False, True]
    assert robustness.to_bits(from_bits(bits)) == bits


# Attacks by name


def test_table1_attacks():
    attacks = table1_attacks(8 / 255, 0.5, cw_step_size=0.05)
    assert [a.key for a in attacks] == [
        *("linf_pgd", "linf_apgd", "linf_fab", "linf_deepfool"),
        *("l2_pgd", "l2_apgd", "l2_fab", "l2_cw", "l2_deepfool", "l2_ddn"),
    ]
    assert {a.eps for a in attacks if a.norm == "linf"} == {8 / 255}
    assert {a.eps for a in attacks if a.norm == "l2"} == {0.5}
    assert {a.steps for a in attacks} == {40}
    assert {a.cw_step_size for a in attacks if a.method == "cw"} == {0.05}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("cleverhans", "linf", 0.1), "'cleverhans'; known: " + ", ".join(METHODS)),
        (("cw", "linf", 0.1), "cw works under l2, not 'linf'"),
        (("pgd", "l1", 0.1), "pgd works under linf or l2, not 'l1'"),
        (("pgd", "linf", -0.1), "eps .*-0.1"),
        (("pgd", "linf", float("nan")), "eps .*nan"),
        (("pgd", "linf", float("inf")), "eps .*inf"),
        (("pgd", "linf", 0.1, 0), "steps .*0"),
        (("pgd", "linf", 0.1, 10, -0.1), "step_size .*-0.1"),
        (("pgd", "linf", 0.1, 10, float("nan")), "step_size .*nan"),
        (("cw", "l2", 0.1, 10, None, -0.1), "cw_step_size .*-0.1"),
    ],
)
def test_attack_errors(arguments, named):
    with pytest.raises(UserError, match=named):
        Attack(*arguments)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x: x - 0.6, r"\[0,1\]"),
        (lambda x: 255 * x, r"\[0,1\]"),
        (lambda x: torch.where(x == x[0, 0, 0, 0], torch.nan, x), r"\[0,1\]"),
        (lambda x: x[:0], "no images"),
    ],
    ids=["negative", "bytes", "nan", "none"],
)
def test_images_are_checked(plane, x, y, change, named):
    images = change(x)
    with pytest.raises(UserError, match=named):
        evaluate(plane, images, y[: len(images)], [attack("pgd", "linf")])


def test_two_attacks_of_one_key(plane, x, y):
    with pytest.raises(UserError, match="linf_pgd"):
        evaluate(plane, x, y, [attack("pgd", "linf"), attack("pgd", "linf", 0.01)])
