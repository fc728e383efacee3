"""AutoAttack: the package's own figures, image by image, also after an interruption."""

import pytest
import torch
from helpers import Plane, SmoothNet, images_around, mostly_right, snapshot
from test_robustness import COUNT, EPS, LOGITS, SIDE, closed_form

from ldatlib import UserError
from ldatlib.evaluation import autoattack
from ldatlib.evaluation.autoattack import STANDARD
from ldatlib.evaluation.robustness import from_bits, predict

pytestmark = pytest.mark.slow

WHITE = ("apgd-ce", "apgd-t", "fab-t")
BUDGET = {"linf": 0.12, "l2": 0.5}


@pytest.fixture
def images(net):
    return mostly_right(net, 24)


def direct(net, x, y, norm, targets, batch_size):
    """The package as its own documentation runs it."""
    from pyautoattack import AutoAttack

    package = AutoAttack(
        net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=BUDGET[norm], seed=0, version="standard"
    )
    package.apgd_targeted.n_target_classes = targets
    package.fab.n_target_classes = targets
    with torch.random.fork_rng():
        return package.run_standard_evaluation(x, y, batch_size=batch_size)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_same_as_the_package_run_directly(net, images, norm):
    x, y = images
    theirs, predicted = direct(net, x, y, norm, 4, 10)
    ours = autoattack.standard(net, x, y, eps=BUDGET[norm], norm=norm, batch_size=10)
    assert torch.equal(ours.right, predicted == y)
    assert torch.equal(ours.x_adv[~ours.right], theirs[~ours.right])
    assert list(ours.record["attacks"]) == list(STANDARD) and not ours.record["skipped"]
    # Some fall to each kind, and some stay: the comparison is not of nothing.
    clean = predict(net, x) == y
    assert 0 < ours.right.sum() < clean.sum() < len(y)
    assert ours.record["robust_accuracy"]["value"] == ours.right.double().mean().item()


def test_ten_classes_need_no_change_of_the_package(images):
    x = images[0]
    net = SmoothNet(pixels=25, classes=11, hidden=12).eval()
    y = predict(net, x)
    ours = autoattack.standard(net, x, y, eps=0.05, norm="linf", attacks=WHITE[:2])
    assert ours.record["settings"]["targets"] == 9


@pytest.mark.parametrize("stop", ["apgd-ce", "apgd-t"])
def test_an_interrupted_evaluation_goes_on(net, images, tmp_path, monkeypatch, stop):
    x, y = images
    settings = {"eps": 0.1, "norm": "linf", "attacks": WHITE, "batch_size": 10}
    whole = autoattack.standard(net, x, y, **settings)

    def interrupt(name):
        if name == stop:
            raise KeyboardInterrupt

    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        autoattack.standard(net, x, y, state=state, on_attack=interrupt, **settings)
    ran, work = [], autoattack._run
    monkeypatch.setattr(autoattack, "_run", lambda *a: (ran.append(a[3]), work(*a))[1])
    again = autoattack.standard(net, x, y, state=state, **settings)
    assert ran == list(WHITE[WHITE.index(stop) + 1 :])
    assert torch.equal(again.x_adv, whole.x_adv) and torch.equal(again.right, whole.right)
    for name in WHITE:
        assert again.record["attacks"][name]["right"] == whole.record["attacks"][name]["right"]
    ran.clear()
    assert torch.equal(autoattack.standard(net, x, y, state=state, **settings).right, whole.right)
    assert ran == []


def test_an_attack_that_was_cut_off_begins_anew(net, images, tmp_path, monkeypatch):
    x, y = images
    settings = {"eps": 0.1, "norm": "l2", "attacks": WHITE[:2]}
    whole = autoattack.standard(net, x, y, **settings)
    work, state = autoattack._run, tmp_path / "state.safetensors"

    def cut_off(model, x, y, name, tensors, *rest):
        work(model, x, y, name, tensors, *rest)
        if name == "apgd-t":
            tensors["right"][:] = False
            raise KeyboardInterrupt

    monkeypatch.setattr(autoattack, "_run", cut_off)
    with pytest.raises(KeyboardInterrupt):
        autoattack.standard(net, x, y, state=state, **settings)
    monkeypatch.setattr(autoattack, "_run", work)
    again = autoattack.standard(net, x, y, state=state, **settings)
    assert torch.equal(again.right, whole.right) and torch.equal(again.x_adv, whole.x_adv)


def test_processes_share_the_batches_and_find_the_same_images(net, images):
    x, y = images
    settings = {"eps": 0.1, "norm": "l2", "attacks": WHITE, "batch_size": 5}
    alone, shared = (autoattack.standard(net, x, y, processes=n, **settings) for n in (1, 2))
    assert torch.equal(shared.right, alone.right) and torch.equal(shared.x_adv, alone.x_adv)
    assert 0 < shared.right.sum() < len(y)
    with pytest.raises(UserError, match="processes must be a whole number of at least 1"):
        autoattack.standard(net, x, y, processes=0, **settings)


def test_the_state_of_another_evaluation_is_refused(net, images, tmp_path):
    x, y = images
    state = tmp_path / "state.safetensors"
    settings = {"norm": "linf", "attacks": WHITE[:1], "state": state}
    autoattack.standard(net, x, y, eps=0.1, **settings)
    for changed in ({"eps": 0.2}, {"eps": 0.1, "seed": 1}, {"eps": 0.1, "batch_size": 7}):
        with pytest.raises(UserError, match="another evaluation; delete it"):
            autoattack.standard(net, x, y, **settings, **changed)
    with pytest.raises(UserError, match="another evaluation"):
        autoattack.standard(net, x.flip(0), y, eps=0.1, **settings)
    net.first.weight.data[0, 0] += 1
    with pytest.raises(UserError, match="another evaluation"):
        autoattack.standard(net, x, y, eps=0.1, **settings)


@pytest.mark.parametrize(
    ("classes", "skipped", "targets"), [(2, ["apgd-t"], 1), (3, ["apgd-t"], 2), (4, [], 3)]
)
def test_few_classes(classes, skipped, targets):
    plane = Plane(torch.randn(9), classes=classes)
    x = torch.rand(8, 1, 3, 3)
    result = autoattack.standard(plane, x, plane.predict(x), eps=0.05, norm="linf", attacks=WHITE)
    assert list(result.record["skipped"]) == skipped
    assert all("needs 4 classes" in reason for reason in result.record["skipped"].values())
    assert list(result.record["attacks"]) == [name for name in WHITE if name not in skipped]
    assert result.record["settings"]["targets"] == targets
    # The distance to the plane under L-inf, away from the ends of the pixel range.
    reach = plane.distance(x, "linf") <= 0.05 * 0.98
    room = ((x > 0.05) & (x < 0.95)).flatten(1).all(1)
    assert not result.right[reach & room].any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", LOGITS)
def test_every_kind_of_logits(norm, kind):
    """Negative, shifted, distances: the boundary of all of them is known in closed form."""
    plane = Plane(torch.randn(SIDE * SIDE), classes=3)
    x = images_around(plane, COUNT, SIDE)
    y = plane.predict(x)
    model = LOGITS[kind](plane)
    result = autoattack.standard(model, x, y, eps=EPS[norm], norm=norm, attacks=WHITE)
    expected, unsure = closed_form(plane, x, y, norm, EPS[norm])
    assert torch.equal(result.right[~unsure], expected[~unsure])
    assert 10 <= expected.sum() <= COUNT - 10


def test_model_and_random_state_are_left_as_they_were(net, images):
    x, y = images
    net.train()
    before, state, pixels = snapshot(net), torch.get_rng_state(), x.clone()
    autoattack.standard(net, x, y, eps=0.1, norm="linf", attacks=WHITE[:2])
    assert snapshot(net) == before and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, pixels)


def test_no_image_left_is_no_error(net, images):
    x, y = images
    wrong = (predict(net, x) + 2) % 5
    result = autoattack.standard(net, x, wrong, eps=0.1, norm="l2")
    assert not result.right.any() and torch.equal(result.x_adv, x)
    assert from_bits(result.record["clean_right"]).sum() == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"norm": "l1"}, "unknown norm 'l1'; known: linf, l2"),
        ({"eps": 0.0}, "eps above 0, not 0"),
        ({"eps": float("nan")}, "eps above 0, not nan"),
        ({"attacks": ("apgd",)}, "unknown attack 'apgd' of AutoAttack; known: apgd-ce"),
        ({"attacks": ("square", "apgd-ce")}, "run in the order apgd-ce, apgd-t"),
    ],
)
def test_bad_input(net, images, change, named):
    with pytest.raises(UserError, match=named):
        autoattack.standard(net, *images, **{"eps": 0.1, "norm": "linf"} | change)


def test_images_are_checked(net, images):
    x, y = images
    with pytest.raises(UserError, match=r"\[0,1\]"):
        autoattack.standard(net, 255 * x, y, eps=0.1, norm="linf")
    with pytest.raises(UserError, match="no images"):
        autoattack.standard(net, x[:0], y[:0], eps=0.1, norm="linf")
