"""Attack a score: wrong images of which the network is as sure as can be.

An attack on a threshold stops just above it, so the area under the ROC rises under attack. What
the area is worth against an attacker shows where the score of wrong images is driven as high as
it goes, whatever the threshold.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.adaptive import check_score, joint_of, look, strongest_wrong
from ldatlib.evaluation.ascent import Objective, ascend
from ldatlib.evaluation.search import best_of, search

# A step into the right class costs more than any gain of the score over the same step.
_PENALTY = 10.0


def highest_score(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    score: str,
    eps: float,
    norm: str,
    given: Sequence[Tensor] = (),
    num_steps: int = 40,
    restarts: int = 2,
    batch_size: int = 128,
    seed: int = 0,
) -> Tensor:
    """For each image the wrong one of the highest score in its ball; [N, ...].

    The score of the strongest wrong class (log-odds, or nats of log p(f)) is maximised, less ten
    times what its margin lacks: from the best of what is ``given``, then by ``search`` in
    ``restarts`` restarts. Where no wrong image was found, ``x`` comes back.

    Parameters are those of ``adaptive_attack``; ``given``: what other attacks have found.

    Raises
    ------
    UserError : unknown score or norm, a score that the model does not have, negative numbers.
    """
    check_score(model, score)
    if restarts < 1:
        raise UserError(f"restarts must be at least 1, not {restarts}")
    results = [x[:0].clone()]
    ball = {"eps": eps, "norm": norm, "num_steps": num_steps}
    with frozen(model):
        for rows in torch.arange(len(x), device=x.device).split(batch_size):
            generator = torch.Generator(x.device).manual_seed(seed)
            seeds = [images[rows].detach() for images in (x, *given)]
            objective = _objective(model, y[rows], score)
            best, _ = _best(seeds, objective)
            climbed, _ = ascend(objective, seeds[0], start=best, **ball)
            own = {"goal": float("inf"), "generator": generator}
            searched = search([objective] * restarts, seeds[0], **own, **ball)
            best, merit = _best([best, climbed, searched.images], objective)
            wrong = (merit > float("-inf")).view(-1, *[1] * (x.ndim - 1))
            results.append(torch.where(wrong, best, seeds[0]))
    return torch.cat(results)


def _objective(model: nn.Module, y: Tensor, score: str) -> Objective:
    def objective(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        seen, labels = look(model, images, score), y[rows]
        # Half is the threshold whose log-odds are 0: the surplus is then the score itself.
        threshold = 0.5 if score == "posterior" else 0.0
        margin, surplus = joint_of(seen, strongest_wrong(seen[0], labels), threshold)
        merit = torch.where(margin > 0, surplus, float("-inf"))
        return surplus + _PENALTY * margin.clamp_max(0), merit

    return objective


def _best(several: Sequence[Tensor], objective: Objective) -> tuple[Tensor, Tensor]:
    rows = torch.arange(len(several[0]), device=several[0].device)
    with torch.no_grad():
        return best_of(several, torch.stack([objective(images, rows)[1] for images in several]))
