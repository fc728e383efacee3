"""Attack a classifier that may refuse: look for images that are wrong *and* accepted.

An attack that only wants a wrong class stops at the boundary, where every score is low; a
threshold rejects what it finds, and says nothing of an attacker who knows the threshold. Here the
two aims are one: for a wrong class k the smaller of

- its margin, ``z_k - max_{j != k} z_j``: above 0 where k is predicted, and
- its surplus, the score over the threshold, in units of logits: above 0 where it is accepted,

is maximised (Carlini and Wagner 2017, "Adversarial examples are not easily detected"; Tramer et
al. 2020). For the posterior p_k the surplus is its log-odds less those of the threshold, which
does not saturate where p_k rounds to 1; for the log-likelihood it is log p(f) less the threshold.

The search begins at the clean image and at random ones, never at what another attack has found.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation import detection
from ldatlib.evaluation.ascent import Objective, ascend, random_start
from ldatlib.evaluation.gate.entry import gated

# A margin and surplus this far above 0 (logits, nats) stays there in other batches.
_CLEAR = 1e-3
# Records hold scores with six digits: what rounds to the threshold is accepted.
_LARGEST_POSTERIOR = 1 - 5e-7
CONFIDENCES = (0.5, 2.0, 5.0, 10.0, 20.0)


def joint(
    model: nn.Module, images: Tensor, target: Tensor, score: str, threshold: float
) -> tuple[Tensor, Tensor]:
    """Margin and surplus [N] of the class ``target`` [N]; both above 0: predicted and accepted."""
    return _joint(*_look(model, images, score), target, threshold)


def _look(model, images, score) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if score == "posterior":
        return model(images), None, None
    features = model.features(images)
    return model.head(features), features, model.head.log_likelihood(features)


def _joint(logits, features, likelihood, target, threshold) -> tuple[Tensor, Tensor]:
    own = _one_hot(logits, target)
    value = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    others = logits.masked_fill(own, float("-inf"))
    if likelihood is None:
        surplus = value - others.logsumexp(1) - _log_odds(threshold)
    else:
        surplus = likelihood - threshold
    return value - others.amax(1), surplus


def _one_hot(logits: Tensor, y: Tensor) -> Tensor:
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, y.unsqueeze(1), True)


def _log_odds(threshold: float) -> float:
    p = min(max(threshold, 1e-9), _LARGEST_POSTERIOR)
    return math.log(p) - math.log1p(-p)


@gated
def adaptive_attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    score: str,
    thresholds: Sequence[float],
    eps: float,
    norm: str,
    num_steps: int = 40,
    restarts: int = 1,
    batch_size: int = 128,
    seed: int = 0,
) -> list[Tensor]:
    """Images inside the ball that are wrong and accepted, for each threshold where found.

    Per threshold, the strictest first, on the images that are not yet wrong and accepted there
    (for the posterior, thresholds from 0.5 up have one objective, and one search serves them all):

    1. the joint objective of the strongest wrong class, from ``x`` and from ``restarts`` random
       images;
    2. the joint objective of every wrong class, from as many random images;
    3. C&W with rising confidence: the margin alone, up to 0.5, 2, 5, 10 and 20, from a random one;
    4. for the log-likelihood, the features onto the centroid of every wrong class, from ``x``.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits; for the log-likelihood a ``Classifier`` with a
        Gaussian-mixture head.
    y : the true classes [N]. Images that are wrong to begin with are attacked, too, unless they
        are accepted as they are.
    score : ``"posterior"`` or ``"log_likelihood"``; ``thresholds`` in its units.
    eps : in pixel units, at least 0; ``num_steps`` of every search.

    Returns
    -------
    A list with an x_adv [N, C, H, W] for each threshold, in the order given: where nothing was
    found, the image for which the smaller of margin and surplus came out largest.

    Raises
    ------
    UserError : unknown score or norm, a score that the model does not have, negative numbers.
    """
    if score not in detection.SCORES:
        raise UserError(f"unknown score {score!r}; known: {', '.join(detection.SCORES)}")
    if score not in detection.scores_of(model):
        raise UserError("a model with a linear head has no likelihood; use the posterior")
    if restarts < 1:
        raise UserError(f"restarts must be at least 1, not {restarts}")
    order = sorted(range(len(thresholds)), key=lambda i: -thresholds[i])
    results: list[list[Tensor]] = [[] for _ in thresholds]
    generator = torch.Generator(x.device).manual_seed(seed)
    with frozen(model):
        for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            search = _Attack(model, part.detach(), labels, score, eps, norm, num_steps, generator)
            for i in order:
                results[i].append(search.run(thresholds[i], restarts))
    return [torch.cat(parts) if parts else x.clone() for parts in results]


class _Attack:
    """One batch: what is found at one threshold is where the next, looser one begins."""

    def __init__(self, model, x, y, score, eps, norm, num_steps, generator):
        self.model, self.x, self.y, self.score = model, x, y, score
        self.ball = {"eps": eps, "norm": norm, "num_steps": num_steps}
        self.generator = generator
        self.found, self.majority = x.clone(), False
        with torch.no_grad():
            logits = model(x)
        self.classes = logits.shape[1]
        # Wrong classes, the likeliest first; the true one comes last.
        wrong = logits.masked_fill(_one_hot(logits, y), float("-inf"))
        self.ranked = wrong.argsort(dim=1, descending=True, stable=True)

    def run(self, threshold: float, restarts: int) -> Tensor:
        self.threshold = threshold
        with torch.no_grad():
            self.merit = torch.full_like(self.y, float("-inf"), dtype=self.x.dtype)
            for images in (self.x, self.found.clone()):
                self._keep(self._all, images, self._merit(*self._seen(images), self.y))
        if self._searched_alike(threshold):
            return self.found.clone()
        wrong_classes = self.classes - 1
        self._search(self._strongest, None)
        for _ in range(restarts):
            self._search(self._strongest, self._random())
        for _ in range(restarts):
            for rank in range(wrong_classes):
                self._search(self._class(self.ranked[:, rank]), self._random())
        for confidence in CONFIDENCES:
            self._search(self._confident(confidence), self._random())
        if self.score == "log_likelihood":
            for rank in range(wrong_classes):
                self._search(self._centroid(self.ranked[:, rank]), None)
        return self.found.clone()

    def _searched_alike(self, threshold: float) -> bool:
        """Has a stricter threshold been searched with this objective, up to a constant?

        A posterior of 0.5 is more than all others together, so from there on the surplus is the
        smaller of the two whatever the threshold: ``found`` is as far as the search gets.
        """
        done, self.majority = self.majority, self.score == "posterior" and threshold >= 0.5
        return done and self.majority

    @property
    def _all(self) -> Tensor:
        return torch.arange(len(self.x), device=self.x.device)

    def _random(self) -> Tensor:
        # Drawn for all images, so that an image's start does not depend on the others' fate.
        return random_start(self.x, self.ball["eps"], self.ball["norm"], self.generator)

    def _seen(self, images: Tensor):
        return _look(self.model, images, self.score)

    def _merit(self, logits, features, likelihood, y) -> Tensor:
        """The joint objective of the likeliest wrong class: above 0 only if the attack is done."""
        wrong = logits.masked_fill(_one_hot(logits, y), float("-inf")).argmax(1)
        return torch.minimum(*_joint(logits, features, likelihood, wrong, self.threshold))

    def _keep(self, rows: Tensor, images: Tensor, merit: Tensor) -> None:
        better = merit > self.merit[rows]
        self.merit[rows[better]] = merit[better]
        self.found[rows[better]] = images[better]

    def _search(self, value: Callable, start: Tensor | None) -> None:
        rows = (self.merit <= _CLEAR).nonzero().squeeze(1)
        if not len(rows):
            return

        def objective(images: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
            seen, at = self._seen(images), rows[within]
            merit = self._merit(*seen, self.y[at])
            return value(seen, at, merit), merit

        start = None if start is None else start[rows]
        wanted: Objective = objective
        self._keep(rows, *ascend(wanted, self.x[rows], start=start, goal=_CLEAR, **self.ball))

    # --- what is maximised: (seen, rows, merit) -> [n] ------------------------------------------

    @staticmethod
    def _strongest(seen, rows, merit) -> Tensor:
        return merit

    def _class(self, target: Tensor) -> Callable:
        return lambda seen, rows, merit: torch.minimum(*_joint(*seen, target[rows], self.threshold))

    def _confident(self, confidence: float) -> Callable:
        def value(seen, rows, merit):
            own = _one_hot(seen[0], self.y[rows])
            true = seen[0].gather(1, self.y[rows].unsqueeze(1)).squeeze(1)
            margin = seen[0].masked_fill(own, float("-inf")).amax(1) - true
            return margin.clamp_max(confidence)

        return value

    def _centroid(self, target: Tensor) -> Callable:
        means = self.model.head.means

        def value(seen, rows, merit):
            return -(seen[1] - means[target[rows]]).square().sum(1) / 2

        return value
