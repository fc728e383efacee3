"""Models whose decision boundary is known in closed form, and records of invented numbers."""

import torch
from torch import Tensor, nn

from ldatlib.evaluation.robustness import from_bits, predict, share, to_bits
from ldatlib.study import records


class Plane(nn.Module):
    """Logits ``offset + [0, scale (w.x + b)]``, and ``offset - 50 scale`` for every other.

    The boundary between the classes 0 and 1 is the plane ``w.x + b = 0``; further classes are
    never predicted.
    """

    def __init__(self, w: Tensor, b: float = 0.0, *, classes=2, offset=0.0, scale=1.0):
        super().__init__()
        self.w = nn.Parameter(w.clone())
        self.b, self.classes, self.offset, self.scale = b, classes, offset, scale

    def forward(self, x: Tensor) -> Tensor:
        value = self.scale * (x.flatten(1) @ self.w + self.b)
        zero = torch.zeros_like(value)
        return (
            torch.stack([zero, value] + [zero - 50 * self.scale] * (self.classes - 2), 1)
            + self.offset
        )

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.w + self.b > 0).long()

    @torch.no_grad()
    def outward(self, x: Tensor) -> Tensor:
        """+1 where a step along ``w`` leads to the plane, -1 where it leads away, [N]."""
        return 1 - 2.0 * self.predict(x).to(x.dtype)

    @torch.no_grad()
    def distance(self, x: Tensor, norm: str = "l2") -> Tensor:
        """Distance of each image to the plane, [N]: the L1 norm of ``w`` is dual to L-inf."""
        dual = self.w.norm() if norm == "l2" else self.w.abs().sum()
        return (x.flatten(1) @ self.w + self.b).abs() / dual


def images_around(plane: Plane, count: int, side: int) -> Tensor:
    """Images [count, 1, side, side] on both sides of a plane that is put through their middle.

    Far from the ends of the pixel range, at up to 0.3 from the plane.
    """
    plane.b = -0.5 * plane.w.detach().sum()
    along = (plane.w / plane.w.norm()).detach().view(1, side, side)
    x = 0.5 + 0.1 * (torch.rand(count, 1, side, side) - 0.5)
    return x + torch.linspace(-0.3, 0.3, count).view(-1, 1, 1, 1) * along


class SmoothNet(nn.Module):
    """A small smooth network without batch norm, for float64 comparisons."""

    def __init__(self, pixels: int = 9, classes: int = 4, hidden: int = 8):
        super().__init__()
        self.first, self.second = nn.Linear(pixels, hidden), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(3 * self.first(x.flatten(1))))


def smooth_net() -> SmoothNet:
    """Five classes of images of 5x5, always the same weights."""
    torch.manual_seed(3)
    return SmoothNet(pixels=25, classes=5, hidden=12).eval()


def mostly_right(net: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    """Images [count, 1, 5, 5] and labels of which the network has every eighth wrong."""
    x = torch.rand(count, 1, 5, 5)
    y = predict(net, x)
    y[::8] = (y[::8] + 1) % 5
    return x, y


def snapshot(model: nn.Module) -> dict:
    """Everything of a model that an attack must leave alone."""
    return {
        "modes": [module.training for module in model.modules()],
        "flags": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [parameter.grad for parameter in model.parameters()],
        "state": {name: value.tolist() for name, value in model.state_dict().items()},
    }


def record(kind, **fields):
    """A record of this kind with an invented header; ``fields`` are the others."""
    header = {
        "kind": kind,
        "numerics": {"train": 1, kind: 1},
        "profile": "demo",
        "defence": "ldat",
        "title": "LDAT",
        "seed": 0,
        "key": "0123456789",
        "training_key": "9876543210",
        "made_from": {},
        "dataset": "made",
        "fingerprint": "abc",
        "config": {},
        "settings": {},
        "seconds": 1.0,
        "provenance": {
            "revision": None,
            "python": "3.11",
            "libraries": {},
            "device": "cpu",
            "threads": 1,
        },
    }
    return records.convert(kind, header | fields)


def whitebox(clean, attacks, **header):
    """A record of Table 1; ``clean`` and each attack (by key) as digits, 1 where right."""
    columns = {}
    for key, right in attacks.items():
        norm, _, method = key.partition("_")
        settings = {"method": method, "norm": norm, "eps": 0.1, "steps": 1, "step_size": 0.1}
        columns[key] = {
            "settings": settings | {"cw_step_size": 0.01, "targets": 0},
            "robust_accuracy": share(from_bits(right)),
            "seconds": 1.0,
            "right": right,
        }
    fields = {"clean_accuracy": share(from_bits(clean)), "clean_right": clean, "attacks": columns}
    fields |= {"worst_case": {}, "self_checks": [], "ok": True, "batch_size": 1}
    fields |= {"attack_seed": 0, "checkpoint": "last", "adversarial": "images"}
    return record("whitebox", **fields, **header)


def detection_record(sets, thresholds, **header):
    """A detection record; ``sets``: score -> set -> (scores, digits)."""
    scores = {
        name: {
            "thresholds": thresholds[name],
            "sets": {key: {"score": s, "right": bits} for key, (s, bits) in entries.items()},
        }
        for name, entries in sets.items()
    }
    images = len(sets["posterior"]["clean"][0])
    return record("detection", scores=scores, images=images, **header)


def synthetic_record(likelihood=True, images=40, **header):
    """A detection record whose scores lie on a known grid: no two of one set are equal."""
    grid = (torch.arange(images) + 0.5) / images

    def entry(values, right):
        return [round(v, 6) for v in values.tolist()], to_bits(right)

    sets = {
        "val": entry(0.5 + grid / 2, grid > 0.1),
        "clean": entry(0.48 + grid / 2, grid > 0.05),
        "l2_cw": entry(0.1 + grid / 2, grid > 0.6),
        "linf_pgd": entry(0.2 + grid * 0.7, torch.arange(images) % 3 == 0),
    }
    scores = {"posterior": sets}
    thresholds = {"posterior": {"paper": 0.6, "accept_95": 0.58, "accept_99": 0.56}}
    if likelihood:
        scores["log_likelihood"] = {
            name: ([100 * v - 150 for v in values], right) for name, (values, right) in sets.items()
        }
        thresholds["log_likelihood"] = {"paper": None, "accept_95": -92.0, "accept_99": -94.0}
    return detection_record(scores, thresholds, **header)
