"""A model that may refuse: on which images its threshold is frozen, and on which it is attacked."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.evaluation.detection import Own, Score, own_score
from ldatlib.evaluation.gate.entry import check
from ldatlib.evaluation.gate.findings import Finding, Findings
from ldatlib.evaluation.gate.wrappers import AveragedScore, draw_from
from ldatlib.evaluation.joint import check_score, differentiable
from ldatlib.evaluation.named_attacks import check_square
from ldatlib.evaluation.random_score import check_steady, randomness
from ldatlib.evaluation.robustness import predict

_LOOKED_AT = 32


@dataclass(frozen=True)
class Detector:
    """A score, and the share of clean images to accept.

    ``x_val``, ``y_val`` freeze the threshold; ``rows`` [n] of the test images are attacked, by
    gradients where the score is ``steep``, else by Square.
    ``left_out``: images given for the threshold that are test images, too. ``findings``: what
    has to be said of the score, as of a model.
    """

    score: Score
    accept: float
    x_val: Tensor
    y_val: Tensor
    rows: Tensor
    given: bool
    steep: bool = True
    left_out: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """The score's name: one of ours, or that of the function."""
        if isinstance(self.score, str):
            return self.score
        return str(getattr(self.score, "__qualname__", type(self.score).__name__))

    def settings(self) -> dict:
        """For JSON."""
        return {
            "score": self.name,
            "accept": self.accept,
            "frozen_on": len(self.y_val),
            "images_given": self.given,
            "left_out": self.left_out,
        }

    def seen(self, model: nn.Module) -> list[Tensor]:
        """What tells this detector from others: its images, and its scores of some of them."""
        few = self.x_val[:_LOOKED_AT]
        draw_from(self.score, 0)
        values = [own_score(model, few, self.score)] if callable(self.score) else []
        return [self.x_val, self.y_val, *values]


def detector_of(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    clean: Tensor,
    score: Score | None,
    accept: float,
    x_val: Tensor | None,
    y_val: Tensor | None,
    norms: Iterable[str],
    batch_size: int = 128,
    eot: int | None = None,
    seed: int = 0,
) -> Detector | None:
    """The detector, None where there is no score; everything that it needs is tried before.

    ``clean`` [N]: the test images that are right. Without ``x_val`` every second test image freezes
    the threshold, and the others are attacked. Of ``x_val`` what is among the test images is left
    out. A randomised score becomes its mean over ``eot`` looks, whose streams begin at ``seed``.

    Raises
    ------
    UserError : as ``joint.check_score`` and ``detection.own_score``; a randomised score without
        ``eot``; a share out of range; images of another shape, or nothing, to freeze on; a score
        without a gradient where Square has no room.
    """
    if (x_val is None) != (y_val is None):
        raise UserError("x_val and y_val go together: pass both, or neither")
    if score is None:
        if x_val is not None:
            raise UserError("x_val freezes the threshold of a score: pass score, too")
        return None
    check_score(model, score)
    number = isinstance(accept, int | float) and not isinstance(accept, bool)
    if not number or not 0 < accept < 1:
        raise UserError(
            f"accept is the share of clean images to accept, such as 0.95, not {accept!r}"
        )
    left_out = 0
    if x_val is not None:
        checked = check(model, x_val, y_val)
        assert checked.y is not None  # there are labels
        x_val, y_val, left_out = _others(checked.x, checked.y, x)
        rows = torch.arange(len(x), device=x.device)
        right = predict(model, x_val, batch_size) == y_val
    else:
        if len(x) < 2:
            raise UserError("a threshold is frozen on half of the images; one image has no half")
        rows = torch.arange(1, len(x), 2, device=x.device)
        x_val, y_val, right = x[0::2], y[0::2], clean[0::2]
    if not right.any():
        raise UserError(
            f"none of the {len(y_val)} images that would freeze the threshold is right; pass "
            "others as x_val and y_val"
        )
    said: tuple[Finding, ...] = ()
    steep = True
    if callable(score):
        with torch.no_grad():
            # Of every image, and of one alone: what fails later fails after everything dear.
            for images in (x_val[:1], *x_val.split(batch_size), *x.split(batch_size)):
                own_score(model, images, score)
        score, said = _steady(model, x_val, score, eot, seed)
        steep = differentiable(model, x, score)
        for norm in () if steep else norms:
            check_square(x, norm)
    given = len(rows) == len(x)
    return Detector(score, float(accept), x_val, y_val, rows, given, steep, left_out, said)


def _steady(
    model: nn.Module, x: Tensor, score: Own, eot: int | None, seed: int
) -> tuple[Own, tuple[Finding, ...]]:
    """The score, or its mean over looks where it is randomised, and what is said of that."""
    found = Findings()
    if isinstance(score, AveragedScore):
        found.note("score randomised", f"the score is a mean over {score.looks} random looks")
        return score, tuple(found)
    if eot is None:
        check_steady(model, x, score, "pass eot=20")
        return score, ()
    said = randomness(model, x, score)
    if said:
        found.warn("score randomised", f"{said}; attacked is its mean over {eot} looks")
        score = AveragedScore(score, eot, seed=seed)
    return score, tuple(found)


def _others(x_val: Tensor, y_val: Tensor, x: Tensor) -> tuple[Tensor, Tensor, int]:
    """What of the images that freeze a threshold is not attacked, and how many are left out."""
    if x_val.shape[1:] != x.shape[1:]:
        theirs, ours = (" x ".join(map(str, images.shape[1:])) for images in (x_val, x))
        raise UserError(f"the threshold's images are {theirs}, those examined {ours}: one size")
    examined = {image.tobytes() for image in x.cpu().numpy()}
    others = [
        row for row, image in enumerate(x_val.cpu().numpy()) if image.tobytes() not in examined
    ]
    if not others:
        raise UserError(
            f"all {len(x_val)} images that would freeze the threshold are examined, too; a "
            "threshold is frozen on others: pass those, or none, which takes every second image"
        )
    keep = torch.tensor(others, device=x_val.device)
    return x_val[keep], y_val[keep], len(x_val) - len(others)
