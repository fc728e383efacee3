"""Attack a score, not a threshold: the surest wrong images, and the least sure right ones.

An attack on a threshold stops just above it, so the area under the ROC rises under attack. What
the area is worth against an attacker shows where the score of wrong images is driven as high as it
goes; what a small perturbation gets refused, where that of right ones is driven as low. Together
they say what becomes of every threshold there is (``rejection.curve``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.evaluation.ascent import Objective, ascend, margins
from ldatlib.evaluation.detection import Score
from ldatlib.evaluation.gate.entry import gated
from ldatlib.evaluation.joint import (
    UNIT,
    Scale,
    check_effort,
    check_score,
    differentiable,
    joint,
    look,
    no_threshold,
    strongest_wrong,
    sureness,
)
from ldatlib.evaluation.random_score import check_steady, fresh_looks
from ldatlib.evaluation.search import best_of, of_rows, search, strongest
from ldatlib.evaluation.square import random_climb

# A step into the right class costs more than any gain of the score over the same step.
_PENALTY = 10.0
# More than any sureness: the merit of an image that is wrong.
_WRONG = 1e30


@gated
def highest_score(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    score: Score,
    eps: float,
    norm: str,
    scale: Scale = UNIT,
    given: Sequence[Tensor] = (),
    num_steps: int = 40,
    restarts: int = 2,
    queries: int = 1000,
    batch_size: int = 128,
    seed: int = 0,
) -> Tensor:
    """For each image the wrong one of the highest score in its ball; [N, ...].

    The score of the strongest wrong class (in log-odds, or over what is usual) is maximised, less
    ten times what its margin lacks: from the best of what is ``given``, then by ``search`` in
    ``restarts`` restarts. Where no wrong image was found, ``x`` comes back.

    Parameters are those of ``adaptive_attack``; ``given``: what other attacks have found.

    Raises
    ------
    UserError : unknown score or norm, a score that the model does not have, negative numbers.
    """

    def of(rows: Tensor) -> list[Objective]:
        return [_wrong_and_sure(model, y[rows], score, scale)] * restarts

    effort: dict[str, Any] = {"num_steps": num_steps, "restarts": restarts, "queries": queries}
    effort |= {"batch_size": batch_size, "seed": seed, "goal": float("inf")}
    return _attack(model, x, of, score=score, eps=eps, norm=norm, given=given, **effort)


@gated
def lowest_score(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    score: Score,
    eps: float,
    norm: str,
    scale: Scale = UNIT,
    given: Sequence[Tensor] = (),
    num_steps: int = 40,
    restarts: int = 2,
    queries: int = 1000,
    batch_size: int = 128,
    seed: int = 0,
) -> Tensor:
    """For each image one of its ball that is wrong or, if none was found, the least sure; [N, ...].

    By ``search``: the score alone is lowered in ``restarts`` restarts, and a wrong class is looked
    for in one. An image that is wrong is not accepted and right, whatever its score.

    Parameters are those of ``highest_score``; ``given``: images of this ball.

    Raises
    ------
    UserError : as ``highest_score``.
    """

    def of(rows: Tensor) -> list[Objective]:
        unsure = _wrong_or_unsure(model, y[rows], score, scale)
        margin = strongest(model, y[rows])

        def wrong(images: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
            return margin(images, within)[0], unsure(images, within)[1]

        return [unsure, wrong, *[unsure] * (restarts - 1)]

    effort: dict[str, Any] = {"num_steps": num_steps, "restarts": restarts, "queries": queries}
    effort |= {"batch_size": batch_size, "seed": seed, "goal": _WRONG / 2}
    return _attack(model, x, of, score=score, eps=eps, norm=norm, given=given, **effort)


def _attack(
    model: nn.Module,
    x: Tensor,
    objectives: Callable[[Tensor], list[Objective]],
    *,
    score: Score,
    eps: float,
    norm: str,
    given: Sequence[Tensor],
    num_steps: int,
    restarts: int,
    queries: int,
    batch_size: int,
    seed: int,
    goal: float,
) -> Tensor:
    """The images of greatest merit, batch by batch; all ``objectives(rows)`` have one merit."""
    check_score(model, score)
    check_steady(model, x, score)
    check_effort(restarts, queries)
    steep = differentiable(model, x, score)
    results = [x[:0].clone()]
    ball: dict[str, Any] = {"eps": eps, "norm": norm, "num_steps": num_steps, "goal": goal}
    with frozen(model):
        for rows in torch.arange(len(x), device=x.device).split(batch_size):
            generator = torch.Generator(x.device).manual_seed(seed)
            seeds = [images[rows].detach() for images in (x, *given)]
            chosen = objectives(rows)
            best, merit = _best(seeds, chosen[0], score)
            # What was given may be all there is to find.
            open_rows = (merit <= goal).nonzero().squeeze(1)
            chosen = [of_rows(objective, open_rows) for objective in chosen]
            begin, around = best[open_rows], seeds[0][open_rows]
            found = [begin]
            if steep:
                found.append(ascend(chosen[0], around, start=begin, **ball)[0])
            climb = None if steep else random_climb(queries, seed)
            searched = search(chosen, around, generator=generator, climb=climb, **ball)
            better, reached = _best([*found, searched.images], chosen[0], score)
            best, merit = (
                best.index_copy(0, open_rows, better),
                merit.index_copy(0, open_rows, reached),
            )
            kept = (merit > float("-inf")).view(-1, *[1] * (x.ndim - 1))
            results.append(torch.where(kept, best, seeds[0]))
    return torch.cat(results)


def _wrong_and_sure(model: nn.Module, y: Tensor, score: Score, scale: Scale) -> Objective:
    def objective(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        seen, labels = look(model, images, score), y[rows]
        wrong = strongest_wrong(seen.logits, labels)
        margin, surplus = joint(seen, wrong, no_threshold(seen), scale)
        merit = torch.where(margin > 0, surplus, float("-inf"))
        return surplus + _PENALTY * margin.clamp_max(0), merit

    return objective


def _wrong_or_unsure(model: nn.Module, y: Tensor, score: Score, scale: Scale) -> Objective:
    def objective(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        seen = look(model, images, score)
        unsure = -sureness(seen, scale)
        return unsure, torch.where(margins(seen.logits, y[rows]) > 0, _WRONG, unsure)

    return objective


def _best(several: Sequence[Tensor], objective: Objective, score: Score) -> tuple[Tensor, Tensor]:
    rows = torch.arange(len(several[0]), device=several[0].device)
    with torch.no_grad():
        merits = [
            torch.stack([objective(images, rows)[1] for _ in range(fresh_looks(score))]).mean(0)
            for images in several
        ]
        return best_of(several, torch.stack(merits))
