"""Ascent on any objective inside a ball: the search of APGD (Croce and Hein 2020).

The attacks of this companion that no library has (the margin of the logits under L-inf, and the
attack on the detector) are objectives for this one search. Images are treated one by one: neither
the order of a batch nor its size matters beyond rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ldatlib.attacks import NORMS, l2_norm, per_image, unit_direction
from ldatlib.errors import UserError

# (images [n, ...], rows [n]) -> objective [n] and merit [n]; ``rows`` says which images they are.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_MOMENTUM, _RHO = 0.75, 0.75


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """``max_{k != y} z_k - z_y``, [N, C] -> [N]: above 0 where the image is misclassified.

    Blind to an offset common to all logits, so all-negative ones are no trouble.
    """
    others = logits.masked_fill(true_class(logits, y), float("-inf")).amax(1)
    return others - logits.gather(1, y.unsqueeze(1)).squeeze(1)


def true_class(logits: Tensor, y: Tensor) -> Tensor:
    """Where the class is ``y`` [N]: bool, like the logits [N, C]."""
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, y.unsqueeze(1), True)


def inside(x: Tensor, images: Tensor, eps: float, norm: str) -> Tensor:
    """The nearest images that lie in the ball around ``x`` and in [0,1], [N, ...].

    In both at once ("Mind the box", Croce and Hein 2021): where the ball comes first and the pixels
    after it, pixels at their ends eat a part of an L2 budget.
    """
    delta, low, high = images - x, -x, 1 - x
    if norm == "linf":
        return (x + delta.clamp(-eps, eps)).clamp(0, 1)
    within = delta.clamp(low, high)
    far = l2_norm(within) > eps
    if far.any():
        within[far] = _shortened(delta[far], low[far], high[far], eps)
    return (x + within).clamp(0, 1)


def _shortened(delta: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    """``delta``, scaled and then cut off, of L2 norm ``eps`` at most: by bisection of the scale."""
    inner, outer = delta.new_zeros(len(delta)), delta.new_ones(len(delta))
    for _ in range(25):
        middle = (inner + outer) / 2
        over = l2_norm((delta * per_image(middle, delta)).clamp(low, high)) > eps
        inner, outer = torch.where(over, inner, middle), torch.where(over, middle, outer)
    return (delta * per_image(inner, delta)).clamp(low, high)


def ranked_wrong(logits: Tensor, y: Tensor) -> Tensor:
    """The wrong classes, the likeliest first: [N, C] and [N] -> [N, C - 1]."""
    wrong = logits.masked_fill(true_class(logits, y), float("-inf"))
    return wrong.argsort(dim=1, descending=True, stable=True)[:, :-1]


def random_perturbation(like: Tensor, norm: str, generator: torch.Generator | None) -> Tensor:
    """Random perturbations of length 1 in the norm, one an image of ``like`` [N, ...]."""
    settings: dict[str, Any] = {"dtype": like.dtype, "device": like.device, "generator": generator}
    if norm == "linf":
        noise = 2 * torch.rand(like.shape, **settings) - 1
        length = noise.flatten(1).abs().amax(1)
    else:
        noise = torch.randn(like.shape, **settings)
        length = l2_norm(noise)
    return noise / per_image(length.clamp_min(1e-12), noise)


def random_start(x: Tensor, eps: float, norm: str, generator: torch.Generator | None) -> Tensor:
    """A random image on the rim of the ball, as APGD starts, its pixels put into [0,1]."""
    return (x + eps * random_perturbation(x, norm, generator)).clamp(0, 1)


def check_ball(eps: float, norm: str) -> None:
    """Raises ``UserError`` for an unknown norm, a negative or non-finite budget."""
    if norm not in NORMS:
        raise UserError(f"unknown norm {norm!r}; known: {', '.join(NORMS)}")
    if not 0 <= eps < float("inf"):
        raise UserError(f"eps must be a number of at least 0, not {eps}")


def ascend(
    objective: Objective,
    x: Tensor,
    *,
    eps: float,
    norm: str,
    num_steps: int,
    start: Tensor | None = None,
    goal: float = float("inf"),
) -> tuple[Tensor, Tensor]:
    """Maximise an objective over the ball around each image; keep the image of greatest merit.

    The search is APGD's: steps of 2 eps along the sign (L-inf) or the direction (L2) of the
    gradient, momentum 0.75, and per image half the step and a return to the best point where the
    last stretch brought too little.

    Parameters
    ----------
    objective : (images [n, ...], rows [n]) -> (objective [n], merit [n]). The gradient of the
        first is followed; the second decides which image is kept. ``rows`` are indices into ``x``.
    x : [N, ...] in [0,1]; ``eps`` in pixel units, at least 0; ``norm`` ``"linf"`` or ``"l2"``.
    num_steps : at least 1; one forward and one input-gradient pass each, and one more at the start.
    start : like ``x``; ``None``: at ``x``. Put inside the ball.
    goal : an image whose merit is above it is done.

    Returns
    -------
    The images of greatest merit [N, ...], inside the ball and [0,1], and their merits [N].

    Raises
    ------
    UserError : unknown norm, a negative or non-finite budget, no steps.
    """
    check_ball(eps, norm)
    if num_steps < 1:
        raise UserError(f"num_steps must be at least 1, not {num_steps}")
    if not len(x):
        return x.clone(), x.new_zeros(0)
    search = _Search(objective, x.detach(), eps, norm, goal)
    search.begin(x.detach() if start is None else inside(x.detach(), start.detach(), eps, norm))
    for step in range(num_steps):
        if not len(search.rows):
            break
        search.step(first=step == 0)
        if step in _checkpoints(num_steps):
            search.adapt()
    return search.found, search.merit


def _checkpoints(num_steps: int) -> set[int]:
    """The steps after which APGD looks back: after 22%, then at ever shorter stretches."""
    points, last, stretch = set(), 0.0, 0.22
    while last + stretch <= 1:
        last += stretch
        points.add(max(round(last * num_steps) - 1, 0))
        stretch = max(stretch - 0.03, 0.06)
    return points


class _Search:
    """The state of the images that have not reached the goal, one row each."""

    def __init__(self, objective, x, eps, norm, goal):
        self.objective, self.x, self.eps, self.norm, self.goal = objective, x, eps, norm, goal
        self.rows = torch.arange(len(x), device=x.device)
        self.found, self.merit = x.clone(), x.new_full((len(x),), float("-inf"))

    def begin(self, start: Tensor) -> None:
        value, gradient = self._look(start)
        count = len(start)
        self.state = {
            "now": start,
            "before": start,
            "gradient": gradient,
            "value": value,
            "best": start,
            "best_gradient": gradient,
            "best_value": value,
            "size": start.new_full((count,), 2 * self.eps),
            "gains": start.new_zeros(count),
            "looks": start.new_zeros(count),
            "last_best": value,
            "halved": torch.zeros(count, dtype=torch.bool, device=start.device),
        }
        self._drop()

    def step(self, first: bool) -> None:
        s, x = self.state, self.x[self.rows]
        # Where the gradient vanishes the image stays: momentum may still carry it.
        still = torch.zeros_like(x)
        flat = s["gradient"].nan_to_num(0, 0, 0)
        along = flat.sign() if self.norm == "linf" else unit_direction(flat, still)
        ahead = inside(x, s["now"] + per_image(s["size"], x) * along, self.eps, self.norm)
        share = 1.0 if first else _MOMENTUM
        moved = s["now"] + share * (ahead - s["now"]) + (1 - share) * (s["now"] - s["before"])
        moved = inside(x, moved, self.eps, self.norm)
        value, gradient = self._look(moved)
        s["gains"] = s["gains"] + (value > s["value"])
        s["looks"] = s["looks"] + 1
        better = value > s["best_value"]
        s["best"] = torch.where(per_image(better, x), moved, s["best"])
        s["best_gradient"] = torch.where(per_image(better, x), gradient, s["best_gradient"])
        s["best_value"] = torch.where(better, value, s["best_value"])
        s["before"], s["now"], s["value"], s["gradient"] = s["now"], moved, value, gradient
        self._drop()

    def adapt(self) -> None:
        """Half the step, and back to the best point, where the last stretch gained too little."""
        s = self.state
        stuck = (s["last_best"] >= s["best_value"]) & ~s["halved"]
        halve = (s["gains"] < _RHO * s["looks"]) | stuck
        wide = per_image(halve, s["now"])
        s["size"] = torch.where(halve, s["size"] / 2, s["size"])
        for name in ("now", "before"):
            s[name] = torch.where(wide, s["best"], s[name])
        s["gradient"] = torch.where(wide, s["best_gradient"], s["gradient"])
        s["value"] = torch.where(halve, s["best_value"], s["value"])
        s["halved"], s["last_best"] = halve, s["best_value"]
        s["gains"], s["looks"] = torch.zeros_like(s["gains"]), torch.zeros_like(s["looks"])

    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Objective and gradient; images of greater merit than any before are kept."""
        with torch.enable_grad():
            images = images.detach().requires_grad_(True)
            value, merit = self.objective(images, self.rows)
            # The sum, not the mean: an image's gradient must not depend on the batch around it.
            gradient = torch.autograd.grad(value.sum(), images)[0]
        merit, kept = merit.detach(), self.merit[self.rows]
        better = self.rows[merit > kept]
        self.found[better] = images.detach()[merit > kept]
        self.merit[better] = merit[merit > kept]
        return value.detach().nan_to_num(float("-inf")), gradient

    def _drop(self) -> None:
        going = self.merit[self.rows] <= self.goal
        if not going.all():
            self.rows = self.rows[going]
            self.state = {name: value[going] for name, value in self.state.items()}
