"""The search from larger balls: what it frees, what it counts, and what it leaves alone."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import Plane, images_around, mostly_right, smooth_net, snapshot
from test_robustness import COUNT, EPS, LOGITS, SIDE, closed_form
from torch import nn

from ldatlib import UserError
from ldatlib.attacks import project
from ldatlib.errors import OutOfTime
from ldatlib.evaluation import robustness
from ldatlib.evaluation.ascent import inside, random_perturbation
from ldatlib.evaluation.cost import forward_equivalents
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.partial import Partial
from ldatlib.evaluation.robustness import evaluate, from_bits, predict, run_attack
from ldatlib.evaluation.search import (
    RADII,
    best_of,
    bookkeeping,
    first_above,
    margin_search,
    search,
    strongest,
    towards,
)
from ldatlib.study import keys

both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def margin_of(position):
    """A valley between a low hill at -0.5, which climbs no higher, and a slope that begins at 0.6.

    ``position``: along one direction, in budgets; misclassified from 0.9 on.
    """
    left = -0.5 - (position + 0.5).abs()
    right = position - 0.9
    return torch.where(position > 0.6, right, left)


class Valley(nn.Module):
    """Two classes; ``margin_of`` the distance along the diagonal is the margin of class 1."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        along = (x.flatten(1) - 0.5).sum(1) / x[0].numel() ** 0.5
        margin = margin_of(along / self.eps)
        return torch.stack([torch.zeros_like(margin), margin], 1)


def test_a_search_stuck_in_the_ball_is_freed_from_larger_ones():
    """From the rim of the ball everything climbs the low hill; from three budgets some do not."""
    model, eps = Valley(0.1), 0.1
    x, y = torch.full((3, 1, 5, 5), 0.5), torch.zeros(3).long()
    ball = {"eps": eps, "norm": "l2", "num_steps": 40, "restarts": 10}
    stuck = margin_search(model, x, y, radii=(1.0,), **ball)
    assert (stuck.restart == -1).all()
    torch.testing.assert_close(stuck.progress[:, -1], torch.full((3,), -0.5), atol=0.02, rtol=0)
    freed = margin_search(model, x, y, **ball)
    assert (freed.restart >= 0).all() and (predict(model, freed.images) == 1).all()
    assert ((freed.images - x).flatten(1).norm(dim=1) <= eps + 1e-6).all()


@both_norms
@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_exactly_the_images_within_reach(norm, kind, scale):
    plane = Plane(torch.randn(SIDE * SIDE), classes=3)
    x = images_around(plane, COUNT, SIDE)
    y = plane.predict(x)
    y[::6] = 1 - y[::6]
    model = LOGITS[kind](plane)
    if scale != 1 and isinstance(model, Plane):
        # An offset of a thousand swallows logits of a ten-thousandth in float32.
        model.scale, model.offset = scale, min(1.0, scale) * model.offset
    attack = Attack("margin", norm, EPS[norm], 12, restarts=2)
    column = evaluate(model, x, y, [attack]).record["attacks"][attack.key]
    right = from_bits(column["right"])
    expected, unsure = closed_form(plane, x, y, norm, EPS[norm])
    assert torch.equal(right[~unsure], expected[~unsure])
    assert column["converged"] and column["restarts"][0] >= 10


@pytest.mark.slow
@both_norms
def test_pixels_at_their_ends(norm):
    """Half the directions lead out of the pixel range: the corner of the ball is still found."""
    plane = Plane(torch.ones(SIDE * SIDE) / SIDE, classes=2)
    x = torch.rand(20, 1, SIDE, SIDE).round()
    eps = {"linf": 0.3, "l2": 1.0}[norm]
    # Upwards only the dark pixels can move, each by eps or all by eps together.
    dark = (x.flatten(1) == 0).sum(1).float()
    gain = (eps * dark if norm == "linf" else eps * dark.sqrt()) / SIDE
    y = torch.zeros(20).long()
    for factor, found in ((0.97, 1), (1.03, 0)):
        plane.b = 0.0
        value = (x.flatten(1) @ plane.w).detach() + factor * gain
        for image, level in zip(x, value, strict=True):
            plane.b = -float(level)
            ball = {"eps": eps, "norm": norm, "num_steps": 30, "restarts": 1}
            restart = margin_search(plane, image[None], y[:1], **ball).restart
            assert (restart == 0).sum() == found


# Restarts


def test_restarts_and_convergence():
    restart = torch.tensor([0, 2, -1, 0, 1, -1])
    assert bookkeeping(restart, 3) == {"restarts": [2, 1, 1], "converged": False}
    assert bookkeeping(restart, 4) == {"restarts": [2, 1, 1, 0], "converged": True}
    assert bookkeeping(restart[:0], 2) == {"restarts": [0, 0], "converged": True}
    progress = torch.tensor([[-1.0, 0.5, 0.5], [0.1, 0.1, 0.1], [-2, -2, -1], [-1, -1, 3]])
    assert first_above(progress, 0.0).tolist() == [1, 0, -1, 2]
    assert first_above(progress, 0.2).tolist() == [1, -1, -1, 2]
    images = [torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)]
    best, merit = best_of(images, torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 1.0]]))
    assert best[:, 0, 0, 0].tolist() == [0, 1, 0] and merit.tolist() == [0, 3, 2]


def test_every_restart_meets_what_still_stands():
    """An objective a restart; each can lift the images of one kind alone above the goal."""
    x, kind = torch.full((9, 1, 2, 2), 0.5), torch.arange(9) % 3
    met = []

    def objective(number):
        def look(images, rows):
            met.append((number, set(rows.tolist())))
            value = images.flatten(1).sum(1) - 2
            return value, torch.where(kind[rows] == number, value, -1.0)

        return look

    ball = {"eps": 0.2, "norm": "linf", "num_steps": 6}
    found = search([objective(number) for number in (1, 2, 1)], x, generator=generator(), **ball)
    assert found.restart.tolist() == [{0: -1, 1: 0, 2: 1}[k] for k in kind.tolist()]
    seen = {number: set.union(*(rows for n, rows in met if n == number)) for number in (1, 2)}
    assert seen == {1: set(range(9)), 2: {0, 2, 3, 5, 6, 8}}
    # The third restart, of the first objective again, met the three that nothing lifts.
    assert met[-1] == (1, {0, 3, 6})
    assert found.progress.shape == (9, 3) and (found.progress.diff(dim=1) >= 0).all()
    assert bookkeeping(found.restart, 3) == {"restarts": [3, 3, 0], "converged": True}


def test_merit_counts_in_the_ball_itself_alone():
    """In the larger balls everything is above the goal, in the ball nothing."""
    x = torch.full((4, 1, 2, 2), 0.5)

    def objective(images, rows):
        value = (images - 0.5).flatten(1).norm(dim=1) - 0.15
        return value, value

    found = search([objective] * 3, x, eps=0.1, norm="l2", num_steps=9, generator=generator())
    assert (found.restart == -1).all() and (found.progress <= -0.05 + 1e-6).all()
    assert ((found.images - x).flatten(1).norm(dim=1) <= 0.1 + 1e-6).all()


def test_targets_take_turns_and_the_strongest_comes_last(monkeypatch):
    net = smooth_net()
    x, y = mostly_right(net, 12)
    asked = []
    real = towards
    monkeypatch.setattr(
        "ldatlib.evaluation.search.towards",
        lambda model, labels, target: asked.append(target) or real(model, labels, target),
    )
    ball = {"eps": 1e-6, "norm": "l2", "num_steps": 3}
    found = margin_search(net, x, y, restarts=11, **ball)
    with torch.no_grad():
        order = net(x).scatter(1, y[:, None], float("-inf")).argsort(1, descending=True)
    assert len(asked) == 5 and found.progress.shape == (12, 11)
    for rank, target in enumerate(asked):
        assert torch.equal(target, order[:, rank % 4])


def test_objectives_of_the_margin():
    net = smooth_net()
    x, y = mostly_right(net, 12)
    rows = torch.tensor([3, 7, 11])
    logits = net(x[rows])
    others = logits.scatter(1, y[rows, None], float("-inf"))
    margin = others.amax(1) - logits.gather(1, y[rows, None]).squeeze(1)
    for value in strongest(net, y)(x[rows], rows):
        torch.testing.assert_close(value, margin)
    target = (y + 2) % 5
    value, merit = towards(net, y, target)(x[rows], rows)
    pick = torch.arange(3)
    torch.testing.assert_close(value, logits[pick, target[rows]] - logits[pick, y[rows]])
    torch.testing.assert_close(merit, margin)


# What it depends on, and what it leaves alone


@both_norms
def test_an_image_does_not_depend_on_its_batch(norm):
    net = smooth_net().double()
    x, y = torch.rand(17, 1, 5, 5).double(), torch.arange(17) % 5
    ball = {"eps": EPS[norm], "norm": norm, "num_steps": 12, "restarts": 4}
    whole = margin_search(net, x, y, **ball)
    assert whole.images.dtype == torch.float64
    for rows in (torch.tensor([5]), torch.randperm(17), torch.tensor([16, 2, 9])):
        alone = margin_search(net, x[rows], y[rows], **ball)
        torch.testing.assert_close(alone.images, whole.images[rows], atol=1e-9, rtol=0)
        assert torch.equal(alone.restart, whole.restart[rows])


def test_seeds_decide_and_batches_do_not():
    net = smooth_net()
    x, y = mostly_right(net, 30)
    attack = Attack("margin", "l2", 0.3, 6, restarts=3)
    first, again, other = (run_attack(net, x, y, attack, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    batches = run_attack(net, x, y, attack, batch_size=7)
    torch.testing.assert_close(batches, first, atol=1e-4, rtol=0)


def test_model_and_random_state_are_left_as_they_were():
    net = smooth_net().train()
    x, y = mostly_right(net, 8)
    net.train()
    before, state, pixels = snapshot(net), torch.get_rng_state(), x.clone()
    evaluate(net, x, y, [Attack("margin", "linf", 0.1, 4, restarts=2)])
    assert snapshot(net) == before and torch.equal(x, pixels)
    assert torch.equal(torch.get_rng_state(), state)


@both_norms
def test_random_perturbations_have_length_one(norm):
    delta = random_perturbation(torch.zeros(20, 1, 4, 4), norm, generator()).flatten(1)
    size = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    torch.testing.assert_close(size, torch.ones(20))
    assert len({round(float(d[0]), 5) for d in delta}) > 10


@both_norms
def test_the_nearest_image_of_ball_and_pixels(norm):
    """Against a long walk of projections onto one after the other (Dykstra's algorithm)."""
    x = torch.rand(30, 1, 3, 3).double().mul(1.6).sub(0.3).clamp(0, 1)
    wanted, eps = x + 0.8 * torch.randn_like(x), {"linf": 0.2, "l2": 0.5}[norm]
    found = inside(x, wanted, eps, norm)
    nearest, ball, box = wanted.clone(), torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(4000):
        at = x + project(nearest + ball - x, eps, norm)
        ball = nearest + ball - at
        nearest = (at + box).clamp(0, 1)
        box = at + box - nearest
    torch.testing.assert_close(found, nearest, atol=1e-5, rtol=0)
    assert torch.equal(inside(x, x, eps, norm), x) and found.min() >= 0 and found.max() <= 1
    size = (found - x).flatten(1)
    assert (size.norm(dim=1) if norm == "l2" else size.abs().amax(1)).max() <= eps + 1e-9
    assert torch.equal(inside(x, wanted, 0.0, norm), x)


def test_no_images():
    net = smooth_net()
    x, y = mostly_right(net, 8)
    ball = {"eps": 0.1, "norm": "l2", "num_steps": 4, "restarts": 2}
    found = margin_search(net, x[:0], y[:0], **ball)
    assert found.images.shape == x[:0].shape and found.progress.shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"radii": (1.0, 2.0)}, "radii fall to 1"),
        ({"radii": (3.0, 2.0)}, "radii fall to 1"),
        ({"radii": ()}, "radii fall to 1"),
        ({"radii": (2.0, 2.0, 1.0)}, "radii fall to 1"),
        ({"norm": "l1"}, "unknown norm 'l1'"),
        ({"eps": -1.0}, "eps must be a number of at least 0"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"restarts": 0}, "restarts must be at least 1"),
    ],
)
def test_bad_input(change, named):
    net = smooth_net()
    x, y = mostly_right(net, 4)
    settings = {"eps": 0.1, "norm": "l2", "num_steps": 4, "restarts": 2, "radii": RADII} | change
    with pytest.raises(UserError, match=named):
        margin_search(net, x, y, **settings)


# As an attack by name


def test_its_settings_move_no_other_key():
    pgd = Attack("pgd", "l2", 0.5)
    assert keys.minimal(pgd) == {"method": "pgd", "norm": "l2", "eps": 0.5}
    assert keys.full(pgd) == pgd.as_dict()
    assert not {"restarts", "radii"} & set(pgd.as_dict())
    own = Attack("margin", "l2", 0.5, 50, restarts=7)
    assert own.as_dict()["restarts"] == 7 and own.as_dict()["radii"] == list(RADII)
    assert keys.minimal(own)["restarts"] == 7 and own.key == "l2_margin"
    assert forward_equivalents(own, 10) == 2 * (50 + 3) * 7
    for change in ({"restarts": 0}, {"radii": (1.0, 3.0)}):
        with pytest.raises(UserError):
            replace(own, **change)


def test_a_column_tells_its_restarts():
    net = smooth_net()
    x, y = mostly_right(net, 40)
    attacks = [Attack("pgd", "l2", 0.4, 5), Attack("margin", "l2", 0.4, 12, restarts=3)]
    record = evaluate(net, x, y, attacks).record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    pgd, own = (record["attacks"][attack.key] for attack in attacks)
    assert "restarts" not in pgd and len(own["restarts"]) == 3
    fallen = from_bits(record["clean_right"]) & ~from_bits(own["right"])
    assert sum(own["restarts"]) == int(fallen.sum()) > 0
    assert own["converged"] is (own["restarts"][-1] == 0)
    assert own["settings"]["restarts"] == 3 and record["ok"]


def test_an_interrupted_evaluation_keeps_the_restarts(tmp_path, monkeypatch):
    net = smooth_net()
    x, y = mostly_right(net, 40)
    attacks = [Attack("margin", norm, eps, 6, restarts=3) for norm, eps in EPS.items()]
    whole = evaluate(net, x, y, attacks).record["attacks"]
    with pytest.raises(OutOfTime):
        evaluate(net, x, y, attacks, partial=Partial(tmp_path, "stem", deadline=0))
    ran = []
    real = robustness.run_restarts
    monkeypatch.setattr(
        robustness, "run_restarts", lambda *a, **k: ran.append(a[3].key) or real(*a, **k)
    )
    again = evaluate(net, x, y, attacks, partial=Partial(tmp_path, "stem")).record["attacks"]
    assert attacks[1].key in ran and attacks[0].key not in ran
    for column in (*whole.values(), *again.values()):
        del column["seconds"]
    assert again == whole
