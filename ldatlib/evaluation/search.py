"""Search from larger balls: ascent with restarts, the strongest search of this companion.

A search that begins on the rim of the ball, or at the image, climbs the nearest hill. Here it
climbs in a ball of three budgets first, is projected into one of two, goes on from there, and ends
in the ball itself: what Croce and Hein's APGD does under L1 ("Mind the box", 2021), for any norm
and any objective. Restarts tell how far to trust it: where the last one still found something,
there is more to be found.

Every image is searched on its own: a restart begins in one random direction, the same for all
images, so that nothing depends on the batch beyond rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.evaluation.ascent import (
    Objective,
    ascend,
    margins,
    random_perturbation,
    ranked_wrong,
)

# Radii of the balls in budgets, from the outermost to the ball itself.
RADII = (3.0, 2.0, 1.0)
# The part of the steps that is taken in the ball itself, as in AutoAttack's search under L1.
_AT_HOME = 0.4


@dataclass(frozen=True)
class Found:
    """What a search found, image by image.

    ``images`` [N, ...] of greatest merit, inside the ball; ``progress`` [N, restarts], the greatest
    merit after each restart; ``restart`` [N], the one that reached the goal (0, 1, ...), -1 where
    none did.
    """

    images: Tensor
    progress: Tensor
    restart: Tensor


@dataclass(frozen=True)
class Way:
    """How one restart goes: its ball, and how far away it begins (in budgets); steps; its goal."""

    eps: float
    norm: str
    num_steps: int
    goal: float
    radii: Sequence[float]


# One restart: (objective, x, start, way) -> images in the ball and their merits.
Climb = Callable[[Objective, Tensor, Tensor, Way], tuple[Tensor, Tensor]]


def best_of(several: Sequence[Tensor], merits: Tensor) -> tuple[Tensor, Tensor]:
    """Of several images each that of greatest merit, the earlier if alike, and its merit [N].

    ``several``: each [N, ...]; ``merits`` [several, N].
    """
    merit, index = merits.max(0)
    rows = torch.arange(len(merit), device=merit.device)
    return torch.stack(list(several))[index, rows], merit


def first_above(progress: Tensor, goal: float) -> Tensor:
    """The restart that reached a goal, [N, restarts] -> [N]; -1 where none did."""
    above = progress > goal
    return torch.where(above.any(1), above.int().argmax(1), -1)


def bookkeeping(restart: Tensor, restarts: int) -> dict:
    """What records say of a search: ``restarts``, new images each, and ``converged``.

    ``restart`` [N] as ``Found`` has it. A search whose last restart still found some has not
    converged.
    """
    new = torch.bincount(restart[restart >= 0].cpu(), minlength=restarts).tolist()
    return {"restarts": new, "converged": new[-1] == 0}


def check_radii(radii: Sequence[float]) -> None:
    """Raises ``UserError`` unless radii fall to 1."""
    numbers = isinstance(radii, list | tuple) and all(isinstance(r, int | float) for r in radii)
    falling = numbers and all(a > b for a, b in zip(radii, radii[1:], strict=False))
    if not radii or not falling or radii[-1] != 1 or not radii[0] < float("inf"):
        raise UserError(f"radii fall to 1, in budgets, such as 3, 2, 1; not {radii!r}")


def search(
    objectives: Sequence[Objective],
    x: Tensor,
    *,
    eps: float,
    norm: str,
    num_steps: int,
    goal: float = 0.0,
    radii: Sequence[float] = RADII,
    generator: torch.Generator | None = None,
    climb: Climb | None = None,
) -> Found:
    """Maximise objectives over the ball around each image, one a restart, until it is done.

    The first restart begins at ``x``, the others at the rim of the largest ball. Each attacks the
    images that those before it left at or below the goal. In the larger balls the value alone is
    followed, past the goal; only images of the ball itself are kept.

    Parameters
    ----------
    objectives : (images [n, ...], rows [n]) -> (value [n], merit [n]), as ``ascend`` has it.
    x : [N, ...] in [0,1]; ``eps`` in pixel units, at least 0; ``norm`` ``"linf"`` or ``"l2"``.
    num_steps : of one restart, in all its balls; at least one in each.
    goal : an image whose merit is above it is done.
    radii : of the balls, in budgets, falling to 1.
    climb : another way to go than by ascent from ball to ball.

    Raises
    ------
    UserError : no objective, radii that do not fall to 1, and as ``ascend``.
    """
    check_radii(radii)
    if not objectives:
        raise UserError("restarts must be at least 1, not 0")
    x = x.detach()
    way, climb = Way(eps, norm, num_steps, goal, radii), climb or _descend
    found, progress = x.clone(), x.new_full((len(x), len(objectives)), float("-inf"))
    for number, objective in enumerate(objectives):
        merit = progress[:, max(number - 1, 0)].clone()
        start = x
        if number:
            away = radii[0] * eps * random_perturbation(x[:1], norm, generator)
            start = (x + away).clamp(0, 1)
        rows = (merit <= goal).nonzero().squeeze(1)
        images, reached = climb(of_rows(objective, rows), x[rows], start[rows], way)
        better = reached > merit[rows]
        found[rows[better]], merit[rows[better]] = images[better], reached[better]
        progress[:, number] = merit
    return Found(found, progress, first_above(progress, goal))


def of_rows(objective: Objective, rows: Tensor) -> Objective:
    """The same objective for these images alone, ``rows`` [n] of all."""
    return lambda images, within: objective(images, rows[within])


def _descend(objective: Objective, x: Tensor, start: Tensor, way: Way) -> tuple[Tensor, Tensor]:
    """From the largest ball to the ball itself."""

    def value_alone(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        value, _ = objective(images, rows)
        return value, value

    *wide, home = _steps(way.num_steps, len(way.radii))
    for radius, steps in zip(way.radii, wide, strict=False):
        ball: dict[str, Any] = {"eps": radius * way.eps, "norm": way.norm, "num_steps": steps}
        start, _ = ascend(value_alone, x, start=start, **ball)
    ball = {"eps": way.eps, "norm": way.norm, "num_steps": home}
    return ascend(objective, x, start=start, goal=way.goal, **ball)


def _steps(num_steps: int, balls: int) -> list[int]:
    """The steps in each ball: alike in the larger ones."""
    if balls == 1 or num_steps < 1:
        return [num_steps] * balls
    wide = max(round((1 - _AT_HOME) * num_steps / (balls - 1)), 1)
    return [wide] * (balls - 1) + [max(num_steps - wide * (balls - 1), 1)]


# --- the margin of the logits ------------------------------------------------------------------


def strongest(model: nn.Module, y: Tensor) -> Objective:
    """The margin of the strongest wrong class over the true one, which is also the merit."""

    def objective(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        margin = margins(model(images), y[rows])
        return margin, margin

    return objective


def towards(model: nn.Module, y: Tensor, target: Tensor) -> Objective:
    """The margin of the class ``target`` [N]; any wrong class will do."""

    def objective(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(images)
        pair = logits.gather(1, torch.stack([target[rows], y[rows]], 1))
        return pair[:, 0] - pair[:, 1], margins(logits, y[rows])

    return objective


def margin_search(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str,
    num_steps: int,
    restarts: int,
    radii: Sequence[float] = RADII,
    seed: int = 0,
) -> Found:
    """``search`` for a wrong class: the strongest one and, every second restart, one target.

    The targets are the wrong classes, the likeliest of the clean image first. An odd number of
    ``restarts`` ends with the strongest class. Parameters are those of ``search``.
    """
    with torch.no_grad():
        targets = ranked_wrong(model(x), y).unbind(1)
    objectives = [
        towards(model, y, targets[number // 2 % len(targets)])
        if number % 2
        else strongest(model, y)
        for number in range(restarts)
    ]
    ball: dict[str, Any] = {"eps": eps, "norm": norm, "num_steps": num_steps, "radii": radii}
    return search(objectives, x, generator=torch.Generator(x.device).manual_seed(seed), **ball)
