"""Square (Andriushchenko et al. 2020) on any objective: for a score that has no gradient.

The package's own random search, its loss replaced.
"""

import itertools
from typing import Any

import torch
from torch import Tensor

from ldatlib.evaluation.ascent import Objective, check_ball
from ldatlib.evaluation.named_attacks import PACKAGE_NORMS, check_square
from ldatlib.evaluation.search import Climb, Way


def square(
    objective: Objective,
    x: Tensor,
    *,
    eps: float,
    norm: str,
    queries: int,
    goal: float = float("inf"),
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """As ``ascend``, by ``queries`` looks instead of gradients.

    Returns the images of greatest merit [N, ...], inside the ball and [0,1], and their merits [N].

    Raises ``UserError`` for an unknown norm, a negative or non-finite budget, images too small.
    """
    from pyautoattack.square import SquareAttack

    check_ball(eps, norm)
    check_square(x, norm)
    found, merit = x.clone(), x.new_full((len(x),), float("-inf"))

    class OnObjective(SquareAttack):  # type: ignore[misc]
        """Its labels are the images' rows."""

        def margin_and_loss(self, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            value, reached = objective(images, rows)
            better = reached > merit[rows]
            found[rows[better]] = images[better]
            merit[rows[better]] = reached[better]
            # It goes on with an image as long as the first is above 0.
            return torch.where(merit[rows] > goal, -1.0, 1.0), -value.nan_to_num(float("-inf"))

    if not len(x):
        return found, merit
    settings = {"n_queries": queries, "eps": eps, "resc_schedule": True, "device": x.device}
    attack = OnObjective(None, norm=PACKAGE_NORMS[norm], **settings)
    rows = torch.arange(len(x), device=x.device)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        attack.init_hyperparam(x)
        attack.margin_and_loss(x, rows)
        attack.attack_single_run(x, rows)
    return found, merit


def random_climb(queries: int, seed: int) -> Climb:
    """Square as the restarts of ``search``, each with random numbers of its own."""
    restarts = itertools.count()

    def climb(objective: Objective, x: Tensor, start: Tensor, way: Way) -> tuple[Tensor, Tensor]:
        ball: dict[str, Any] = {"eps": way.eps, "norm": way.norm, "goal": way.goal}
        return square(objective, x, queries=queries, seed=seed + next(restarts), **ball)

    return climb
