"""Algorithm 1 and PGD, on planes whose distance is known and against plain re-computations."""

import pytest
import torch
import torch.nn.functional as F
from helpers import Plane, SmoothNet, snapshot
from torch import nn

from ldatlib.attacks import boundary_attack, finalise, l2_norm, pgd, project, unit_direction
from ldatlib.errors import UserError

SHAPE = (1, 3, 3)
GAMMA = 0.2


@pytest.fixture
def plane():
    return Plane(torch.randn(9, dtype=torch.float64))


@pytest.fixture
def x():
    """Images far from the ends of the pixel range."""
    return 0.5 + 0.2 * (torch.rand(12, *SHAPE, dtype=torch.float64) - 0.5)


@pytest.fixture
def net():
    return SmoothNet().double()


def attacks_of_training(**common):
    """One call of each attack, for the properties that they share."""
    budget = {"eps": 0.1, "step_size": 0.03, "num_steps": 3}
    return {
        "boundary": lambda m, x, y, **kw: boundary_attack(m, x, y, num_steps=3, **common | kw),
        "boundary_adam": lambda m, x, y, **kw: boundary_attack(
            m, x, y, num_steps=3, optimizer="adam", radius=1.0, **common | kw
        ),
        "pgd_linf": lambda m, x, y, **kw: pgd(m, x, y, **budget, **common | kw),
        "pgd_l2": lambda m, x, y, **kw: pgd(m, x, y, **budget, norm="l2", **common | kw),
        "pgd_kl": lambda m, x, y, **kw: pgd(m, x, y, **budget, loss="kl", **common | kw),
    }


every_attack = pytest.mark.parametrize("name", attacks_of_training())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Algorithm 1


def test_iterates_walk_along_a_plane(plane, x):
    """On a plane the direction is +-w/||w|| at once, so only eps moves: by 1 +- gamma.

    An iterate between 1 - gamma and 1 + gamma times the distance never leaves that band.
    """
    y = plane.predict(x)
    distance = plane.distance(x)
    along = plane.outward(x).unsqueeze(1) * plane.w.detach() / plane.w.norm().detach()
    eps, reached = torch.ones_like(distance), torch.zeros_like(distance)
    arrived = torch.zeros(len(x), dtype=torch.bool)
    for k in range(1, 31):
        eps = torch.where(reached > distance, eps * (1 - GAMMA), eps * (1 + GAMMA))
        delta = (boundary_attack(plane, x, y, num_steps=k) - x).flatten(1)
        torch.testing.assert_close(delta, eps.unsqueeze(1) * along)
        reached = eps
        within = (delta.norm(dim=1) / distance - 1).abs() <= GAMMA + 1e-9
        assert within[arrived].all()
        arrived = within
    assert arrived.all()


def reference_algorithm_1(model, x, y, num_steps, gamma, optimizer):
    """Algorithm 1 for one image, as the paper writes it; Adam is torch's own."""
    delta, eps = torch.zeros_like(x), 1.0
    eta = nn.Parameter(torch.zeros_like(x))
    adam = torch.optim.Adam([eta], lr=0.2, maximize=True)
    for _ in range(num_steps):
        probe = delta.clone().requires_grad_()
        logits = model((x + probe).unsqueeze(0))
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y.view(1)), probe)
        eps *= 1 - gamma if logits.argmax() != y else 1 + gamma
        gradient = gradient / gradient.norm()
        if optimizer == "adam":
            eta.data, eta.grad = delta, gradient
            adam.step()
            direction = eta.data.clone()
        else:
            direction = delta + gradient
        delta = eps * direction / direction.norm()
    return x + delta


@pytest.mark.parametrize("optimizer", ["unit", "adam"])
@pytest.mark.parametrize(("num_steps", "gamma"), [(1, 0.2), (2, 0.2), (7, 0.2), (20, 0.05)])
def test_boundary_attack_is_algorithm_1(net, x, optimizer, num_steps, gamma):
    y = net(x).argmax(1)
    y[::3] = (y[::3] + 1) % 4
    found = boundary_attack(net, x, y, num_steps=num_steps, gamma=gamma, optimizer=optimizer)
    expected = [
        reference_algorithm_1(net, a, b, num_steps, gamma, optimizer)
        for a, b in zip(x, y, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected))


def test_pixels_are_not_clipped_on_the_way(plane, x):
    x_adv = boundary_attack(plane, x, 1 - plane.predict(x), num_steps=1)
    torch.testing.assert_close(l2_norm(x_adv - x), torch.full((12,), 0.8, dtype=x.dtype))
    plane.b = 100.0
    x_adv = boundary_attack(plane, x, plane.predict(x), num_steps=10)
    torch.testing.assert_close(l2_norm(x_adv - x), torch.full((12,), 1.2**10, dtype=x.dtype))
    assert x_adv.min() < 0 and x_adv.max() > 1


@pytest.mark.parametrize("radius", [0.1, 0.9])
def test_radius_and_pixel_range(plane, x, radius):
    y = plane.predict(x)
    free = boundary_attack(plane, x, y, num_steps=4)
    x_adv = boundary_attack(plane, x, y, num_steps=4, radius=radius)
    assert l2_norm(x_adv - x).max() <= radius + 1e-12
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    shrink = (radius / l2_norm(free - x)).clamp(max=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(x_adv, (x + shrink * (free - x)).clamp(0, 1))
    torch.testing.assert_close(x_adv, finalise(x, free, radius))


def test_radius_leaves_what_is_inside(plane, x):
    y = 1 - plane.predict(x)
    free = boundary_attack(plane, x, y, num_steps=1)
    x_adv = boundary_attack(plane, x, y, num_steps=1, radius=5.0)
    torch.testing.assert_close(x_adv, free.clamp(0, 1))


@pytest.mark.parametrize("scale", [0.0, 1e4])
@pytest.mark.parametrize("optimizer", ["unit", "adam"])
def test_vanishing_gradient_gives_a_random_direction(plane, x, scale, optimizer):
    """Scale 0 is a constant model, 1e4 a softmax that has saturated."""
    plane.scale = scale
    plane.b = 5.0
    y = plane.predict(x) if scale else torch.zeros(12, dtype=torch.long)

    def attack(seed):
        return boundary_attack(plane, x, y, num_steps=1, optimizer=optimizer, generator=seed) - x

    first, again, other = attack(generator(0)), attack(generator(0)), attack(generator(1))
    assert first.isfinite().all()
    torch.testing.assert_close(l2_norm(first), torch.full((12,), 1.2, dtype=x.dtype))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert not torch.allclose(first[0], first[1])


@pytest.mark.parametrize("scale", [1e-30, 1e-38])
def test_tiny_float32_gradients_keep_their_direction(scale):
    plane = Plane(torch.randn(9), scale=scale)
    x = torch.full((4, *SHAPE), 0.5)
    y = plane.predict(x)
    along = (plane.outward(x).unsqueeze(1) * plane.w / plane.w.norm()).view_as(x)
    delta = boundary_attack(plane, x, y, num_steps=1) - x
    torch.testing.assert_close(delta, 1.2 * along.detach())
    budget = {"eps": 0.05, "step_size": 0.05, "num_steps": 1, "random_start": False}
    torch.testing.assert_close(pgd(plane, x, y, norm="l2", **budget) - x, 0.05 * along.detach())
    torch.testing.assert_close(pgd(plane, x, y, **budget) - x, 0.05 * along.detach().sign())


def test_cancelling_step_is_finite():
    """A step back of the very length of delta leaves 0/0, and the gradient stands in."""

    class Turning(nn.Module):
        def forward(self, x):
            # The loss rises with x up to 0.6 and falls with it from there on.
            value = -(x.flatten(1) - 0.6).abs().sum(1)
            return torch.stack([0 * value, value], 1)

    x = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.long)

    def perturbation(num_steps):
        # A gamma below rounding keeps eps at exactly 1.
        return (boundary_attack(Turning(), x, y, num_steps=num_steps, gamma=1e-20) - x).item()

    assert perturbation(1) == pytest.approx(1)
    assert perturbation(2) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_steps": 0}, "num_steps.*0"),
        ({"gamma": 0.0}, "gamma.*0.0"),
        ({"gamma": 1.0}, "gamma.*1.0"),
        ({"gamma": float("nan")}, "gamma.*nan"),
        ({"radius": 0.0}, "radius.*0.0"),
        ({"radius": -1.0}, "radius.*-1.0"),
        ({"radius": float("inf")}, "radius.*inf"),
        ({"radius": float("nan")}, "radius.*nan"),
        ({"optimizer": "sgd"}, "'sgd'.*unit, adam"),
    ],
)
def test_boundary_attack_errors(plane, x, arguments, named):
    with pytest.raises(UserError, match=named):
        boundary_attack(plane, x, plane.predict(x), **arguments)


# PGD


def test_linf_optimum_on_a_plane(plane, x):
    y = plane.predict(x)
    x_adv = pgd(plane, x, y, eps=0.08, step_size=0.02, num_steps=10)
    sign = plane.w.detach().sign().view(SHAPE)
    expected = x + 0.08 * plane.outward(x).view(-1, 1, 1, 1) * sign
    torch.testing.assert_close(x_adv, expected)


@pytest.mark.parametrize("random_start", [True, False])
def test_l2_optimum_on_a_plane(plane, x, random_start):
    y = plane.predict(x)
    steps = 200 if random_start else 1
    x_adv = pgd(
        plane, x, y, eps=0.2, step_size=0.2, num_steps=steps, norm="l2", random_start=random_start
    )
    along = (plane.w / plane.w.norm()).detach().view(SHAPE)
    expected = x + 0.2 * plane.outward(x).view(-1, 1, 1, 1) * along
    torch.testing.assert_close(x_adv, expected)


def reference_pgd(model, x, y, eps, step_size, num_steps, norm, loss, start):
    """Eq. 2 for one image from a given start."""
    target = model(x.unsqueeze(0)).softmax(1).detach()
    x_adv = start
    for _ in range(num_steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = model(x_adv.unsqueeze(0))
        if loss == "ce":
            objective = F.cross_entropy(logits, y.view(1))
        else:
            objective = (target * (target.log() - logits.softmax(1).log())).sum()
        (gradient,) = torch.autograd.grad(objective, x_adv)
        step = gradient.sign() if norm == "linf" else gradient / gradient.norm()
        delta = x_adv.detach() + step_size * step - x
        if norm == "linf":
            delta = torch.minimum(torch.maximum(delta, -eps), eps)
        elif delta.norm() > eps:
            delta = eps * delta / delta.norm()
        x_adv = (x + delta).clamp(0, 1)
    return x_adv


@pytest.mark.parametrize("norm", ["linf", "l2"])
# Without a random start the divergence has no gradient.
@pytest.mark.parametrize(("loss", "random_start"), [("ce", True), ("ce", False), ("kl", True)])
def test_pgd_is_projected_ascent(net, norm, loss, random_start):
    x = torch.rand(8, *SHAPE, dtype=torch.float64)
    y = torch.arange(8) % 4
    budget = {"eps": 0.3, "step_size": 0.1}
    options = {"norm": norm, "loss": loss, "random_start": random_start}
    start = pgd(net, x, y, **budget, **options, num_steps=0, generator=generator())
    found = pgd(net, x, y, **budget, **options, num_steps=5, generator=generator())
    eps = torch.tensor(0.3, dtype=torch.float64)
    expected = [
        reference_pgd(net, a, b, eps, 0.1, 5, norm, loss, s)
        for a, b, s in zip(x, y, start, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "kl"])
def test_budget_and_pixel_range(net, norm, loss):
    x = torch.rand(8, *SHAPE, dtype=torch.float64)
    x_adv = pgd(
        net, x, torch.zeros(8).long(), eps=0.4, step_size=0.2, num_steps=6, norm=norm, loss=loss
    )
    delta = (x_adv - x).flatten(1)
    size = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    assert size.max() <= 0.4 + 1e-12 and size.max() > 0.3
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_kl_ascends(net, x, norm):
    def divergence(num_steps):
        x_adv = pgd(
            net, x, None, eps=0.3, step_size=0.05, num_steps=num_steps, norm=norm, loss="kl"
        )
        p = net(x).softmax(1)
        return (p * (p.log() - net(x_adv).log_softmax(1))).sum(1).detach()

    before, after = divergence(0), divergence(10)
    assert (after > 0.003).all() and (after > 10 * before).all()


@pytest.mark.parametrize(
    ("norm", "loss"), [("linf", "ce"), ("l2", "ce"), ("linf", "kl"), ("l2", "kl")]
)
def test_no_budget_gives_x(net, x, norm, loss):
    arguments = {"eps": 0, "step_size": 0.1, "num_steps": 3, "norm": norm, "loss": loss}
    assert torch.equal(pgd(net, x, torch.zeros(12).long(), **arguments), x)


def start(norm, loss="ce", **arguments):
    """The random start alone, from the middle of the range, as a perturbation [4000, 4]."""
    x = torch.full((4000, 1, 2, 2), 0.5, dtype=torch.float64)
    budget = {"eps": 0.3, "step_size": 0.1, "num_steps": 0}
    model = SmoothNet(4).double()
    return (pgd(model, x, None, norm=norm, loss=loss, **budget, **arguments) - x).flatten(1)


def test_l2_random_start_is_uniform_in_the_ball():
    delta = start("l2")
    radius = delta.norm(dim=1) / 0.3
    assert radius.max() <= 1 + 1e-12
    # Uniform: the share of volume inside each point's radius is uniform on [0, 1].
    volume = (radius**4).sort().values
    assert (volume - torch.linspace(0, 1, 4000)).abs().max() < 0.03
    assert delta.mean(0).abs().max() < 0.02


def test_linf_random_start_is_uniform_in_the_box():
    sorted_pixels = (start("linf").flatten() / 0.3).sort().values
    assert (sorted_pixels - torch.linspace(-1, 1, 16000)).abs().max() < 0.04


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_kl_starts_beside_x(norm):
    assert start(norm, "kl").std() == pytest.approx(0.001, rel=0.05)


def test_no_random_start():
    assert start("linf", random_start=False).abs().max() == 0


@pytest.mark.parametrize("name", ["eps", "step_size", "num_steps"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_pgd_refuses_bad_numbers(plane, x, name, value):
    arguments = {"eps": 0.1, "step_size": 0.1, "num_steps": 1} | {name: value}
    with pytest.raises(UserError, match=f"{name} .*{value}"):
        pgd(plane, x, plane.predict(x), **arguments)


@pytest.mark.parametrize(
    ("choice", "named"),
    [({"norm": "l1"}, "'l1'.*linf, l2"), ({"loss": "dlr"}, "'dlr'.*ce, kl")],
)
def test_pgd_refuses_unknown_names(plane, x, choice, named):
    with pytest.raises(UserError, match=named):
        pgd(plane, x, plane.predict(x), eps=0.1, step_size=0.1, num_steps=1, **choice)


# What the attacks share


@every_attack
@pytest.mark.parametrize("offset", [-1000.0, 1000.0])
def test_shifted_logits_change_nothing(net, x, name, offset):
    """Distance logits are all negative, and an offset common to the classes means nothing."""

    class Shifted(nn.Module):
        def forward(self, images):
            return net(images) + offset

    y = torch.arange(12) % 4
    attack = attacks_of_training()[name]
    expected = attack(net, x, y, generator=generator())
    assert (expected - x).abs().max() > 0.01
    found = attack(Shifted(), x, y, generator=generator())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@every_attack
def test_images_do_not_depend_on_their_batch(net, x, name, monkeypatch):
    """Apart from the random draws, which are taken out here: they come in the batch's order."""
    monkeypatch.setattr(torch, "randn", lambda shape, **options: torch.zeros(shape).to(x) + 1)
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.zeros(shape).to(x) + 0.4)
    y = torch.arange(12) % 4
    attack = attacks_of_training()[name]
    together = attack(net, x, y)
    torch.testing.assert_close(attack(net, x.flip(0), y.flip(0)).flip(0), together)
    parts = [attack(net, a, b) for a, b in zip(x.split(5), y.split(5), strict=True)]
    torch.testing.assert_close(torch.cat(parts), together)


@every_attack
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_shape_are_kept(name, dtype):
    x = torch.rand(3, *SHAPE, dtype=dtype, requires_grad=True)
    found = attacks_of_training()[name](SmoothNet().to(dtype), x, torch.zeros(3).long())
    assert found.dtype == dtype and found.shape == x.shape
    assert not found.requires_grad and x.grad is None


@every_attack
def test_x_is_not_written_to(net, x, name):
    before = x.clone()
    attacks_of_training()[name](net, x, torch.zeros(12).long())
    assert torch.equal(x, before)


@every_attack
def test_gradients_are_on_inside(net, x, name):
    with torch.no_grad():
        found = attacks_of_training()[name](net, x, torch.zeros(12).long())
        assert not torch.is_grad_enabled()
    assert not torch.equal(found, x)


class Mixed(nn.Module):
    """Some modules train, some do not; some parameters are frozen. Records what it runs in."""

    def __init__(self, fails=False):
        super().__init__()
        self.norm, self.net = nn.BatchNorm1d(9), SmoothNet()
        self.norm.weight.requires_grad_(False)
        self.net.second.bias.requires_grad_(False)
        self.train()
        self.net.second.eval()
        self.fails, self.seen = fails, []

    def forward(self, x):
        if self.fails and self.seen:
            raise RuntimeError("out of memory")
        self.seen.append(
            any(m.training for m in self.modules())
            or any(p.requires_grad for p in self.parameters())
        )
        return self.net(self.norm(x.flatten(1)))


@every_attack
@pytest.mark.parametrize("fails", [False, True])
def test_model_is_left_as_it_was(name, fails):
    model = Mixed(fails)
    before = snapshot(model)
    x, y = torch.rand(6, *SHAPE), torch.zeros(6).long()
    attack = attacks_of_training()[name]
    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            attack(model, x, y)
    else:
        attack(model, x, y)
    assert model.seen and not any(model.seen)
    assert snapshot(model) == before
    assert any(before["modes"]) and not all(before["modes"])
    assert any(before["flags"]) and not all(before["flags"])


@pytest.mark.parametrize("name", ["pgd_linf", "pgd_l2", "pgd_kl"])
def test_random_starts_come_from_the_generator(net, x, name):
    attack = attacks_of_training()[name]
    state = torch.get_rng_state()
    y = torch.zeros(12).long()
    first, again, other = (attack(net, x, y, generator=generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_project():
    delta = torch.tensor([[3.0, 4.0], [0.3, -0.4], [0.0, 0.0], [-6.0, 0.0]])
    expected = torch.tensor([[0.6, 0.8], [0.3, -0.4], [0.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(project(delta, 1.0, "l2"), expected)
    expected = torch.tensor([[1.0, 1.0], [0.3, -0.4], [0.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(project(delta, 1.0, "linf"), expected)


def test_unit_direction():
    gradient = torch.tensor([[3e-30, 4e-30], [3e30, -4e30], [0, 0], [torch.inf, 1], [torch.nan, 1]])
    fallback = torch.tensor([[0.0, 1.0]]).expand(5, 2)
    expected = torch.tensor([[0.6, 0.8], [0.6, -0.8], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    torch.testing.assert_close(unit_direction(gradient, fallback), expected)
