"""Models, images and labels as callers hand them to the evaluators, through the gate."""

import contextlib
import math
import warnings

import numpy as np
import torch
from fuzzing import mostly
from hypothesis import strategies as st
from torch import nn

from ldatlib.attacks import frozen
from ldatlib.evaluation.gate.entry import check
from ldatlib.evaluation.gate.findings import EvaluationWarning
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.partial import Partial
from ldatlib.evaluation.robustness import evaluate, run_attack
from ldatlib.evaluation.worst_case import worst_case

CHEAP = ("fgsm", "pgd", "mi_fgsm", "deepfool", "ddn", "margin", "square", "apgd", "fab")
KINDS = (
    "double half tuple dict none array one column classes softmax nan dropout train constant "
    "lambda class raises image wide batch numpy 3 flat warns int complex empty expand "
    "offset tiny"
).split() + ["in place", "no gradient", "other count"]
IMAGES = (
    "double half uint8 int bool complex 255 normal nan inf numpy list grad permuted expanded zero "
    "one dark hair none object sparse meta inference parameter negative bfloat16 text"
).split() + ["channels last", "read-only", "big endian"]
LABELS = (
    "int32 uint8 float large huge one-hot column short list numpy bool none scalar uint64 text "
    "constant shifted texts"
).split() + ["from one", "minus one", "tensor list"]
CASES = st.fixed_dictionaries(
    {
        "model": mostly(st.just("plain"), st.sampled_from(KINDS), of=2),
        "classes": st.integers(2, 4),
        "count": mostly(st.integers(2, 10), st.integers(0, 2)),
        "shape": mostly(
            st.tuples(st.sampled_from([1, 3]), st.integers(1, 6), st.integers(1, 6)),
            st.sampled_from([(4, 4, 3), (4, 4), (16,), (), (1, 4, 4, 1), (3, 0, 4)]),
        ),
        "images": mostly(st.just("plain"), st.sampled_from(IMAGES), of=2),
        "labels": mostly(st.sampled_from(["plain", "right"]), st.sampled_from(LABELS), of=3),
        "where": mostly(st.just(""), st.sampled_from(["no_grad", "inference", "autocast"]), of=3),
        "evaluator": st.sampled_from(["check", "evaluate", "worst_case", "run_attack"]),
        "method": st.sampled_from(["fgsm", "pgd", *CHEAP]),
        "norm": st.sampled_from(["linf", "l2"]),
        "eps": mostly(st.floats(0, 1), st.sampled_from([0.0, 1e-9, 1e30])),
    },
    optional={
        "eot": mostly(st.sampled_from([None, 1, 2, 3]), st.sampled_from([0, -1, 1.5, "2", True])),
        "seed": mostly(st.integers(0, 9), st.integers(), st.sampled_from([1.5, "1", None])),
        "batch_size": mostly(
            st.integers(1, 8), st.sampled_from([0, -1, 2.5, "8", None, True, 10**12])
        ),
        "processes": mostly(st.just(1), st.sampled_from([0, -1, 1.5, "2", None])),
        "partial": mostly(st.sampled_from([None, "here"]), st.just(3)),
    },
)


class Net(nn.Module):
    """A linear network that answers in one of many ways."""

    def __init__(self, kind: str, pixels: int, classes: int):
        super().__init__()
        self.kind, self.classes = kind, classes
        self.linear = nn.Linear(max(pixels, 1), classes)
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(classes)

    def forward(self, x):
        kind = self.kind
        if kind == "in place":
            x.mul_(2).sub_(1)
        if kind == "dropout":
            x = nn.functional.dropout(x, 0.5, training=True)
        if kind == "raises":
            raise ValueError("not\nwhat was expected " + "n" * 500)
        if kind == "image":
            return x
        if kind == "numpy":
            return self.linear(x.detach().flatten(1)).detach().numpy()
        z = self.linear(x.flatten(1))
        if kind == "constant":
            return z * 0 + torch.arange(float(self.classes))
        if kind == "no gradient":
            return z.detach()
        if kind == "warns":
            warnings.warn("of its own", UserWarning, stacklevel=1)
        if kind == "batch":
            return z - z.mean(0)
        if kind == "empty":
            return z[:, :0]
        if kind == "expand":
            return z[:, :1].expand(-1, self.classes)
        changed = {
            "tuple": lambda: (z, x),
            "dict": lambda: {"logits": z},
            "none": lambda: None,
            "one": lambda: z[:, 0],
            "column": lambda: z[:, :1],
            "classes": lambda: z.argmax(1),
            "softmax": lambda: z.softmax(1),
            "nan": lambda: z * float("nan"),
            "wide": lambda: z[:, :, None, None],
            "3": lambda: z[:, :, None].expand(-1, -1, 3),
            "flat": lambda: z.flatten(),
            "int": lambda: (z * 10).long(),
            "complex": lambda: z + 1j,
            "other count": lambda: z[:1],
            "offset": lambda: z + 1e6,
            "tiny": lambda: z * 1e-30,
            "train": lambda: self.norm(z),
        }
        return changed.get(kind, lambda: z)()


def _model(case, pixels):
    kind = case["model"]
    torch.manual_seed(0)
    net = Net(kind, pixels, case["classes"])
    if kind == "class":
        return Net
    if kind == "array":
        return np.zeros(3)
    if kind == "lambda":
        return lambda x: net(x)
    if kind == "double":
        net.double()
    if kind == "half":
        net.half()
    return net if kind == "train" else net.eval()


def _images(case):
    shape, kind = (case["count"], *case["shape"]), case["images"]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    if kind == "expanded":
        return torch.rand(1, *case["shape"]).expand(shape)
    if kind == "channels last":
        return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
    if kind == "permuted":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == "inference":
        with torch.inference_mode():
            return x + 0
    if kind == "read-only":
        array = x.numpy().copy()
        array.flags.writeable = False
        return array
    changed = {
        "double": lambda: x.double(),
        "half": lambda: x.half(),
        "bfloat16": lambda: x.bfloat16(),
        "uint8": lambda: (x * 255).byte(),
        "int": lambda: (x * 255).long(),
        "bool": lambda: x > 0.5,
        "complex": lambda: x + 0j,
        "255": lambda: x * 255,
        "normal": lambda: x * 4 - 2,
        "negative": lambda: x - 0.1,
        "nan": lambda: x / 0 * 0,
        "inf": lambda: x / 0,
        "numpy": lambda: x.numpy(),
        "list": lambda: x.tolist(),
        "grad": lambda: x.requires_grad_(True),
        "zero": lambda: x * 0,
        "one": lambda: x * 0 + 1,
        "dark": lambda: x / 255,
        "hair": lambda: (x * 0 + 1) * (1 + 3e-7),
        "big endian": lambda: x.numpy().astype(">f4"),
        "none": lambda: None,
        "object": lambda: x.numpy().astype(object),
        "sparse": lambda: x.to_sparse(),
        "meta": lambda: x.to("meta"),
        "parameter": lambda: nn.Parameter(x),
        "text": lambda: "x.png",
    }
    return changed.get(kind, lambda: x)()


def _labels(case, model, x):
    kind, classes = case["labels"], case["classes"]
    y = torch.arange(case["count"]) % classes
    if kind == "right":
        with contextlib.suppress(Exception), torch.no_grad():
            return model(torch.as_tensor(x).float().clone()).argmax(1)
    changed = {
        "int32": lambda: y.int(),
        "uint8": lambda: y.byte(),
        "uint64": lambda: y.numpy().astype(np.uint64),
        "float": lambda: y.float(),
        "from one": lambda: y + 1,
        "minus one": lambda: y - 1,
        "large": lambda: y + classes,
        "huge": lambda: y * 2**40,
        "one-hot": lambda: nn.functional.one_hot(y, classes),
        "column": lambda: y[:, None],
        "short": lambda: y[:-1],
        "list": lambda: y.tolist(),
        "numpy": lambda: y.numpy(),
        "bool": lambda: y > 0,
        "none": lambda: None,
        "scalar": lambda: torch.tensor(1),
        "text": lambda: "cat",
        "texts": lambda: np.array(["a"] * case["count"]),
        "constant": lambda: y * 0,
        "shifted": lambda: (y + 1) % classes,
        "tensor list": lambda: list(y),
    }
    return changed.get(kind, lambda: y)()


def _where(name):
    return {
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    }.get(name, contextlib.nullcontext)()


def evaluator(case, folder):
    x = _images(case)
    pixels = math.prod(case["shape"])
    model = _model(case, pixels)
    y = _labels(case, model, x)
    before = x.clone() if isinstance(x, torch.Tensor) and x.device.type == "cpu" else None
    modes = [m.training for m in model.modules()] if isinstance(model, nn.Module) else []
    given = {key: case[key] for key in ("eot", "seed") if key in case}
    with _where(case["where"]), warnings.catch_warnings():
        # Wanted, and tested elsewhere; a wall of others is none.
        warnings.simplefilter("ignore", EvaluationWarning)
        _call(case, model, x, y, given, folder)
    if before is not None and case["images"] not in ("sparse", "nan"):
        assert torch.equal(x.detach(), before.detach()), "the caller's images were changed"
    if modes:
        assert [m.training for m in model.modules()] == modes


def _call(case, model, x, y, given, folder):
    if case["evaluator"] == "check":
        checked = check(model, x, y, **given)
        # As evaluators run it.
        with frozen(checked.model), torch.autocast("cpu", enabled=False):
            logits = checked.model(checked.x)
        assert checked.x.dtype == logits.dtype == torch.float32
        assert logits.shape == (len(checked.x), checked.num_classes) and logits.isfinite().all()
        assert len(checked.y) == len(checked.x) and checked.y.dtype == torch.int64
        return
    attack = _attack(case)
    given |= {key: case[key] for key in ("batch_size",) if key in case}
    if case["evaluator"] == "run_attack":
        given.pop("eot", None)
        found = run_attack(model, x, y, attack, **given)
        _inside(found, x, attack)
        return
    if case["evaluator"] == "evaluate":
        partial = case.get("partial")
        if partial is not None:
            given["partial"] = Partial(folder, "attacks") if partial == "here" else partial
        found = evaluate(model, x, y, [attack], **given)
        _inside(found.x_adv[attack.key], x, attack)
        clean = found.record["clean_accuracy"]
        assert found.record["worst_case"][attack.norm]["value"] <= clean["value"]
    else:
        given |= {key: case[key] for key in ("processes",) if key in case}
        found = worst_case(model, x, y, [attack], search=False, **given)
        _inside(found.x_adv, x, attack)
        clean = found.record["clean_accuracy"]
        assert found.record["robust_accuracy"]["value"] <= clean["value"]
    assert clean["count"] == len(x)
    if case["model"] in ("plain", "lambda", "in place", "double"):
        with torch.no_grad():
            pixels = torch.as_tensor(
                np.array(x.detach().float() if torch.is_tensor(x) else x, np.float32, order="C")
            )
            dtype = next(model.parameters()).dtype if case["model"] == "double" else torch.float32
            right = model(pixels.to(dtype).clone()).argmax(1) == torch.as_tensor(np.array(y)).long()
        assert abs(clean["value"] - right.double().mean()) < 1e-9, "another clean accuracy"


def _inside(found, x, attack):
    x = torch.as_tensor(np.array(x.detach().float() if torch.is_tensor(x) else x, np.float32))
    assert found.shape == x.shape and found.min() >= 0 and found.max() <= 1
    size = (found - x).flatten(1)
    size = size.norm(dim=1) if attack.norm == "l2" else size.abs().amax(1)
    assert size.max() <= attack.eps + 1e-5


def _attack(case):
    restarts = {"restarts": 1, "radii": (2.0, 1.0)} if case["method"] == "margin" else {}
    return Attack(case["method"], case["norm"], case["eps"], 1, **restarts)


def names_of_evaluator(case):
    words = ["model", "image", "label", "logit", "eot", "batch_size", "seed", "processes"]
    return [*words, "partial", "eps", case["method"], "class"]
