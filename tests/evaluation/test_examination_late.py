"""Models, scores and states that are odd where nobody looks at first: seen early, or survived."""

import json

import numpy as np
import pytest
import torch
from helpers import SmoothNet, mostly_right
from test_examination import as_read
from torch import nn

from ldatlib import UserError
from ldatlib.data.arrays import images_of
from ldatlib.errors import OutOfTime
from ldatlib.evaluation.autoattack import standard
from ldatlib.evaluation.examination.examine import examine
from ldatlib.evaluation.gate.entry import check
from ldatlib.evaluation.partial import identity, weights_of
from ldatlib.execution import full_precision
from ldatlib.report.examination.figures import gallery

EPS = {"linf": 0.05}

pytestmark = pytest.mark.usefixtures("least")


@pytest.fixture
def images(net):
    return mostly_right(net, 40)


@pytest.fixture
def no_attack(monkeypatch):
    """What is refused is refused before the first."""
    monkeypatch.setattr("ldatlib.evaluation.examination.parts.worst_case", None)


class Changed(SmoothNet):
    """The same weights, read otherwise."""

    def forward(self, x):
        return super().forward((4 * x).round() / 4)


def test_a_state_of_the_same_weights_in_another_model_is_refused(net, images, tmp_path):
    other = Changed(25, 5, 12).eval()
    other.load_state_dict(net.state_dict())
    first = examine(net, *images, eps=EPS, effort="least", state=tmp_path)
    with pytest.raises(UserError, match="same weights that gives other logits.*delete it"):
        examine(other, *images, eps=EPS, effort="least", state=tmp_path)
    assert as_read(examine(net, *images, eps=EPS, effort="least", state=tmp_path)) == as_read(first)


class Counting(SmoothNet):
    """A buffer changes whenever it is asked, as an observer's does."""

    def __init__(self):
        super().__init__(25, 5, 12)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def test_buffers_that_change_do_not_forbid_going_on(net, images, tmp_path):
    def run(**more):
        model = Counting().eval()
        model.load_state_dict(net.state_dict(), strict=False)
        return examine(model, *images, eps=EPS, effort="least", **more)

    whole = run()
    for _ in range(9):
        try:
            again = run(state=tmp_path, deadline=0.0)
            break
        except OutOfTime:
            pass
    assert as_read(again) == as_read(whole) and whole.record["weights"]


class Stateful(SmoothNet):
    """As quantised modules, it has a type, a pair and what no hash takes in its state."""

    def get_extra_state(self):
        return {"calls": 3}

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "packed"] = (self.first.weight.detach(), None)
        destination[prefix + "dtype"] = torch.qint8


def test_a_state_that_is_not_tensors_alone(net, images):
    odd, one, two = Stateful(25, 5, 12), SmoothNet(25, 5, 12), SmoothNet(25, 5, 12)
    assert weights_of(odd) and identity(odd, *images)
    assert weights_of(one) != weights_of(two)


def test_in_place_work_that_changes_nothing_here_is_seen(net, images):
    class Clamps(nn.Module):
        def forward(self, x):
            return net(x.clamp_(0, 1))

    said = {finding.name: finding.text for finding in check(Clamps().eval(), *images).flags}
    assert "gets a copy" in said["in_place"] and "gradient" not in said


class Greedy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_no_memory_is_not_no_gradient(net, images):
    with pytest.raises(UserError, match="not enough memory for the gradient of 32 images"):
        check(lambda x: net(Greedy.apply(x)), *images)


def test_a_model_that_fails_on_one_image_is_refused(net, images):
    with pytest.raises(UserError, match=r"returns \[5\] for 1 images"):
        check(lambda x: net(x).squeeze(), *images)


class Dark(nn.Module):
    """Takes roots: at a black pixel its gradient is infinite."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.sqrt())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_of_nan_fool_nobody(net, norm):
    x, _ = mostly_right(net, 24)
    x[:, :, 0] = 0
    model = Dark(net).eval()
    y = model(x).argmax(1)
    eps = {"linf": 0.01, "l2": 0.03}[norm]
    found = examine(model, x, y, eps={norm: eps}, effort="least")
    assert found.x_adv[norm].isfinite().all() and json.dumps(as_read(found), allow_nan=False)
    alone = standard(model, x, y, eps=eps, norm=norm, attacks=("apgd-ce",))
    assert alone.x_adv.isfinite().all()
    assert torch.equal(alone.right, model(alone.x_adv).argmax(1) == y)


def test_images_without_logits_are_named_before_the_first_attack(net, images, no_attack):
    x, y = images
    # The gate looks at 32 of the 40.
    looked = {tuple(row.tolist()) for row in _looked_at(net, images)}
    hidden = next(image for image in x if tuple(image.flatten().tolist()) not in looked)

    def broken(x):
        found = (x == hidden).flatten(1).all(1, keepdim=True)
        return net(x).masked_fill(found, float("nan"))

    with pytest.raises(UserError, match="logits of 2.5% of the images are NaN or infinite"):
        examine(broken, x, y, eps=EPS, effort="least")


def _looked_at(net, images):
    """The images that the gate asks for gradients of."""
    seen = []

    def asked(x):
        if x.requires_grad:
            seen.append(x.detach().flatten(1))
        return net(x)

    check(asked, *images)
    return torch.cat(seen)


def test_a_score_is_tried_on_every_image(net, images, no_attack):
    x, y = images
    last = x[-1]

    def broken(model, seen):
        found = (seen == last).flatten(1).all(1)
        return model(seen).amax(1).masked_fill(found, float("nan"))

    def single(model, seen):
        return model(seen).amax(1).squeeze()

    for score, said in ((broken, "NaN or infinite"), (single, "one number an image")):
        with pytest.raises(UserError, match=said):
            examine(net, x, y, eps=EPS, effort="least", score=score)


def test_a_score_that_an_attack_drives_out_of_its_range(net, images):
    clean = {tuple(image.flatten().tolist()) for image in images[0]}

    def odd(model, seen):
        values = model(seen).amax(1)
        new = [tuple(image.tolist()) not in clean for image in seen.detach().flatten(1)]
        broken = [float("inf"), float("nan"), float("-inf")]
        for row in torch.tensor(new).nonzero().squeeze(1).tolist():
            values = values.index_fill(0, torch.tensor([row]), broken[row % 3])
        return values

    found = examine(net, *images, eps=EPS, effort="least", score=odd)
    assert json.dumps(as_read(found), allow_nan=False)
    assert found.record["norms"]["linf"]["detector"]["images"] == 20


def test_a_sibling_in_train_mode_is_known_again_and_left_alone(images):
    torch.manual_seed(0)
    made = [nn.Sequential(nn.Flatten(), nn.BatchNorm1d(25), nn.Linear(25, 5)) for _ in range(2)]
    made[1].load_state_dict(made[0].state_dict())
    made[0].eval()
    before = {name: value.clone() for name, value in made[1].state_dict().items()}
    with pytest.raises(UserError, match="is the model itself"):
        examine(made[0], *images, eps=EPS, effort="least", siblings={"twin": made[1].train()})
    assert all(torch.equal(value, before[name]) for name, value in made[1].state_dict().items())
    assert made[1].training


def test_numbers_of_numpy_are_numbers(net, images, tmp_path):
    how = {"eps": {"linf": np.float32(0.05)}, "effort": "least", "state": tmp_path}
    found = examine(net, *images, seed=np.int64(0), batch_size=np.int64(128), **how)
    assert found.record["settings"]["eps"] == {"linf": pytest.approx(0.05)}
    with pytest.raises(UserError, match="is all of"):
        examine(net, *images, eps={"linf": 1.0}, effort="least")


def test_pixels_past_one_by_a_hair_are_no_other_scale():
    x = np.full((2, 4, 4), 1 + 1e-7, dtype=np.float32)
    x[0] = -1e-7
    found = images_of(x, "x_test")
    assert found.min() == 0 and found.max() == 1
    with pytest.raises(UserError, match="divide by 255"):
        images_of(x * 2, "x_test")


def test_tf32_by_the_newer_switches():
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision
    try:
        matmul.fp32_precision, conv.fp32_precision = "tf32", "ieee"
        with full_precision():
            assert (matmul.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")
        assert (matmul.fp32_precision, conv.fp32_precision) == ("tf32", "ieee")
    finally:
        matmul.fp32_precision, conv.fp32_precision = before


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_images_are_drawn(channels):
    class Few:
        class_names, num_classes, norms = ("zero",), 4, {"linf": None}

    x = torch.rand(3, channels, 1 if channels == 1 else 4, 6)
    moved = {"linf": (x + 0.1).clamp(0, 1)}
    figure = gallery(Few(), x, torch.tensor([0, 1, 3]), moved)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert [title.split()[0] for title in titles] == ["zero", "1", "3"]
