"""Reject what the model is unsure of: Section 4.6 of the paper, Fig. 8 and 9.

A score says how sure the network is of an image; below a threshold the image is rejected. Two
scores: the largest posterior (the paper's "softmax of the likelihood", any head) and the
log-likelihood of the features, which only a Gaussian-mixture head has. Thresholds are frozen on
*validation* images, once, and are the same for every attack.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.entry import gated

# (model, images [n, ...]) -> [n], greater where it is surer.
Own = Callable[[nn.Module, Tensor], Tensor]
# One of SCORES, or one of your own.
Score = str | Own
SCORES = {"posterior": "largest posterior", "log_likelihood": "log-likelihood log p(f)"}
PAPER_THRESHOLD = 0.6


def scores_of(model: nn.Module) -> tuple[str, ...]:
    """The scores a model has: the likelihood only with a Gaussian-mixture head."""
    has_likelihood = hasattr(getattr(model, "head", None), "log_likelihood")
    return tuple(SCORES) if has_likelihood else ("posterior",)


@gated
def score_images(
    model: nn.Module,
    x: Tensor,
    score: Score = "posterior",
    batch_size: int = 256,
    attacked: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scores [N] and predicted classes [N] of images in [0,1]; the model in eval mode.

    ``"posterior"`` lies in [1/C, 1]; ``"log_likelihood"`` is in nats and unbounded below. Of
    ``attacked`` images a score of your own is taken as ``own_score`` says.

    Raises ``UserError`` for what the gate refuses (``docs/gate.md``), an unknown score, the
    likelihood of a model without one, and a score of your own that is not one finite number an
    image.
    """
    if callable(score):
        return _own_scores(model, x, score, batch_size, attacked)
    if score not in SCORES:
        raise UserError(f"unknown score {score!r}; known: {', '.join(SCORES)}")
    if score not in scores_of(model):
        raise UserError(
            "a model with a linear head has no likelihood; use the posterior, or a "
            "Gaussian-mixture head (of a Classifier in float32)"
        )
    scores, classes = [], []
    with frozen(model), torch.no_grad():
        for part in x.split(batch_size):
            if score == "log_likelihood":
                features = model.features(part)
                logits = model.head(features)
                scores.append(model.head.log_likelihood(features))
            else:
                logits = model(part)
                scores.append(logits.softmax(1).amax(1))
            classes.append(logits.argmax(1))
    return torch.cat(scores), torch.cat(classes)


def own_score(model: nn.Module, x: Tensor, score: Own, attacked: bool = False) -> Tensor:
    """A score of one's own, [N], checked: one finite number an image, in floating point.

    Where it is ``attacked``, an image may drive it out of its range: infinite is then very large,
    and NaN, of which no threshold is accepted, very small.
    """
    values = score(model, x)
    if not isinstance(values, Tensor) or values.shape != x.shape[:1]:
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise UserError(f"a score is one number an image, [{len(x)}] here, not {found}")
    if not values.is_floating_point():
        values = values.to(x.dtype)
    if attacked:
        most = torch.finfo(values.dtype).max / 8  # differences of such stay finite
        return values.nan_to_num(-most, most, -most)
    if not values.isfinite().all():
        raise UserError("a score is a finite number; this one is NaN or infinite for some image")
    return values


def _own_scores(model, x, score, batch_size, attacked) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        parts = x.split(batch_size)
        scores = [own_score(model, part, score, attacked) for part in parts]
        return torch.cat(scores), torch.cat([model(part).argmax(1) for part in parts])


def freeze_threshold(scores: Tensor, right: Tensor, accept: float) -> float:
    """The threshold that accepts a share ``accept`` of the correctly classified clean images.

    ``scores`` [N] and ``right`` [N] of *validation* images; ``accept`` in (0, 1), 0.95 or 0.99.
    The largest value such that at least that share lies at or above it.
    """
    if not 0 < accept < 1:
        raise UserError(f"the share to accept lies between 0 and 1, not {accept}")
    if not right.any():
        raise UserError("no validation image is classified correctly; nothing to freeze on")
    ordered = scores[right].sort(descending=True).values
    count = -(-len(ordered) * accept // 1)  # rounded up
    return float(ordered[int(count) - 1])


@dataclass(frozen=True)
class Counts:
    """The four outcomes of a threshold over N images; they add up to N."""

    accepted_right: int
    accepted_wrong: int
    rejected_right: int
    rejected_wrong: int

    @property
    def total(self) -> int:
        accepted = self.accepted_right + self.accepted_wrong
        return accepted + self.rejected_right + self.rejected_wrong

    @property
    def defence_success(self) -> float:
        """The paper's rate: (rejected and wrong + accepted and right) / N."""
        return (self.rejected_wrong + self.accepted_right) / self.total


def count(scores: Tensor, right: Tensor, threshold: float) -> Counts:
    """Outcomes at a threshold; an image is accepted where its score is at least that."""
    accepted = scores >= threshold
    return Counts(
        int((accepted & right).sum()),
        int((accepted & ~right).sum()),
        int((~accepted & right).sum()),
        int((~accepted & ~right).sum()),
    )


def roc(clean_scores: Tensor, adversarial_scores: Tensor) -> dict:
    """ROC of telling clean correct images (accepted) from successful adversarial ones.

    Returns ``false_acceptance`` and ``true_acceptance`` (lists over all thresholds), ``threshold``
    and ``auc``; ``auc`` is None where one of the two is empty.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    if not len(clean_scores) or not len(adversarial_scores):
        return {"false_acceptance": [], "true_acceptance": [], "threshold": [], "auc": None}
    labels = torch.cat([torch.ones_like(clean_scores), torch.zeros_like(adversarial_scores)])
    scores = torch.cat([clean_scores, adversarial_scores])
    false, true, thresholds = roc_curve(labels.cpu(), scores.cpu())
    return {
        "false_acceptance": false.tolist(),
        "true_acceptance": true.tolist(),
        "threshold": thresholds.tolist(),
        "auc": float(roc_auc_score(labels.cpu(), scores.cpu())),
    }


def roc_point(good: Tensor, bad: Tensor, threshold: float) -> tuple[float, float]:
    """(false, true) acceptance at one threshold; NaN where a group is empty."""
    return float((bad >= threshold).double().mean()), float((good >= threshold).double().mean())


def histogram(
    scores: Tensor, right: Tensor, low: float, high: float, bins: int = 40
) -> tuple[Tensor, Tensor]:
    """Images per bin [bins], right and wrong; scores outside [low, high] in the outer bins."""
    index = ((scores - low) / ((high - low) or 1.0) * bins).long().clamp(0, bins - 1)
    return (
        torch.bincount(index[right], minlength=bins),
        torch.bincount(index[~right], minlength=bins),
    )
