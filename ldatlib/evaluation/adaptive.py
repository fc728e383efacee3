"""Attack a classifier that may refuse: look for images that are wrong *and* accepted.

An attack that only wants a wrong class stops at the boundary, where every score is low; a
threshold rejects what it finds, and says nothing of an attacker who knows the threshold. Here the
two aims are one (``joint``), which is maximised by the search from larger balls (Carlini and Wagner
2017, "Adversarial examples are not easily detected"; Tramer et al. 2020), and by Square where the
score has no gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.ascent import Objective, margins, ranked_wrong
from ldatlib.evaluation.detection import Score
from ldatlib.evaluation.gate.entry import gated
from ldatlib.evaluation.gate.wrappers import AveragedScore
from ldatlib.evaluation.joint import (
    CLEAR,
    UNIT,
    Scale,
    Seen,
    check_effort,
    check_score,
    differentiable,
    joint,
    log_odds,
    look,
    strongest_wrong,
)
from ldatlib.evaluation.random_score import check_steady, fresh_looks
from ldatlib.evaluation.search import best_of, first_above, of_rows, search
from ldatlib.evaluation.search import strongest as of_margin
from ldatlib.evaluation.square import random_climb

CONFIDENCES = (0.5, 2.0, 5.0, 10.0, 20.0)
# As many as AutoAttack aims at.
TARGETS = 9


@dataclass(frozen=True)
class Missed:
    """What was found at one threshold.

    ``images`` [N, ...]: where nothing was found, the one for which the smaller of margin and
    surplus came out largest. ``restart`` [N]: the restart that found it; -1 where none did, or had
    to: the image itself, one of the given, those of greatest margin, or what a stricter threshold's
    search has left.
    """

    images: Tensor
    restart: Tensor


def number_of_searches(score: Score, classes: int, restarts: int, steep: bool = True) -> int:
    """Searches at one threshold; ``steep``: whether the score has a gradient."""
    if not steep:
        return 1 + restarts
    centroids = classes - 1 if score == "log_likelihood" else 0
    return 1 + restarts * classes + len(CONFIDENCES) + centroids


@gated
def adaptive_attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    score: Score,
    thresholds: Sequence[float],
    eps: float,
    norm: str,
    scale: Scale = UNIT,
    given: Sequence[Tensor] = (),
    num_steps: int = 40,
    restarts: int = 1,
    queries: int = 1000,
    batch_size: int = 128,
    seed: int = 0,
) -> list[Missed]:
    """Images inside the ball that are wrong and accepted, for each threshold where found.

    Per threshold, the strictest first, on the images that are not yet wrong and accepted there
    (for the posterior, thresholds from 0.5 up have one objective, and one search serves them all),
    restarts of one ``search``, the first from ``x``, the others from random images:

    1. the joint objective of the strongest wrong class, once;
    2. the joint objective of every wrong class, ``restarts`` times;
    3. C&W with rising confidence: the margin alone, up to 0.5, 2, 5, 10 and 20;
    4. for the log-likelihood, the features onto the centroid of every wrong class;
    5. as 1, ``restarts`` times: the last tells whether the search has converged.

    Of a score without a gradient Square maximises the first of these, 1 + ``restarts`` times, on
    what the image of greatest margin in the ball leaves: far behind the boundary many a score is
    high, and the margin has a gradient.

    A randomised score is attacked as a mean over looks (``gate.wrappers.AveragedScore``); an image
    counts as found where it is wrong and accepted in the mean of several fresh ones. Of one without
    a gradient the image of greatest margin of each of the nine likeliest wrong classes is tried
    first.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits; for the log-likelihood a ``Classifier`` with a
        Gaussian-mixture head.
    y : the true classes [N]. Images that are wrong to begin with are attacked, too, unless they
        are accepted as they are.
    score : ``"posterior"``, ``"log_likelihood"`` or one of your own, a function of model and images
        [n, ...] to [n]; ``thresholds`` in its units.
    scale : what margin and score are divided by, ``joint.scale_of`` validation images.
    eps : in pixel units, at least 0; ``num_steps`` of every search, ``queries`` of Square.
    given : what other attacks have found in the same ball, each like ``x``: an image that one of
        them gets is not attacked.

    Returns
    -------
    A ``Missed`` for each threshold, in the order given.

    Raises
    ------
    UserError : unknown score or norm, a score that the model does not have or that is randomised
        and no mean, negative numbers.
    """
    check_score(model, score)
    check_steady(model, x, score)
    check_effort(restarts, queries)
    if score == "posterior" and scale != UNIT:
        raise UserError("the posterior's log-odds and margins share their unit: leave out scale")
    order = sorted(range(len(thresholds)), key=lambda i: -thresholds[i])
    results: list[list[Missed]] = [[] for _ in thresholds]
    ball = {"eps": eps, "norm": norm, "num_steps": num_steps, "goal": CLEAR}
    blind, climb = not differentiable(model, x, score), random_climb(queries, seed)
    with frozen(model):
        for rows in torch.arange(len(x), device=x.device).split(batch_size):
            seeds = [images[rows].detach() for images in (x, *given)]
            # Anew for every batch: an image's search does not depend on where it stands.
            generator = torch.Generator(x.device).manual_seed(seed)
            own = ball | {"generator": generator}
            if blind:
                seeds.append(_far(model, x[rows], y[rows], own))
                if isinstance(score, AveragedScore):
                    # A random climb does not see a gain below the noise of its looks.
                    seeds += _far_in_each(model, x[rows], y[rows], own)
                own["climb"] = climb
            attack = _Attack(model, seeds, y[rows], score, scale, own)
            for i in order:
                results[i].append(attack.run(thresholds[i], restarts))
    return [
        Missed(torch.cat([p.images for p in parts]), torch.cat([p.restart for p in parts]))
        for parts in results
    ]


def _far(model: nn.Module, x: Tensor, y: Tensor, ball: dict[str, Any]) -> Tensor:
    """The images of greatest margin, [N, ...], of as many searches as there are confidences."""
    objectives = [of_margin(model, y)] * len(CONFIDENCES)
    return search(objectives, x, **ball | {"goal": float("inf")}).images


def _far_in_each(model: nn.Module, x: Tensor, y: Tensor, ball: dict[str, Any]) -> list[Tensor]:
    """The images of greatest margin of each of the likeliest wrong classes, each [N, ...]."""

    def of(target: Tensor) -> Objective:
        def objective(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            margin = -margins(model(images), target[rows])
            return margin, margin

        return objective

    with torch.no_grad():
        targets = ranked_wrong(model(x), y)[:, :TARGETS].unbind(1)
    alone = ball | {"goal": float("inf")}
    return [search([of(target)], x, **alone).images for target in targets]


class _Attack:
    """One batch: what is found at one threshold is where the next, looser one begins."""

    def __init__(self, model, seeds, y, score, scale, ball):
        self.model, self.seeds, self.y, self.score, self.ball = model, seeds, y, score, ball
        self.scale = scale
        self.x, self.found = seeds[0], seeds[0]
        # Progress and threshold of the search that serves the posterior's from 0.5 up.
        self.majority: tuple[Tensor, float] | None = None
        with torch.no_grad():
            self.ranked = ranked_wrong(model(self.x), y)

    def run(self, threshold: float, restarts: int) -> Missed:
        given, merit = self._best(self.seeds, threshold)
        known = merit > CLEAR
        self.found, merit = self._best([given, self.found], threshold)
        if self.majority and threshold >= 0.5:
            progress, stricter = self.majority
            shift = log_odds(stricter) - log_odds(threshold)
            new = first_above(progress + shift, CLEAR)
        else:
            progress = self._search(threshold, restarts, (merit <= CLEAR).nonzero().squeeze(1))
            new = first_above(progress, CLEAR)
            # A posterior of 0.5 is more than all others together, so from there on the surplus is
            # the smaller of the two: the thresholds' objectives differ by a constant.
            if self.score == "posterior" and threshold >= 0.5:
                self.majority = progress, threshold
        return Missed(self.found, new.masked_fill(known, -1))

    def _search(self, threshold: float, restarts: int, rows: Tensor) -> Tensor:
        """Search for these images; what is better goes into ``found``. Progress [N, restarts]."""
        objectives = [of_rows(each, rows) for each in self._objectives(threshold, restarts)]
        found = search(objectives, self.x[rows], **self.ball)
        better, _ = self._best([self.found[rows], found.images], threshold, rows)
        self.found = self.found.index_copy(0, rows, better)
        nothing = self.x.new_full((len(self.x), len(objectives)), float("-inf"))
        return nothing.index_copy(0, rows, found.progress)

    def _best(self, several, threshold: float, rows: Tensor | None = None) -> tuple:
        """Of several images each [N, ...] that of greatest merit, the earlier if alike; merits."""
        y = self.y if rows is None else self.y[rows]
        with torch.no_grad():
            merits = torch.stack([self._settled(images, y, threshold) for images in several])
        return best_of(several, merits)

    def _settled(self, images: Tensor, y: Tensor, threshold: float) -> Tensor:
        """The merit [N] as images are chosen by it."""
        looks = [look(self.model, images, self.score) for _ in range(fresh_looks(self.score))]
        return torch.stack([self._merit(seen, y, threshold) for seen in looks]).mean(0)

    def _checked(self, merit: Tensor, images: Tensor, rows: Tensor, threshold: float) -> Tensor:
        """The merit [n]; of what a random look finds done, that of fresh looks."""
        done = (merit > CLEAR).nonzero().squeeze(1)
        if not isinstance(self.score, AveragedScore) or not len(done):
            return merit
        with torch.no_grad():
            again = self._settled(images[done], self.y[rows[done]], threshold)
            return merit.detach().index_copy(0, done, again)

    def _merit(self, seen: Seen, y: Tensor, threshold: float) -> Tensor:
        """The joint objective of the likeliest wrong class: above 0 only if the attack is done."""
        wrong = strongest_wrong(seen.logits, y)
        return torch.minimum(*joint(seen, wrong, threshold, self.scale))

    def _objectives(self, threshold: float, restarts: int) -> list[Objective]:
        """What is maximised, a restart each."""

        def of(value: Callable) -> Objective:
            def objective(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
                seen = look(self.model, images, self.score)
                merit = self._merit(seen, self.y[rows], threshold)
                return value(seen, rows, merit), self._checked(merit, images, rows, threshold)

            return objective

        def strongest(seen, rows, merit):
            return merit

        def of_class(target):
            return lambda seen, rows, merit: torch.minimum(
                *joint(seen, target[rows], threshold, self.scale)
            )

        def confident(most):
            return lambda seen, rows, merit: margins(seen.logits, self.y[rows]).clamp_max(most)

        def centroid(target):
            means = self.model.head.means
            return lambda seen, rows, merit: (
                -(seen.features - means[target[rows]]).square().sum(1) / 2
            )

        if "climb" in self.ball:
            return [of(strongest)] * number_of_searches(self.score, 0, restarts, steep=False)
        targets = self.ranked.unbind(1)
        values = [strongest]
        values += [of_class(target) for target in targets] * restarts
        values += [confident(most) for most in CONFIDENCES]
        if self.score == "log_likelihood":
            values += [centroid(target) for target in targets]
        values += [strongest] * restarts
        return [of(value) for value in values]
