"""Attack a classifier that may refuse: look for images that are wrong *and* accepted.

An attack that only wants a wrong class stops at the boundary, where every score is low; a
threshold rejects what it finds, and says nothing of an attacker who knows the threshold. Here the
two aims are one: for a wrong class k the smaller of

- its margin, ``z_k - max_{j != k} z_j``: above 0 where k is predicted, and
- its surplus, the score over the threshold, in units of logits: above 0 where it is accepted,

is maximised (Carlini and Wagner 2017, "Adversarial examples are not easily detected"; Tramer et
al. 2020), by the search from larger balls. For the posterior p_k the surplus is its log-odds less
those of the threshold, which does not saturate where p_k rounds to 1; for the log-likelihood it is
log p(f) less the threshold.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation import detection
from ldatlib.evaluation.ascent import Objective, margins, ranked_wrong, true_class
from ldatlib.evaluation.search import best_of, first_above, of_rows, search

# A margin and surplus this far above 0 (logits, nats) stays there in other batches.
_CLEAR = 1e-3
# Records hold scores with six digits: what rounds to the threshold is accepted.
_LARGEST_POSTERIOR = 1 - 5e-7
CONFIDENCES = (0.5, 2.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Missed:
    """What was found at one threshold.

    ``images`` [N, ...]: where nothing was found, the one for which the smaller of margin and
    surplus came out largest. ``restart`` [N]: the restart that found it; -1 where none did, or had
    to: the image itself, one of the given, or what a stricter threshold's search has left.
    """

    images: Tensor
    restart: Tensor


def joint(
    model: nn.Module, images: Tensor, target: Tensor, score: str, threshold: float
) -> tuple[Tensor, Tensor]:
    """Margin and surplus [N] of the class ``target`` [N]; both above 0: predicted and accepted."""
    return joint_of(look(model, images, score), target, threshold)


def look(
    model: nn.Module, images: Tensor, score: str
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Logits [N, C], and features [N, D] and log-likelihood [N] where the score asks for them."""
    if score == "posterior":
        return model(images), None, None
    features = model.features(images)
    return model.head(features), features, model.head.log_likelihood(features)


def joint_of(seen: tuple, target: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """``joint`` of what ``look`` has seen."""
    logits, _, likelihood = seen
    value = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    others = logits.masked_fill(true_class(logits, target), float("-inf"))
    if likelihood is None:
        surplus = value - others.logsumexp(1) - _log_odds(threshold)
    else:
        surplus = likelihood - threshold
    return value - others.amax(1), surplus


def strongest_wrong(logits: Tensor, y: Tensor) -> Tensor:
    """The likeliest wrong class, [N, C] and [N] -> [N]."""
    return logits.masked_fill(true_class(logits, y), float("-inf")).argmax(1)


def _log_odds(threshold: float) -> float:
    p = min(max(threshold, 1e-9), _LARGEST_POSTERIOR)
    return math.log(p) - math.log1p(-p)


def number_of_searches(score: str, classes: int, restarts: int) -> int:
    """Searches at one threshold."""
    centroids = classes - 1 if score == "log_likelihood" else 0
    return 1 + restarts * classes + len(CONFIDENCES) + centroids


def adaptive_attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    score: str,
    thresholds: Sequence[float],
    eps: float,
    norm: str,
    given: Sequence[Tensor] = (),
    num_steps: int = 40,
    restarts: int = 1,
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

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits; for the log-likelihood a ``Classifier`` with a
        Gaussian-mixture head.
    y : the true classes [N]. Images that are wrong to begin with are attacked, too, unless they
        are accepted as they are.
    score : ``"posterior"`` or ``"log_likelihood"``; ``thresholds`` in its units.
    eps : in pixel units, at least 0; ``num_steps`` of every search.
    given : what other attacks have found in the same ball, each like ``x``: an image that one of
        them gets is not attacked.

    Returns
    -------
    A ``Missed`` for each threshold, in the order given.

    Raises
    ------
    UserError : unknown score or norm, a score that the model does not have, negative numbers.
    """
    check_score(model, score)
    if restarts < 1:
        raise UserError(f"restarts must be at least 1, not {restarts}")
    order = sorted(range(len(thresholds)), key=lambda i: -thresholds[i])
    results: list[list[Missed]] = [[] for _ in thresholds]
    ball = {"eps": eps, "norm": norm, "num_steps": num_steps, "goal": _CLEAR}
    with frozen(model):
        for rows in torch.arange(len(x), device=x.device).split(batch_size):
            seeds = [images[rows].detach() for images in (x, *given)]
            # Anew for every batch: an image's search does not depend on where it stands.
            generator = torch.Generator(x.device).manual_seed(seed)
            attack = _Attack(model, seeds, y[rows], score, ball | {"generator": generator})
            for i in order:
                results[i].append(attack.run(thresholds[i], restarts))
    return [
        Missed(torch.cat([p.images for p in parts]), torch.cat([p.restart for p in parts]))
        for parts in results
    ]


def check_score(model: nn.Module, score: str) -> None:
    """Raises ``UserError`` for an unknown score, or one that the model does not have."""
    if score not in detection.SCORES:
        raise UserError(f"unknown score {score!r}; known: {', '.join(detection.SCORES)}")
    if score not in detection.scores_of(model):
        raise UserError("a model with a linear head has no likelihood; use the posterior")


class _Attack:
    """One batch: what is found at one threshold is where the next, looser one begins."""

    def __init__(self, model, seeds, y, score, ball):
        self.model, self.seeds, self.y, self.score, self.ball = model, seeds, y, score, ball
        self.x, self.found = seeds[0], seeds[0]
        # Progress and threshold of the search that serves the posterior's from 0.5 up.
        self.majority: tuple[Tensor, float] | None = None
        with torch.no_grad():
            self.ranked = ranked_wrong(model(self.x), y)

    def run(self, threshold: float, restarts: int) -> Missed:
        given, merit = self._best(self.seeds, threshold)
        known = merit > _CLEAR
        self.found, merit = self._best([given, self.found], threshold)
        if self.majority and threshold >= 0.5:
            progress, stricter = self.majority
            shift = _log_odds(stricter) - _log_odds(threshold)
            new = first_above(progress + shift, _CLEAR)
        else:
            progress = self._search(threshold, restarts, (merit <= _CLEAR).nonzero().squeeze(1))
            new = first_above(progress, _CLEAR)
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
            merits = torch.stack(
                [self._merit(look(self.model, i, self.score), y, threshold) for i in several]
            )
        return best_of(several, merits)

    @staticmethod
    def _merit(seen: tuple, y: Tensor, threshold: float) -> Tensor:
        """The joint objective of the likeliest wrong class: above 0 only if the attack is done."""
        return torch.minimum(*joint_of(seen, strongest_wrong(seen[0], y), threshold))

    def _objectives(self, threshold: float, restarts: int) -> list[Objective]:
        """What is maximised, a restart each."""

        def of(value: Callable) -> Objective:
            def objective(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
                seen = look(self.model, images, self.score)
                merit = self._merit(seen, self.y[rows], threshold)
                return value(seen, rows, merit), merit

            return objective

        def strongest(seen, rows, merit):
            return merit

        def of_class(target):
            return lambda seen, rows, merit: torch.minimum(*joint_of(seen, target[rows], threshold))

        def confident(most):
            return lambda seen, rows, merit: margins(seen[0], self.y[rows]).clamp_max(most)

        def centroid(target):
            means = self.model.head.means
            return lambda seen, rows, merit: -(seen[1] - means[target[rows]]).square().sum(1) / 2

        targets = self.ranked.unbind(1)
        values = [strongest]
        values += [of_class(target) for target in targets] * restarts
        values += [confident(most) for most in CONFIDENCES]
        if self.score == "log_likelihood":
            values += [centroid(target) for target in targets]
        values += [strongest] * restarts
        return [of(value) for value in values]
