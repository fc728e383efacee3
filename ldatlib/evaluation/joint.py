"""Wrong *and* accepted as one number: what an attack on a classifier that may refuse maximises.

For a class k the smaller of

- its margin, ``z_k - max_{j != k} z_j``: above 0 where k is predicted, and
- its surplus, the score over the threshold: above 0 where the image is accepted.

For the posterior p_k the surplus is its log-odds less those of the threshold, which does not
saturate where p_k rounds to 1; margin and log-odds are both in units of logits. Any other score
has units of its own: margin and surplus are then divided by what is usual on validation images.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation import detection
from ldatlib.evaluation.ascent import margins, true_class
from ldatlib.evaluation.detection import Score

# A margin and surplus this far above 0 stays there in other batches.
CLEAR = 1e-3
# Records hold scores with six digits: what rounds to the threshold is accepted.
_LARGEST_POSTERIOR = 1 - 5e-7
_LOOKED_AT = 32


@dataclass(frozen=True)
class Scale:
    """What margins (in logits) and scores are divided by; both above 0."""

    margin: float = 1.0
    score: float = 1.0


UNIT = Scale()


@dataclass(frozen=True)
class Seen:
    """Logits [N, C]; score [N], but of the posterior, which depends on the class; features."""

    logits: Tensor
    score: Tensor | None = None
    features: Tensor | None = None


def check_score(model: nn.Module, score: Score) -> None:
    """Raises ``UserError`` for an unknown score, or one that the model does not have."""
    if callable(score):
        return
    if score not in detection.SCORES:
        raise UserError(f"unknown score {score!r}; known: {', '.join(detection.SCORES)}")
    if score not in detection.scores_of(model):
        raise UserError("a model with a linear head has no likelihood; use the posterior")


def check_effort(restarts: int, queries: int) -> None:
    """Raises ``UserError`` where a search would not begin."""
    for name, value in (("restarts", restarts), ("queries", queries)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")


def look(model: nn.Module, images: Tensor, score: Score) -> Seen:
    """What ``joint`` needs of images [N, C, H, W]."""
    if score == "posterior":
        return Seen(model(images))
    if score == "log_likelihood":
        features = model.features(images)
        return Seen(model.head(features), model.head.log_likelihood(features), features)
    assert callable(score), "check_score has let it pass"
    return Seen(model(images), detection.own_score(model, images, score, attacked=True))


def joint(
    seen: Seen, target: Tensor, threshold: float, scale: Scale = UNIT
) -> tuple[Tensor, Tensor]:
    """Margin and surplus [N] of the class ``target`` [N]; both above 0: predicted and accepted."""
    value = seen.logits.gather(1, target.unsqueeze(1)).squeeze(1)
    others = seen.logits.masked_fill(true_class(seen.logits, target), float("-inf"))
    if seen.score is None:
        surplus = value - others.logsumexp(1) - log_odds(threshold)
    else:
        surplus = (seen.score - threshold) / scale.score
        # At the threshold an image is accepted; a score that is counted is often exactly there.
        surplus = surplus.masked_fill(surplus == 0, 2 * CLEAR)
    return (value - others.amax(1)) / scale.margin, surplus


def sureness(seen: Seen, scale: Scale = UNIT) -> Tensor:
    """The score of the predicted class [N], in log-odds or over what is usual."""
    return joint(seen, seen.logits.argmax(1), no_threshold(seen), scale)[1]


def no_threshold(seen: Seen) -> float:
    """The threshold over which the surplus is the score itself: half has log-odds of 0."""
    return 0.5 if seen.score is None else 0.0


def strongest_wrong(logits: Tensor, y: Tensor) -> Tensor:
    """The likeliest wrong class, [N, C] and [N] -> [N]."""
    return logits.masked_fill(true_class(logits, y), float("-inf")).argmax(1)


def log_odds(threshold: float) -> float:
    """Of a posterior; as far up as records tell it from 1."""
    p = min(max(threshold, 1e-9), _LARGEST_POSTERIOR)
    return math.log(p) - math.log1p(-p)


def scale_of(model: nn.Module, x: Tensor, y: Tensor, score: Score, batch_size: int = 256) -> Scale:
    """What is usual on *validation* images: the median size of margins, and of a score's spread.

    ``x`` [N, ...] in [0,1], ``y`` [N]. The posterior's log-odds are in units of logits already.

    Raises ``UserError`` as ``check_score``, and for no images.
    """
    check_score(model, score)
    if not len(x):
        raise UserError("margin and score are scaled on validation images; there are none")
    if score == "posterior":
        return UNIT
    parts = []
    with frozen(model), torch.no_grad():
        for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            seen = look(model, images, score)
            parts.append(torch.stack([margins(seen.logits, labels), _score(seen)]))
    margin, values = torch.cat(parts, 1).double()
    low, high = values.quantile(values.new_tensor([0.25, 0.75]))
    return Scale(_positive(margin.abs().median()), _positive((high - low) / 2))


def _score(seen: Seen) -> Tensor:
    assert seen.score is not None, "the posterior has no scale of its own"
    return seen.score.to(seen.logits.dtype)


def _positive(value: Tensor) -> float:
    """A scale that can be divided by: 1 where all are alike."""
    found = float(value)
    return found if 0 < found < float("inf") else 1.0


def differentiable(model: nn.Module, x: Tensor, score: Score) -> bool:
    """Has the score a gradient in the images, for at least half of the first 32?

    A score that is counted, sorted or computed elsewhere has none; Square attacks it.
    """
    if not callable(score):
        return True
    with frozen(model), torch.enable_grad():
        images = x[:_LOOKED_AT].detach().clone().requires_grad_(True)
        values = detection.own_score(model, images, score)
        if not values.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(values.sum(), images, materialize_grads=True)
    steep = gradient.nan_to_num(0, 0, 0).flatten(1).abs().amax(1) > 0
    return bool(steep.float().mean() >= 0.5)
