"""Every loss against its formula, written out image by image, and every switch."""

import json
import math
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from helpers import SmoothNet
from torch import nn

from ldatlib import attacks
from ldatlib.defences import (
    CHOSEN,
    LAMBDA_SCHEDULES,
    PGD,
    TITLES,
    Boundary,
    NoAdversary,
    defence_names,
    lambda_at,
    make_defence,
)
from ldatlib.errors import UserError
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import Classifier

CLASSES = 4
BUDGETS = {"eps_linf": 0.1, "eps_l2": 0.5, "radius": 1.5}


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(9, 6)

    def forward(self, x):
        return torch.tanh(self.linear(x.flatten(1)))


def network(head="linear"):
    """Deterministic in train mode: without batch norm."""
    head = nn.Linear(6, CLASSES) if head == "linear" else GaussianMixtureHead(6, CLASSES)
    return Classifier(Features(), head).double()


@pytest.fixture
def batch():
    x = torch.rand(7, 1, 3, 3, dtype=torch.float64)
    x_adv = (x + 0.3 * torch.randn_like(x)).clamp(0, 1)
    return x, x_adv, torch.arange(7) % CLASSES


def probabilities(model, x):
    return model(x).softmax(1).tolist()


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def cross_entropy(p, y):
    return mean(-math.log(row[label]) for row, label in zip(p, y.tolist(), strict=True))


def kl(row, row_adv):
    return sum(a * math.log(a / b) for a, b in zip(row, row_adv, strict=True))


def accuracy(p, y):
    return mean(float(row.index(max(row)) == k) for row, k in zip(p, y.tolist(), strict=True))


def check(found, expected):
    total, parts = found
    assert total.item() == pytest.approx(expected, rel=1e-9)
    assert total.requires_grad and total.ndim == 0
    assert not any(part.requires_grad for part in parts.values())
    return {name: part.item() for name, part in parts.items()}


def defence(name, **switches):
    return make_defence(name, **BUDGETS | switches)


def loss(name, model, batch, progress=0.5, teacher=None, **switches):
    x, x_adv, y = batch
    return defence(name, **switches).loss(model, x, x_adv, y, progress=progress, teacher=teacher)


def test_natural(batch):
    model, (x, _, y) = network(), batch
    p = probabilities(model, x)
    parts = check(loss("natural", model, batch), cross_entropy(p, y))
    assert parts["natural_accuracy"] == pytest.approx(accuracy(p, y))


@pytest.mark.parametrize("name", ["standard", "l2_at", "l2_at_wide"])
def test_standard(batch, name):
    model, (_, x_adv, y) = network(), batch
    p = probabilities(model, x_adv)
    parts = check(loss(name, model, batch), cross_entropy(p, y))
    assert parts["adversarial_accuracy"] == pytest.approx(accuracy(p, y))


@pytest.mark.parametrize("beta", [6.0, 1.0])
def test_trades(batch, beta):
    model, (x, x_adv, y) = network(), batch
    p, p_adv = probabilities(model, x), probabilities(model, x_adv)
    natural, divergence = cross_entropy(p, y), mean(map(kl, p, p_adv))
    switches = {} if beta == 6 else {"beta": beta}
    parts = check(loss("trades", model, batch, **switches), natural + beta * divergence)
    assert parts == pytest.approx(
        {
            "loss_natural": natural,
            "loss_divergence": divergence,
            "natural_accuracy": accuracy(p, y),
            "adversarial_accuracy": accuracy(p_adv, y),
        }
    )


@pytest.mark.parametrize("beta", [5.0, 6.0])
def test_mart(batch, beta):
    model, (x, x_adv, y) = network(), batch
    p, p_adv = probabilities(model, x), probabilities(model, x_adv)
    labels = y.tolist()
    others = [max(q for k, q in enumerate(r) if k != c) for r, c in zip(p_adv, labels, strict=True)]
    boosted = cross_entropy(p_adv, y) + mean(-math.log(1.0001 - other) for other in others)
    weighted = mean(kl(p[i], p_adv[i]) * (1 - p[i][labels[i]]) for i in range(len(y)))
    total, parts = loss("mart", model, batch, **({} if beta == 5 else {"beta": beta}))
    # Its official code writes 1.0000001 for the 1 in the weight.
    assert total.item() == pytest.approx(boosted + beta * weighted, rel=1e-6)
    assert parts["loss_adversarial"].item() == pytest.approx(boosted)
    assert parts["loss_divergence"].item() == pytest.approx(weighted, rel=1e-6)
    assert parts["adversarial_accuracy"].item() == pytest.approx(accuracy(p_adv, y))


def test_mart_of_negative_logits(batch):
    """The runner-up is one of the other classes, whatever the offset of the logits."""
    model = network()
    expected, _ = loss("mart", model, batch)
    model.head.bias.data -= 100
    found, _ = loss("mart", model, batch)
    torch.testing.assert_close(found, expected)


def test_lbgat(batch):
    model, teacher, (x, x_adv, y) = network(), network(), batch
    p, p_adv = probabilities(model, x), probabilities(model, x_adv)
    z_adv, z_teacher = model(x_adv), teacher(x)
    pairs = zip(z_adv.flatten().tolist(), z_teacher.flatten().tolist(), strict=True)
    squares = [(a - b) ** 2 for a, b in pairs]
    guidance, natural = mean(squares), cross_entropy(z_teacher.softmax(1).tolist(), y)
    found = loss("lbgat", model, batch, teacher=teacher)
    parts = check(found, guidance + natural + 6 * mean(map(kl, p, p_adv)))
    assert parts["loss_guidance"] == pytest.approx(guidance)
    assert parts["loss_teacher"] == pytest.approx(natural)


def test_lbgat_trains_both_sides_of_the_guidance(batch):
    model, teacher, (x, x_adv, y) = network(), network(), batch
    total, _ = loss("lbgat", model, batch, teacher=teacher)
    found = torch.autograd.grad(total, teacher.head.weight)[0]
    own = F.cross_entropy(teacher(x), y)
    pulled = F.mse_loss(teacher(x), model(x_adv).detach())
    expected = torch.autograd.grad(own + pulled, teacher.head.weight)[0]
    torch.testing.assert_close(found, expected)

    total, _ = loss("lbgat", model, batch, teacher=teacher, beta=0.0)
    found = torch.autograd.grad(total, model.head.weight)[0]
    pulled = F.mse_loss(model(x_adv), teacher(x).detach())
    torch.testing.assert_close(found, torch.autograd.grad(pulled, model.head.weight)[0])


def ldat_half(model, x, y, margin, lambda_t, scale):
    """``L_cls + lambda L_lkd`` of one half of the loss, and its accuracy."""
    losses, squares, right = [], [], []
    for f, label in zip(model.features(x), y.tolist(), strict=True):
        d = [(f - mu).square().sum().item() / 2 for mu in model.head.means]
        right.append(float(d.index(min(d)) == label))
        squares.append(2 * d[label])
        logits = [-(1 + margin) * v if k == label else -v for k, v in enumerate(d)]
        losses.append(math.log(sum(math.exp(z) for z in logits)) - logits[label])
    regularizer = mean(squares) * {"sum": 1, "half": 0.5, "mean": 1 / 6}[scale]
    return mean(losses) + lambda_t * regularizer, mean(losses), regularizer, mean(right)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("scale", ["sum", "half", "mean"])
@pytest.mark.parametrize(("margin", "lambda_init"), [(0.1, 1.0), (0.5, 0.1), (0.0, 0.0)])
def test_ldat(batch, beta, scale, margin, lambda_init):
    model, (x, x_adv, y) = network("gmm"), batch
    lambda_t = 0.25 * lambda_init
    found = loss(
        "ldat",
        model,
        batch,
        progress=0.25,
        beta=beta,
        margin=margin,
        lambda_init=lambda_init,
        regularizer_scale=scale,
    )
    halves = {
        "natural": (1 - beta, *ldat_half(model, x, y, margin, lambda_t, scale)),
        "adversarial": (beta, *ldat_half(model, x_adv, y, margin, lambda_t, scale)),
    }
    parts = check(found, sum(weight * half for weight, half, *_ in halves.values()))
    expected = {}
    for name, (weight, _, classification, regularizer, right) in halves.items():
        if weight:
            expected |= {
                f"loss_{name}": classification,
                f"regularizer_{name}": regularizer,
                f"{name}_accuracy": right,
            }
    assert parts == pytest.approx(expected)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_ldat_with_a_linear_head(batch, beta):
    model, (x, x_adv, y) = network(), batch
    natural = cross_entropy(probabilities(model, x), y)
    adversarial = cross_entropy(probabilities(model, x_adv), y)
    found = loss("ldat", model, batch, head="linear", beta=beta)
    parts = check(found, (1 - beta) * natural + beta * adversarial)
    assert not any(name.startswith("regularizer") for name in parts)


@pytest.mark.parametrize("name", defence_names())
def test_gradients(name, batch):
    """No part of a loss is cut off from the network."""
    model, teacher = network(defence(name).head), network()
    weight = next(model.head.parameters())
    # The parameter itself, which gradcheck perturbs in place.
    assert torch.autograd.gradcheck(
        lambda _: loss(name, model, batch, teacher=teacher)[0], (weight,)
    )
    first = model.backbone.linear.weight
    assert torch.autograd.gradcheck(
        lambda _: loss(name, model, batch, teacher=teacher)[0], (first,)
    )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("grow", [0.2, 1.0, 2.0]),
        ("grow_from_half", [0.0, 0.0, 2.0]),
        ("constant", [2.0, 2.0, 2.0]),
        ("decay", [1.8, 1.0, 0.0]),
    ],
)
def test_lambda_schedule(schedule, expected, batch):
    progress = [0.1, 0.5, 1.0]
    assert [lambda_at(t, schedule, 2.0) for t in progress] == pytest.approx(expected)
    model, (x, x_adv, y) = network("gmm"), batch
    for t, lambda_t in zip(progress, expected, strict=True):
        halves = [ldat_half(model, images, y, 0.1, lambda_t, "sum")[0] for images in (x, x_adv)]
        found = loss("ldat", model, batch, t, lambda_init=2.0, lambda_schedule=schedule)
        check(found, mean(halves))


# What each defence trains against


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("standard", {"norm": "linf", "loss": "ce", "eps": 0.1, "step_size": 0.025}),
        ("l2_at", {"norm": "l2", "loss": "ce", "eps": 0.5, "step_size": 0.1}),
        ("l2_at_wide", {"norm": "l2", "loss": "ce", "eps": 1.5, "step_size": 0.3}),
        ("trades", {"norm": "linf", "loss": "kl", "eps": 0.1, "step_size": 0.025}),
        ("mart", {"norm": "linf", "loss": "ce", "eps": 0.1, "step_size": 0.025}),
        ("lbgat", {"norm": "linf", "loss": "kl", "eps": 0.1, "step_size": 0.025}),
    ],
)
def test_adversary_is_pgd(name, expected, batch):
    x, _, y = batch
    model = SmoothNet().double()

    def generator():
        return torch.Generator().manual_seed(0)

    adversary = defence(name).adversary
    found = adversary(model, x, y, generator())
    wanted = attacks.pgd(model, x, y, num_steps=10, generator=generator(), **expected)
    assert torch.equal(found, wanted)
    assert adversary.finalise(x, found) is found


@pytest.mark.parametrize("optimizer", ["unit", "adam"])
def test_adversary_of_ldat_is_algorithm_1(optimizer, batch):
    x, _, y = batch
    model = SmoothNet().double()
    adversary = defence("ldat", num_steps=4, gamma=0.1, optimizer=optimizer, radius=0.6).adversary
    free = adversary(model, x, y)
    expected = attacks.boundary_attack(model, x, y, num_steps=4, gamma=0.1, optimizer=optimizer)
    assert torch.equal(free, expected)
    bounded = adversary.finalise(x, free)
    assert torch.equal(bounded, attacks.finalise(x, free, 0.6))
    assert attacks.l2_norm(bounded - x).max() <= 0.6 + 1e-12 < attacks.l2_norm(free - x).max()


def test_natural_has_no_adversary(batch):
    x, _, y = batch
    adversary = defence("natural").adversary
    assert adversary == NoAdversary() and adversary.passes == 0
    assert adversary(None, x, y) is x and adversary.finalise(x, x) is x


def test_ldat_with_pgd_in_place_of_algorithm_1(batch):
    """Figure 6."""
    x, _, y = batch
    model = SmoothNet().double()
    adversary = defence("ldat", adversary=PGD("l2", 0.5, 0.1, loss="kl")).adversary
    found = adversary(model, x, y, torch.Generator().manual_seed(0))
    expected = attacks.pgd(
        model,
        x,
        y,
        eps=0.5,
        step_size=0.1,
        num_steps=10,
        norm="l2",
        loss="kl",
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(found, expected) and adversary.finalise(x, found) is found


def counted(model, passes):
    """Forward passes of a training step, and backward ones: through the images alone, or all."""
    model.register_forward_hook(lambda *_: passes.append(1))
    return model


@pytest.mark.parametrize("name", defence_names())
def test_cost_of_the_adversary_is_what_it_runs(name, batch):
    x, _, y = batch
    adversary, passes = defence(name, num_steps=3).adversary, []
    adversary(counted(SmoothNet().double(), passes), x, y)
    # A gradient of the images costs as much as a forward pass, and follows each step's.
    steps = 0 if name == "natural" else 3
    assert adversary.passes == len(passes) + steps


@pytest.mark.parametrize("name", defence_names())
def test_cost_of_the_loss_is_what_it_runs(name, batch):
    passes = []
    model = counted(network(defence(name).head).backbone, passes)
    student = Classifier(model, network(defence(name).head).head).double()
    teacher = Classifier(model, nn.Linear(6, CLASSES)).double()
    loss(name, student, batch, teacher=teacher)
    assert defence(name).passes == 3 * len(passes)


# Settings


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("natural", {"adversary": {"kind": "none"}}),
        (
            "standard",
            {
                "adversary": {
                    "kind": "pgd",
                    "norm": "linf",
                    "eps": 0.1,
                    "step_size": 0.025,
                    "num_steps": 10,
                    "loss": "ce",
                }
            },
        ),
        ("trades", {"beta": 6.0}),
        ("mart", {"beta": 5.0}),
        ("lbgat", {"beta": 6.0}),
        (
            "ldat",
            {
                "adversary": {
                    "kind": "boundary",
                    "num_steps": 10,
                    "gamma": 0.2,
                    "radius": 1.5,
                    "optimizer": "unit",
                },
                "head": "gmm",
                "beta": 0.5,
                "margin": 0.1,
                "lambda_init": 1.0,
                "lambda_schedule": "grow",
                "regularizer_scale": "sum",
                "centroid_init": "xavier",
                "centroid_weight_decay": True,
            },
        ),
    ],
)
def test_settings_are_those_of_the_paper_and_no_others(name, values):
    found = defence(name).as_dict()
    assert found.pop("name") == name
    if "adversary" not in values:
        found.pop("adversary")
    assert found == values
    assert json.loads(json.dumps(defence(name).as_dict())) == defence(name).as_dict()


def test_what_a_defence_wants_of_its_network():
    for name in defence_names():
        found = defence(name)
        assert found.head == ("gmm" if name.startswith("ldat") else "linear")
        assert found.needs_teacher == (name == "lbgat")
        assert found.centroid_init == "xavier"
        assert found.decays("head.means") and found.decays("backbone.stem.weight")
    own = defence("ldat", centroid_weight_decay=False, centroid_init="normal", head="linear")
    assert not own.decays("head.means") and own.decays("backbone.stem.weight")
    assert (own.head, own.centroid_init) == ("linear", "normal")


@pytest.mark.parametrize("schedule", LAMBDA_SCHEDULES)
def test_log_and_progress_follow_the_schedule(schedule):
    found = defence("ldat", lambda_schedule=schedule, lambda_init=2.0)
    assert found.progress_by_step == (schedule == "grow_by_step")
    assert found.log(0.25) == {"lambda": lambda_at(0.25, schedule, 2.0)}
    assert defence("ldat", head="linear").log(0.25) == {} == defence("trades").log(0.25)


def test_algorithm_1_tells_right_images_from_wrong_ones():
    """Lengths of right images and of wrong ones apart; a side without images has no weight."""
    model = nn.Flatten()  # the pixels are the logits
    x = torch.eye(2, dtype=torch.float64).view(2, 1, 1, 2)[[0, 1, 0]]
    adversary = Boundary(num_steps=1, radius=1.1)
    x_adv, mixed = adversary.logged(model, x, torch.tensor([0, 1, 1]))
    assert torch.equal(x_adv, adversary(model, x, torch.tensor([0, 1, 1])))
    # One step: 1.2 long where the image is right, 0.8 where it is wrong.
    assert {name: (float(mean), int(count)) for name, (mean, count) in mixed.items()} == {
        "attacked_right": (pytest.approx(2 / 3), 3),
        "attack_norm_right": (pytest.approx(1.2), 2),
        "projected_right": (1.0, 2),
        "attack_norm_wrong": (pytest.approx(0.8), 1),
        "projected_wrong": (0.0, 1),
    }
    _, only_right = adversary.logged(model, x, torch.tensor([0, 1, 0]))
    assert only_right["attack_norm_wrong"] == (0, 0) and only_right["projected_right"][1] == 3


def test_every_defence_has_a_title_and_can_be_made():
    assert tuple(TITLES) == defence_names()
    assert [defence(name).name for name in defence_names()] == list(defence_names())
    assert TITLES["standard"] == "PGD-AT" and TITLES["natural"] == "Undefended"
    assert f"lambda {CHOSEN['lambda_init']}" in TITLES["ldat_chosen"]
    assert defence("ldat_chosen").lambda_init == CHOSEN["lambda_init"]


def test_unknown_defence_lists_the_known():
    with pytest.raises(UserError, match="'trade'.*" + ", ".join(defence_names())):
        defence("trade")


def test_unknown_switch_lists_the_known():
    with pytest.raises(UserError, match="'lamda_init' of ldat; known: .*lambda_init.*optimizer"):
        defence("ldat", lamda_init=0.1)
    # Algorithm 1 has no L-inf ball, and no defence but LDAT a margin.
    for name, switch in (("ldat", "eps"), ("trades", "margin"), ("natural", "beta")):
        with pytest.raises(UserError, match=f"unknown switch '{switch}' of {name}"):
            defence(name, **{switch: 0.1})


def test_switches_name_fields_of_the_defence_or_of_its_adversary():
    found = defence("ldat", gamma=0.1, beta=0.3, num_steps=4)
    assert found.adversary == Boundary(4, 0.1, 1.5) and found.beta == 0.3
    other = defence("ldat", adversary=PGD("l2", 0.5, 0.1), eps=0.7)
    assert other.adversary == PGD("l2", 0.7, 0.1, 10)
    with pytest.raises(UserError, match="unknown switch 'gamma' of ldat; known: .*step_size"):
        defence("ldat", adversary=PGD("l2", 0.5, 0.1), gamma=0.1)
    assert {"gamma", "num_steps"} <= {field.name for field in fields(found.adversary)}


def test_an_adversary_is_an_adversary():
    with pytest.raises(UserError, match="ldat: adversary must be an Adversary.*'pgd'"):
        defence("ldat", adversary="pgd")
    with pytest.raises(UserError, match="own: adversary must be an Adversary, not None"):
        type(defence("ldat"))("own", None)


def test_lbgat_without_its_teacher(batch):
    with pytest.raises(UserError, match="lbgat needs a teacher"):
        loss("lbgat", network(), batch)


@pytest.mark.parametrize(
    ("name", "switch", "value", "named"),
    [
        ("ldat", "head", "cosine", "linear, gmm"),
        ("trades", "norm", "l1", "linf, l2"),
        ("trades", "loss", "dlr", "ce, kl"),
        ("ldat", "optimizer", "sgd", "unit, adam"),
        (
            "ldat",
            "lambda_schedule",
            "cosine",
            "grow, grow_by_step, grow_from_half, constant, decay",
        ),
        ("ldat", "regularizer_scale", "third", "sum, half, mean"),
        ("ldat", "centroid_init", "uniform", "xavier, normal"),
        ("ldat", "centroid_weight_decay", "no", "True, False"),
    ],
)
def test_unknown_choice_lists_the_known(name, switch, value, named):
    with pytest.raises(UserError, match=f"^{name}: {switch} '{value}' is not one of {named}"):
        defence(name, **{switch: value})


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("ldat", ["radius", "beta", "margin", "lambda_init"]),
        ("standard", ["eps", "step_size"]),
        ("trades", ["beta"]),
        ("mart", ["beta"]),
        ("lbgat", ["beta"]),
    ],
)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True])
def test_numbers_out_of_range(name, switches, value):
    for switch in switches:
        with pytest.raises(UserError, match=f"^{name}: {switch} .*{value}"):
            defence(name, **{switch: value})


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("beta", 1.5),
        ("num_steps", 0),
        ("num_steps", -1),
        ("num_steps", 2.5),
        ("gamma", 0.0),
        ("gamma", 1.0),
    ],
)
def test_numbers_out_of_their_own_range(switch, value):
    with pytest.raises(UserError, match=f"^ldat: {switch} .*{value}"):
        defence("ldat", **{switch: value})


def test_beta_above_one_belongs_to_the_other_defences():
    assert defence("trades", beta=10.0).beta == 10
