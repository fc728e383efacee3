"""The gate: what callers hand over works, or one line says what is wrong, before any attack."""

import random
import warnings
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import Plane, SmoothNet, mostly_right, smooth_net, snapshot
from torch import nn

from ldatlib import UserError
from ldatlib.evaluation import (
    adaptive,
    autoattack,
    detection,
    feature_space,
    robustness,
    worst_case,
)
from ldatlib.evaluation.gate.entry import check, heard, passed, said
from ldatlib.evaluation.gate.findings import EvaluationWarning
from ldatlib.evaluation.gate.wrappers import Averaged
from ldatlib.evaluation.masking.bench import Effort
from ldatlib.evaluation.masking.examine import examine
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import from_bits, predict, run_attack
from ldatlib.models import NetworkConfig, build_network

COUNT, CLASSES = 24, 5
PGD = Attack("pgd", "linf", 0.1, 2)
BALL = {"eps": 0.1, "norm": "linf"}
EFFORT = Effort(steps=1, restarts=1, queries=2)
EVALUATORS = {
    "evaluate": lambda model, x, y, **o: robustness.evaluate(model, x, y, [PGD], **o),
    "worst_case": lambda model, x, y, **o: worst_case.worst_case(model, x, y, [PGD], **o),
    "autoattack": lambda model, x, y, **o: autoattack.standard(
        model, x, y, attacks=("apgd-ce",), **BALL, **o
    ),
    "masking": lambda model, x, y: examine(
        model, x, y, torch.ones(np.shape(x)[:1]).bool(), effort=EFFORT, **BALL
    ),
    "adaptive": lambda model, x, y: adaptive.adaptive_attack(
        model, x, y, score="posterior", thresholds=[0.5], num_steps=1, **BALL
    ),
    "run_attack": lambda model, x, y: robustness.run_attack(model, x, y, PGD),
}
LABELLED = dict(EVALUATORS)
EVALUATORS["detection"] = lambda model, x, y: detection.score_images(model, x)


def every(evaluators):
    """All of them pass the one gate; the two that then compute longest are left to all checks."""
    slow = {"worst_case", "masking"}
    cases = [
        pytest.param(evaluator, id=name, marks=[pytest.mark.slow] * (name in slow))
        for name, evaluator in evaluators.items()
    ]
    return pytest.mark.parametrize("evaluator", cases)


every_evaluator, every_labelled = every(EVALUATORS), every(LABELLED)


@pytest.fixture
def images(net):
    return mostly_right(net, COUNT)


class Wrong(nn.Module):
    """A network whose output, or input, something is done to."""

    def __init__(self, net, after=lambda z: z, before=lambda x: x):
        super().__init__()
        self.net, self.after, self.before, self.seen = net, after, before, 0
        self.eval()

    def forward(self, x):
        self.seen += len(x)
        return self.after(self.net(self.before(x)))


def names(checked):
    return [flag.name for flag in checked.flags]


def flagged(model, x, y, **options):
    """The findings by name."""
    return {flag.name: flag for flag in check(model, x, y, **options).flags}


# What is refused: by every evaluator, in one line, before the first attack

REFUSED_IMAGES = {
    "bytes": (lambda x: (255 * x).byte(), r"images are uint8.*pass x.float\(\) / 255"),
    "whole": (lambda x: (255 * x).long(), r"images are int64.*pass x.float\(\) / 255"),
    "up_to_255": (lambda x: 255 * x, r"\[0,1\], yours in .*; divide by 255"),
    "up_to_65535": (lambda x: 65535 * x, "divide by the largest value"),
    "overshoot": (lambda x: 1.01 * x / x.max(), r"pass x.clamp\(0, 1\)"),
    "normalised": (lambda x: (x - 0.5) / 0.25, "leave the normalisation to the model: lambda"),
    "nan": (lambda x: x.masked_fill(x == x[3, 0, 0, 0], torch.nan), "1 of 24 images .* NaN"),
    "infinite": (lambda x: x.masked_fill(x == x[3, 0, 0, 0], torch.inf), "1 of 24 images .* inf"),
    "flat": (lambda x: x.flatten(1), r"not \[24, 25\]; pass x.view\(N, C, H, W\)"),
    "no_channel": (lambda x: x[:, 0], r"x.unsqueeze\(1\) for one channel"),
    "labels": (lambda x: torch.arange(24), "are x and y swapped"),
    "video": (lambda x: x.unsqueeze(1), "leave out the further dimensions"),
    "no_pixels": (lambda x: x[..., :0], "have no pixels"),
    "nhwc": (lambda x: torch.rand(24, 5, 5, 3), r"pass x.permute\(0, 3, 1, 2\)"),
    "list": (lambda x: [1, 2], "images are a list; pass a tensor or a numpy array"),
    "none": (lambda x: None, "images are a NoneType"),
    "meta": (lambda x: x.to("meta"), "on the device meta"),
    "sparse": (lambda x: x.to_sparse(), "dense"),
    "larger": (lambda x: torch.rand(24, 1, 6, 6), r"fails on images \[24, 1, 6, 6\]"),
    "words": (lambda x: np.full((24, 1, 5, 5), "a"), "array of <U1; pass numbers"),
}
REFUSED_LABELS = {
    "one_to_c": (lambda y: y + 1, r"run from 0 to 4.*; yours from 1 to 5: subtract 1"),
    "from_minus_one": (lambda y: y - 1, r"yours from -1 to 3: add 1"),
    "too_large": (lambda y: y + 7, r"labels run from 0 to 4.*yours from 7 to 11: map them"),
    "negative": (lambda y: y - 2, r"yours from -2 to 2"),
    "float": (lambda y: y.float(), r"labels are float32; pass y.long\(\)"),
    "one_hot": (lambda y: F.one_hot(y, 5), r"one-hot; pass y.argmax\(1\)"),
    "column": (lambda y: y.unsqueeze(1), r"\[24, 1\], not \[24\]; pass y.squeeze\(1\)"),
    "scalar": (lambda y: y[0], r"classes \[N\], not of shape \[\]"),
    "fewer": (lambda y: y[:-3], "24 images and 21 labels"),
    "none": (lambda y: None, "labels are a NoneType"),
    "strings": (lambda y: ["cat"] * 24, "array of <U3; pass numbers"),
}
Pair = namedtuple("Pair", "features logits")


@dataclass
class Output:
    features: torch.Tensor
    logits: torch.Tensor


REFUSED_OUTPUTS = {
    "tuple": (lambda z: (z, z), r"returns a tuple of 2.*; pass lambda x: model\(x\)\[0\]"),
    "list": (lambda z: [z[0], z], r"a list of 2, .*; pass lambda x: model\(x\)\[1\]"),
    "dict": (lambda z: {"loss": z.sum(), "out": z}, r"a dict.*lambda x: model\(x\)\['out'\]"),
    "named_tuple": (lambda z: Pair(z.mean(), z), r"a Pair of 2.*model\(x\)\[1\]"),
    "dataclass": (lambda z: Output(z.mean(), z), r"an? Output.*lambda x: model\(x\)\.logits"),
    "none": (lambda z: None, "returns a NoneType"),
    "array": (lambda z: z.detach().numpy(), "returns a ndarray, not a tensor"),
    "argmax": (lambda z: z.argmax(1), r"returns classes \(int64 \[24\]\), not logits"),
    "one_logit": (lambda z: z[:, :1], r"one logit.*pass lambda x: .*pad\(model\(x\), \(1, 0\)\)"),
    "flat_logit": (lambda z: z[:, 0], r"one logit.*pad\(model\(x\)\.unsqueeze\(1\), \(1, 0\)\)"),
    "maps": (lambda z: z[:, :, None, None], r"pass lambda x: model\(x\).flatten\(1\)"),
    "segmentation": (lambda z: z[:, :, None, None].expand(-1, -1, 2, 2), "one row an image"),
    "mean": (lambda z: z.mean(0, keepdim=True), r"returns \[1, 5\] for 24 images"),
    "complex": (lambda z: z + 1j, "returns complex64"),
    "nan": (lambda z: z.masked_fill(z == z[0, 0], torch.nan), "of 24 images are NaN or infinite"),
    "minus_inf": (lambda z: torch.cat([z, z[:, :1] - torch.inf], 1), "a class masked by -inf"),
    "random": (lambda z: z + torch.randn_like(z), "randomised: two passes differ on 24 of 24"),
    "numpy_random": (lambda z: z + np.random.rand(), "randomised"),
    "python_random": (lambda z: z * random.random(), "randomised"),
}


def refused(evaluator, model, x, y, message):
    with pytest.raises(UserError, match=message) as caught:
        evaluator(model, x, y)
    assert "\n" not in str(caught.value)


@every_evaluator
@pytest.mark.parametrize("case", REFUSED_IMAGES)
def test_images_that_are_refused(net, images, evaluator, case):
    change, message = REFUSED_IMAGES[case]
    refused(evaluator, net, change(images[0]), images[1], message)


@every_evaluator
def test_no_images(net, images, evaluator):
    refused(evaluator, net, images[0][:0], images[1][:0], "no images")


@every_labelled
@pytest.mark.parametrize("case", REFUSED_LABELS)
def test_labels_that_are_refused(net, images, evaluator, case):
    change, message = REFUSED_LABELS[case]
    y = torch.arange(COUNT) % CLASSES
    refused(evaluator, net, images[0], change(y), message)


@every_evaluator
@pytest.mark.parametrize("case", REFUSED_OUTPUTS)
def test_outputs_that_are_refused(net, images, evaluator, case):
    change, message = REFUSED_OUTPUTS[case]
    model = Wrong(net, change)
    refused(evaluator, model, *images, message)
    assert model.seen <= 3 * COUNT


@every_evaluator
def test_models_that_are_refused(net, images, evaluator):
    refused(evaluator, SmoothNet, *images, "the class SmoothNet; pass an instance")
    refused(evaluator, net.state_dict(), *images, "is a OrderedDict; pass a module or a function")
    refused(evaluator, smooth_net().to("meta"), *images, "device meta.*; load them")
    with torch.inference_mode():
        made_inside = smooth_net()
    refused(evaluator, made_inside, *images, "inference_mode.*; make or load it outside")


# What works, with the same figures as plain input


def figures(result):
    """What an evaluator has found, as one tensor."""
    if isinstance(result, torch.Tensor):
        return result
    if isinstance(result, list):
        return torch.cat([found.images for found in result])
    if isinstance(result, tuple):
        return torch.cat(result)
    if isinstance(result, dict):
        return torch.stack([from_bits(bits) for bits in result["right"].values()])
    found = result.x_adv
    return found["linf_pgd"] if isinstance(found, dict) else found


def no_grad(run):
    with torch.no_grad():
        return run()


def inference_mode(run):
    with torch.inference_mode():
        return run()


def autocast(run):
    with torch.autocast("cpu"):
        return run()


@every_evaluator
@pytest.mark.parametrize("within", [no_grad, inference_mode, autocast], ids=lambda f: f.__name__)
def test_whatever_is_switched_off_outside(net, images, evaluator, within):
    x, y = images
    plain = figures(evaluator(net, x, y))
    assert torch.equal(figures(within(lambda: evaluator(net, x, y))), plain)
    inside = within(lambda: figures(evaluator(net, x.clone(), y.clone())))
    assert torch.equal(inside, plain)


LAYOUTS = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "permuted": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "strided": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "requires_grad": lambda x: x.clone().requires_grad_(),
    "parameter": lambda x: nn.Parameter(x.clone()),
    "numpy": lambda x: x.numpy().copy(),
    "numpy_backwards": lambda x: x.flip(0).numpy()[::-1],
    "double": lambda x: x.double(),
}


@every_evaluator
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_images(net, images, evaluator, layout):
    x, y = images
    given = LAYOUTS[layout](x)
    before = np.array(given.detach().numpy() if isinstance(given, torch.Tensor) else given)
    assert torch.equal(figures(evaluator(net, given, y)), figures(evaluator(net, x, y)))
    after = given.detach().numpy() if isinstance(given, torch.Tensor) else given
    assert np.array_equal(after, before)
    assert getattr(given, "grad", None) is None
    assert not flagged(net, given, y)


def test_expanded_images_and_subclasses(net, images):
    x, y = images
    expanded = x[:1].expand(COUNT, -1, -1, -1)
    assert check(net, expanded, y[:1].expand(COUNT)).x.is_contiguous()

    class Image(torch.Tensor):
        pass

    assert type(check(net, x.as_subclass(Image), y).x) is torch.Tensor


def test_what_is_right_is_handed_on_as_it_is(net, images):
    checked = check(net, *images)
    assert checked.model is net and checked.x is images[0] and checked.y is images[1]
    assert checked.flags == () and checked.num_classes == CLASSES and checked.record() == []


LABELS = {
    "int32": lambda y: y.int(),
    "int16": lambda y: y.short(),
    "uint8": lambda y: y.byte(),
    "numpy": lambda y: y.numpy(),
    "numpy_uint16": lambda y: y.numpy().astype(np.uint16),
    "list": lambda y: y.tolist(),
    "strided": lambda y: y.repeat_interleave(2)[::2],
}


@every_labelled
@pytest.mark.parametrize("kind", LABELS)
def test_types_of_labels(net, images, evaluator, kind):
    x, y = images
    assert torch.equal(figures(evaluator(net, x, LABELS[kind](y))), figures(evaluator(net, x, y)))


def test_pixels_that_pass_the_range_by_a_hair(net, images):
    x, y = images
    x = x.clone()
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 1 + 2e-7, -1e-7
    checked = check(net, x, y)
    assert names(checked) == ["pixels"] and "clipped, as that is rounding" in checked.flags[0].text
    assert checked.x.min() >= 0 and checked.x.max() == 1 and x.max() > 1
    assert "clipped" in robustness.evaluate(net, x, y, []).record["gate"][0]["text"]


def test_precision_of_images(net, images):
    x, y = images
    fine = x.double() * (1 - 1e-12)
    assert "rounded to float32" in flagged(net, fine, y)["dtype"].text
    for dtype in (torch.float16, torch.bfloat16):
        checked = check(net, x.to(dtype), y)
        assert checked.x.dtype == torch.float32 and not checked.flags
    assert flagged(net, x / 255, y)["dark"].severity == "warning"


@every_evaluator
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_precision_of_models(net, images, evaluator, dtype):
    """Images and logits are float32 on both sides of it: the packages know nothing else."""
    x, y = images
    model = smooth_net().to(dtype)
    found = figures(evaluator(model, x, y))
    if dtype == torch.float64:
        # A gradient of about 0 may have another sign.
        assert (found.float() - figures(evaluator(net, x, y)).float()).abs().mean() < 0.01
    checked = check(model, x.double(), y)
    assert checked.model(checked.x).dtype == torch.float32
    assert "model computes in" in checked.flags[0].text
    assert next(model.parameters()).dtype == dtype


def test_logits_of_other_precision(net, images):
    x, y = images
    exact = Wrong(net, lambda z: z.double() + 1e9)
    logits = check(exact, x, y).model(x)
    expected = net(x) - net(x).amax(1, keepdim=True)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert robustness.evaluate(exact, x, y, [Attack("fab", **{**BALL, "steps": 3})]).record["ok"]


def test_mode_is_said_and_left(net, images):
    net.train()
    before = snapshot(net)
    record = robustness.evaluate(net, *images, [PGD]).record
    assert [entry["name"] for entry in record["gate"]] == ["train_mode"] and record["ok"]
    assert snapshot(net) == before


@every_evaluator
def test_a_model_that_works_on_its_input_in_place(net, images, evaluator):
    x, y = images
    careless = Wrong(net, before=lambda x: x.sub_(0.5).mul_(2))
    careful = Wrong(net, before=lambda x: 2 * (x - 0.5))
    pixels = x.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvaluationWarning)
        found, expected = (figures(evaluator(model, x, y)) for model in (careless, careful))
    assert torch.equal(found, expected) and torch.equal(x, pixels)
    assert "gets a copy" in flagged(careless, x, y)["in_place"].text


class HasNoTruth(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)

    def __len__(self):
        raise TypeError("how many is undefined")


KINDS = {
    "sequential": lambda net: nn.Sequential(nn.Identity(), net),
    "parallel": nn.DataParallel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "scripted": lambda net: torch.jit.trace(net, torch.rand(2, 1, 5, 5)),
    "frozen": lambda net: torch.jit.freeze(torch.jit.script(net.eval())),
    "no_truth": HasNoTruth,
    "function": lambda net: lambda x: net(x),
    "method": lambda net: net.forward,
}


@every_evaluator
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_models_that_pass_silently(net, images, evaluator, kind):
    x, y = images
    model = KINDS[kind](net)
    model = model if kind in ("function", "method", "frozen") else model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error", EvaluationWarning)
        found = figures(evaluator(model, x, y))
    assert torch.equal(found, figures(evaluator(net, x, y)))
    # Frozen weights are constants of its code.
    assert set(flagged(model, x, y)) == ({"function"} if kind == "frozen" else set())


def test_a_program_of_torch_export_has_no_modes(net, images):
    x, y = images
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: batch},)).module()
    flags = [p.requires_grad for p in program.parameters()]
    found = robustness.evaluate(program, x, y, [PGD])
    assert torch.equal(found.x_adv["linf_pgd"], figures(EVALUATORS["evaluate"](net, x, y)))
    assert [p.requires_grad for p in program.parameters()] == flags and any(flags)
    fixed = torch.export.export(net, (x,)).module()
    with pytest.raises(UserError, match=r"fails on images \[2, 1, 5, 5\]"):
        check(fixed, x, y)


def test_a_function_shows_the_modules_that_it_speaks_of(net, images):
    """They are put into eval mode and kept from gradients, and left as they were."""
    x, y = images
    net.add_module("dropout", nn.Dropout(0.5))
    model = nn.Sequential(net, nn.Dropout(0.5))
    before = snapshot(model)
    checked = check(lambda x: model(x)[:, :], x, y)
    assert names(checked) == ["train_mode"]
    robustness.evaluate(lambda x: model(x), x, y, [Attack("cw", "l2", 0.1, 1)])
    assert snapshot(model) == before


def test_networks_of_this_project_pass_silently():
    """All-negative logits of distances, and a collapsed network: a warning, no refusal."""
    network, x = classifier(), torch.rand(24, 1, 8, 8)
    y = predict(network, x)
    y[::5] = (y[::5] + 1) % 3
    assert set(flagged(network, x, y)) <= {"constant"}
    w = torch.randn(64)
    plane = Plane(w, float(-0.5 * w.sum()), classes=3, offset=-1e3)
    assert names(check(plane.eval(), x, plane.predict(x))) == []
    collapsed = Plane(torch.zeros(64), b=-1.0, classes=3).eval()
    found = flagged(collapsed, x, torch.arange(24) % 3)
    assert set(found) == {"constant", "gradient", "chance"}
    assert {flag.severity for flag in found.values()} == {"warning"}


# What is warned of, and goes on


@pytest.mark.parametrize("scale", [100, 1e4])
def test_a_softmax_over_large_logits_is_named_and_broken(net, images, scale):
    """Its gradients are 0; unguarded, the attacks leave most or all of the clean accuracy."""
    x, y = images
    y = predict(net, x)
    sharp = Wrong(net, lambda z: (scale * z).softmax(1))
    plain = Wrong(net, lambda z: scale * z)
    attacks = [Attack(m, "linf", 0.15, 20) for m in ("pgd", "apgd", "fab", "deepfool")]
    with pytest.warns(EvaluationWarning, match="probabilities"):
        found = robustness.evaluate(sharp, x, y, attacks)
    expected = robustness.evaluate(plain, x, y, attacks)
    if scale > 100:
        with passed():
            unguarded = robustness.evaluate(sharp, x, y, attacks[:3]).record
        assert unguarded["worst_case"]["linf"]["value"] > 0.9 and unguarded["ok"]
    assert [entry["name"] for entry in found.record["gate"]] == ["probabilities"]
    for attack in attacks[1:]:
        assert torch.equal(found.right[attack.key], expected.right[attack.key])
    assert found.record["worst_case"] == expected.record["worst_case"]
    assert found.record["worst_case"]["linf"]["value"] < 0.6
    for evaluator in (worst_case.worst_case, robustness.evaluate):
        with pytest.warns(EvaluationWarning, match="return the logits"):
            evaluator(sharp, x, y, attacks[1:2])


def test_probabilities_of_other_origin(net, images):
    x, y = images
    model = Wrong(net, lambda z: z.exp() / z.exp().sum(1, keepdim=True))
    checked = check(model, x, y)
    assert names(checked) == ["probabilities"]
    torch.testing.assert_close(checked.model(x), net(x).log_softmax(1))
    traced = torch.jit.trace(nn.Sequential(net, nn.Softmax(1)), x)
    torch.testing.assert_close(check(traced, x, y).model(x), net(x).log_softmax(1))


def test_autoattack_keeps_its_own_warnings(net, images):
    x, y = images
    quantised = Wrong(net, before=lambda x: (8 * x).round() / 8)
    with pytest.warns(EvaluationWarning, match="gradient is 0 on all"):
        record = autoattack.standard(quantised, x, y, attacks=("apgd-t",), **BALL).record
    (warning,) = record["attacks"]["apgd-t"]["warnings"]
    assert warning.startswith("there are points with zero gradient!")
    assert [entry["name"] for entry in record["gate"]] == ["gradient"]
    with pytest.warns(EvaluationWarning, match="over 2 passes"):
        record = autoattack.standard(dropping(0.5), x, y, attacks=("apgd-t",), eot=2, **BALL).record
    assert any("randomized defense" in text for text in record["attacks"]["apgd-t"]["warnings"])


def in_numpy(x):
    return torch.from_numpy(x.numpy().copy())


def in_inference_mode(x):
    with torch.inference_mode():
        return x * 1


WITHOUT_GRADIENT = {
    "detached": {"before": torch.Tensor.detach},
    "numpy": {"before": in_numpy},
    "no_grad": {"after": torch.Tensor.detach},
    "inference": {"before": in_inference_mode},
    "votes": {"after": lambda z: (10 * z).round().long()},
    "rounded": {"before": lambda x: (16 * x).round() / 16},
    "decisions": {"after": lambda z: F.one_hot(z.argmax(1), CLASSES).float()},
}


@every_labelled
@pytest.mark.parametrize("kind", WITHOUT_GRADIENT)
def test_models_without_a_gradient(net, images, evaluator, kind):
    model = Wrong(net, **WITHOUT_GRADIENT[kind])
    with pytest.warns(EvaluationWarning, match="attacks that follow gradients see nothing"):
        evaluator(model, *images)
    logits = check(model, *images).model(images[0])
    with torch.no_grad():
        assert torch.equal(logits.argmax(1), model(images[0]).argmax(1))


def test_an_image_that_depends_on_its_neighbours(images):
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    net = nn.Sequential(norm, nn.Flatten(), nn.Linear(25, 5))
    found = flagged(net.eval(), *images)
    assert "change with the images beside them" in found["batch"].text
    first = Wrong(smooth_net(), before=lambda x: x - x[:1] + 0.5)
    assert "batch" in flagged(first, *images)
    # One that has no answer for an image alone, which a last batch may be.
    norm = nn.BatchNorm1d(25, track_running_stats=False)
    with pytest.raises(UserError, match=r"fails on images \[1, 1, 5, 5\].*more than 1 value"):
        flagged(nn.Sequential(nn.Flatten(), norm, nn.Linear(25, 5)).eval(), *images)
    assert "batch" not in flagged(smooth_net(), *images)


def test_who_listens_is_told_once_and_by_name(net, images):
    x, _ = images
    constant, y = Wrong(net, lambda z: 0 * z + torch.arange(CLASSES)), torch.arange(COUNT) % CLASSES
    with warnings.catch_warnings():
        warnings.simplefilter("error", EvaluationWarning)
        with heard(("cat", "dog", "2", "bird", 'a {x} of"$y$')) as listener:
            for _ in range(2):
                record = robustness.evaluate(constant, x, y, [PGD]).record
    assert record["gate"] == listener.record()
    (found,) = [entry for entry in listener.record() if entry["name"] == "constant"]
    assert found["severity"] == "warning"
    assert 'predicts class 4 (a {x} of"$y$) for all 24 images' in found["text"]
    with pytest.warns(EvaluationWarning, match="predicts class 4 for all"):
        robustness.evaluate(constant, x, y, [])
    names = ("0", "1", "2", "3", "4")
    assert "class 4 for all" in flagged(constant, x, y, class_names=names)["constant"].text


def test_a_warning_points_at_the_line_that_called(net, images):
    model = Wrong(net, lambda z: z.softmax(1))
    with pytest.warns(EvaluationWarning) as caught:
        robustness.evaluate(model, *images, [])
    assert {warning.filename for warning in caught} == {__file__}


def classifier(**changes):
    config = NetworkConfig(num_classes=3, depth=4, stages=1, width=8, in_channels=1, head="gmm")
    return build_network(NetworkConfig(**config.as_dict() | changes)).eval()


def test_features_are_those_of_eval_mode():
    network, x = classifier(), torch.rand(24, 1, 8, 8)
    for _ in range(3):
        network.train()(torch.rand(16, 1, 8, 8))
    y, attack = predict(network.eval(), x), Attack("pgd", "linf", 0.1, 3)
    attacked = run_attack(network, x, y, attack)
    with torch.no_grad():
        expected, moved = (network.features(v).double().numpy() for v in (x, attacked))
    with torch.inference_mode():
        cloud = feature_space.cloud(network.train(), x, y, attack)
    np.testing.assert_allclose(cloud.natural, expected, atol=1e-6)
    np.testing.assert_allclose(cloud.adversarial, moved, atol=1e-6)
    assert network.training and cloud.y.tolist() == y.tolist()
    for images, labels, message in (
        (255 * x, y, "divide by 255"),
        (x - torch.nan, y, "24 of 24 images have pixels that are NaN"),
        (x, y[:5], "24 images and 5 labels"),
    ):
        with pytest.raises(UserError, match=message):
            feature_space.cloud(network, images, labels, attack)


def test_features_and_likelihoods_need_the_network_itself():
    x = torch.rand(24, 1, 8, 8)
    single, double = classifier(), classifier().double()
    with pytest.raises(UserError, match="pass a Classifier, in float32"):
        feature_space.features(double, x)
    with pytest.raises(UserError, match=r"Gaussian-mixture head \(of a Classifier in float32\)"):
        detection.score_images(double, x, "log_likelihood")
    with pytest.raises(UserError, match="pass a Classifier"):
        feature_space.features(lambda x: single(x), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error", EvaluationWarning)
        score, _ = detection.score_images(single.train(), x, "log_likelihood")
    with torch.no_grad():
        expected = single.head.log_likelihood(single.eval().features(x))
    torch.testing.assert_close(score, expected)


def test_siblings_pass_the_gate_too(net, images):
    """A float64 sibling and one in train mode attack as the plain one does; a tuple is refused."""
    x, y = images
    right = torch.ones(COUNT).bool()

    def left(sibling):
        found = examine(net, x, y, right, siblings={"other": sibling}, effort=EFFORT, **BALL)
        (test,) = [test for test in found["tests"] if test["test"] == "transfer"]
        return test["numbers"]["sources"]

    plain = left(smooth_net())
    assert left(smooth_net().double()) == left(smooth_net().train()) == plain
    with pytest.raises(UserError, match="the sibling other: the model returns a tuple"):
        left(Wrong(net, lambda z: (z, z)))


# Labels and normalisation


def test_labels_from_one_never_end_in_a_number(net):
    """Whether the last class occurs or not."""
    x, y = mostly_right(net, 200)
    known = predict(net, x) == y
    x, y = x[known], y[known]
    assert y.max() < CLASSES - 1 or (y + 1).max() == CLASSES
    for evaluator in LABELLED.values():
        refused(evaluator, net, x, y + 1, "subtract 1|pass y - 1")


def spread_net():
    """Three classes by the brightness of a channel, with normalised input."""

    class Brightest(nn.Module):
        def forward(self, x):
            return 5 * x.mean((2, 3))

    return Brightest().eval()


def test_shifted_labels_are_named():
    model, x = spread_net(), torch.rand(60, 3, 6, 6) ** 0.5
    y = predict(model, x)
    assert not flagged(model, x, y)
    five = Wrong(model, lambda z: torch.cat([z, z[:, :2] - 9], 1))
    with pytest.raises(UserError, match=r"and 60 with y - 1; labels run from 0 to 4: pass y - 1"):
        check(five, x, y + 1)
    last = Wrong(model, lambda z: torch.cat([z[:, :1] - 9, z], 1))
    with pytest.raises(UserError, match=r"pass y \+ 1"):
        check(last, x, y)
    # Also of a network that is right half of the time.
    weak = torch.where(torch.arange(60) % 2 == 0, y, torch.randint(3, (60,)))
    with pytest.raises(UserError, match=r"pass y - 1"):
        check(five, x, weak + 1)
    # Labels that the model was trained on are no reason to end a run.
    with heard():
        assert flagged(five, x, y + 1)["shifted"].severity == "warning"
    # Two classes that are swapped are not shifted.
    three = Wrong(model, lambda z: z[:, :2])
    assert "chance" in flagged(three, x, 1 - predict(three, x))
    # Where the first class occurs, too, it is a guess.
    mixed = torch.where(torch.arange(60) % 6 == 0, 0, y + 1)
    assert "are labels shifted?" in flagged(five, x, mixed)["shifted"].text


MISSING = {
    "ImageNet": lambda x: (
        (x - torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1))
        / torch.tensor([0.229, 0.224, 0.225]).view(-1, 1, 1)
    ),
    r"255 \* x": lambda x: 255 * x,
    r"2 \* x - 1": lambda x: 2 * x - 1,
    "BGR": lambda x: x.flip(1),
}


class Particular(nn.Module):
    """Right only if its input has been prepared as it wants it: features far from linear."""

    def __init__(self, classes=5):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randn(3 * 16, 64, generator=generator))
        self.v = nn.Parameter(torch.randn(64, classes, generator=generator))

    def forward(self, x):
        return torch.sin(x.flatten(1) @ self.w + 0.3) @ self.v


@pytest.mark.parametrize("how", MISSING)
def test_a_step_outside_the_model_is_named(how):
    x = torch.rand(64, 3, 4, 4)
    model = Particular().eval()
    y = predict(model, MISSING[how](x))
    found = flagged(model, x, y)
    assert "make that a part of the model" in found["input"].text
    with pytest.warns(EvaluationWarning, match=how):
        robustness.evaluate(model, x, y, [])
    assert "input" not in flagged(Wrong(model, before=MISSING[how]), x, y)


def test_chance_is_named(net):
    x = torch.rand(200, 1, 5, 5)
    y = torch.randint(CLASSES, (200,))
    found = flagged(net, x, y)
    assert list(found) == ["chance"] and "about chance with 5 classes" in found["chance"].text
    # A few images say nothing.
    assert not flagged(net, x[:4], (predict(net, x[:4]) + 2) % CLASSES)


# Randomised models


def dropping(p=0.1):
    """A network with dropout that is on though the network is in eval mode."""
    torch.manual_seed(3)
    layers = nn.Flatten(), nn.Linear(25, 256), nn.Tanh(), nn.Dropout(p), nn.Linear(256, 5)
    net = nn.Sequential(*layers).eval()
    net[4].weight.data *= 10
    net[3].train()
    return net


@every_evaluator
def test_dropout_that_is_on_is_refused(images, evaluator):
    has_eot = evaluator in [EVALUATORS[n] for n in ("evaluate", "worst_case", "autoattack")]
    remedy = "pass eot=20" if has_eot else r"Averaged\(model, 20\)"
    refused(evaluator, dropping(), *images, rf"randomised.* \(Dropout in train mode\).*{remedy}")
    # In train mode as a whole it is off in the evaluation.
    assert "randomised" not in flagged(dropping().train(), *images)
    assert "randomised" not in flagged(dropping(0.0), *images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluate", "worst_case", "autoattack"])
def test_dropout_is_evaluated_in_expectation(name):
    model, x = dropping(), torch.rand(80, 1, 5, 5)
    y = Averaged(model, 300)(x).argmax(1)
    before, state = snapshot(model), torch.get_rng_state()
    others = np.random.get_state()[1].copy(), random.getstate()
    with pytest.warns(EvaluationWarning, match="attacked is the mean of its prob.* over 64 passes"):
        result = EVALUATORS[name](model, x, y, eot=64)
    assert snapshot(model) == before and torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], others[0]) and random.getstate() == others[1]
    assert [entry["name"] for entry in result.record["gate"]] == ["randomised"]
    right = result.right["linf_pgd"] if name == "evaluate" else result.right
    assert result.record["clean_accuracy"]["value"] > 0.9 and right.double().mean() < 0.75
    # As much falls as of the same network without its noise.
    quiet = EVALUATORS[name](dropping(0.0), x, y)
    silent = quiet.right["linf_pgd"] if name == "evaluate" else quiet.right
    assert abs(float(right.double().mean() - silent.double().mean())) < 0.1
    assert result.record.get("ok", True)


def test_too_few_passes_do_not_pass_the_self_checks():
    model, x = dropping(0.5), torch.rand(80, 1, 5, 5)
    y = Averaged(model, 300)(x).argmax(1)
    with pytest.warns(EvaluationWarning, match="over 2 passes"):
        assert not robustness.evaluate(model, x, y, [PGD], eot=2).record["ok"]


def test_the_mean_of_probabilities():
    """Passes of logits (0, 0) and (0, 2 log 3) in turn: the mean of 1/2 and 9/10."""

    class InTurn(nn.Module):
        turn = 0

        def forward(self, x):
            self.turn = 1 - self.turn
            other = x.flatten(1).sum(1) * 0 + self.turn * 2 * np.log(3)
            return torch.stack([other * 0, other], 1)

    p = Averaged(InTurn(), 2)(torch.rand(4, 1, 2, 2)).exp()
    torch.testing.assert_close(p, torch.tensor([[0.3, 0.7]]).expand(4, 2))


def test_averages_draw_anew_and_from_a_stream_of_their_own(images):
    x = images[0]
    mean, again = Averaged(dropping(), 4), Averaged(dropping(), 4)
    first = mean(x)
    assert not torch.equal(first, mean(x))
    torch.manual_seed(7)
    assert torch.equal(again(x), first)
    assert not torch.equal(Averaged(dropping(), 4, seed=1)(x), first)
    mean.eval()
    assert mean.model[3].training and not mean.model[0].training
    assert names(check(mean, x, images[1]))[0] == "randomised"


def test_one_of_several_networks_drawn_for_the_whole_batch(images):
    """A generator of its own: two passes are the same in one case of three."""
    networks = [SmoothNet(pixels=25, classes=5, hidden=12) for _ in range(3)]
    for seed in range(20):
        generator = np.random.default_rng(seed)
        model = lambda x, g=generator: networks[g.integers(3)](x)  # noqa: E731
        with pytest.raises(UserError, match="randomised"):
            check(model, *images)


def test_a_function_without_modules(images):
    w = torch.rand(25, 5)
    checked = check(lambda x: x.flatten(1) @ w, images[0], images[1])
    assert names(checked)[0] == "function" and checked.flags[0].severity == "note"


def test_eot_of_a_model_without_randomness(net, images):
    checked = check(net, *images, eot=10)
    assert checked.model is net and names(checked) == ["eot"]
    for passes in (0, 2.5, -1):
        with pytest.raises(UserError, match="eot is a number of passes, at least 1"):
            check(net, *images, eot=passes)


# Nothing of the caller's is changed, and nothing is checked twice


@every_evaluator
def test_nothing_of_the_callers_is_changed(images, evaluator):
    net = smooth_net()
    net.train()
    net.second.weight.requires_grad_(False)
    net.first.weight.grad = torch.ones_like(net.first.weight)
    calls = []
    hook = net.register_forward_hook(lambda *_: calls.append(1))
    x, y = images[0].clone().requires_grad_(), images[1].int()
    before, pixels, labels = snapshot(net), x.detach().clone(), y.clone()
    grad = net.first.weight.grad
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    evaluator(net, x, y)
    assert before.pop("gradients")[0] is net.first.weight.grad is grad and (grad == 1).all()
    after = snapshot(net)
    assert {key: after[key] for key in before} == before
    assert len(net._forward_hooks) == 1 and calls
    hook.remove()
    assert torch.equal(x, pixels) and x.requires_grad and x.grad is None
    assert torch.equal(y, labels) and y.dtype == torch.int32
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1]) and random.getstate() == states[2]
    assert torch.is_grad_enabled() and said() == []


@every_evaluator
def test_it_is_checked_once(net, images, evaluator, monkeypatch):
    from ldatlib.evaluation.gate import entry

    ran, work = [], entry.check
    monkeypatch.setattr(entry, "check", lambda *a, **k: (ran.append(1), work(*a, **k))[1])
    evaluator(net, *images)
    evaluator(net, *images)
    assert len(ran) == 2


@pytest.mark.slow
def test_processes_are_not_checked_again(net, images):
    """They see a few images each, of which nothing could be said."""
    x, y = images
    with warnings.catch_warnings():
        warnings.simplefilter("error", EvaluationWarning)
        attacks = [PGD, Attack("fgsm", "linf", 0.1, 1)]
        shared, alone = (
            worst_case.worst_case(net, x, y, attacks, processes=n).right for n in (2, 1)
        )
    assert torch.equal(shared, alone)


@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_what_it_costs(net, count):
    x, y = mostly_right(net, count)
    model = Wrong(net)
    check(model, x, y)
    assert model.seen <= 3 * min(count, 32) + (min(count, 32) + 1) // 2 + 1 + 14
