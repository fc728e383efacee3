"""Reject what the model is unsure of: Section 4.6 of the paper, Fig. 8 and 9.

A score says how sure the network is of an image; below a threshold the image is rejected. Two
scores: the largest posterior (the paper's "softmax of the likelihood", any head) and the
log-likelihood of the features, which only a Gaussian-mixture head has. Thresholds are frozen on
*validation* images, once, and are the same for every attack.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.evaluation.robustness import from_bits, share

SCORES = {"posterior": "largest posterior", "log_likelihood": "log-likelihood log p(f)"}
PAPER_THRESHOLD = 0.6


def scores_of(model: nn.Module) -> tuple[str, ...]:
    """The scores a model has: the likelihood only with a Gaussian-mixture head."""
    has_likelihood = hasattr(getattr(model, "head", None), "log_likelihood")
    return tuple(SCORES) if has_likelihood else ("posterior",)


def score_images(
    model: nn.Module, x: Tensor, score: str = "posterior", batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Scores [N] and predicted classes [N] of images in [0,1].

    ``"posterior"`` lies in [1/C, 1]; ``"log_likelihood"`` is in nats and unbounded below.

    Raises ``UserError`` for an unknown score, and for the likelihood of a model without one.
    """
    if score not in SCORES:
        raise UserError(f"unknown score {score!r}; known: {', '.join(SCORES)}")
    if score not in scores_of(model):
        raise UserError(
            "a model with a linear head has no likelihood; use the posterior, or a "
            "Gaussian-mixture head"
        )
    scores, classes = [], []
    with torch.no_grad():
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


def summary(counts: Counts) -> dict:
    """A record of the outcomes: the four counts, and rates with their intervals."""
    n = counts.total
    success = torch.arange(n) < counts.rejected_wrong + counts.accepted_right
    missed = torch.arange(n) < counts.accepted_wrong
    return {
        "accepted_right": counts.accepted_right,
        "accepted_wrong": counts.accepted_wrong,
        "rejected_right": counts.rejected_right,
        "rejected_wrong": counts.rejected_wrong,
        "defence_success": share(success),
        "robust_error_under_rejection": share(missed),
    }


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


# --- what figures, tables and the widget ask of a record of kind "detection" -------------------


def scored(record: dict, score: str, name: str) -> tuple[Tensor, Tensor]:
    """Scores [N] (float64) and right [N] of one set: ``"val"``, ``"clean"`` or an attack's key.

    Raises ``UserError`` where the record is of another kind, or lacks the score or the set.
    """
    if not isinstance(record, dict) or record.get("kind") != "detection":
        kind = record.get("kind") if isinstance(record, dict) else type(record).__name__
        raise UserError(f"a detection record is needed, not {kind}; compute it with run.detection")
    if score not in record["scores"]:
        known = ", ".join(record["scores"])
        title = record.get("title", record.get("defence", "this model"))
        reason = " (a linear head has no likelihood)" if score == "log_likelihood" else ""
        raise UserError(f"{title} has no score {score!r}{reason}; known: {known}")
    sets = record["scores"][score]["sets"]
    if name not in sets:
        raise UserError(f"no images {name!r} in this record; known: {', '.join(sets)}")
    values = torch.tensor(sets[name]["score"], dtype=torch.float64)
    return values, from_bits(sets[name]["right"])


def attacked_sets(record: dict) -> list[str]:
    """``"clean"`` and the attacks of a record, in the order of Table 1: all but ``"val"``."""
    sets = next(iter(record["scores"].values()))["sets"]
    order = ["clean", *(f"{norm}_{method}" for norm in ("linf", "l2") for method in METHODS)]
    return [name for name in order if name in sets]


def score_range(record: dict, score: str) -> tuple[float, float]:
    """[0, 1] for the posterior, smallest to largest score of the record for the likelihood."""
    scored(record, score, "val")
    if score == "posterior":
        return 0.0, 1.0
    values = [v for entry in record["scores"][score]["sets"].values() for v in entry["score"]]
    return min(values), max(values)


def check_threshold(record: dict, score: str, threshold: float) -> None:
    """Refuse a threshold outside the score's range, where it accepts all or nothing."""
    low, high = score_range(record, score)
    if not low <= threshold <= high:  # NaN included
        raise UserError(
            f"a threshold on the {SCORES[score]} lies between {low:g} and {high:g} here, "
            f"not {threshold:g}"
        )


def thresholds(record: dict, score: str) -> dict[str, float | None]:
    """Title -> threshold, as Fig. 9 has them: none, the paper's, and the two frozen ones."""
    scored(record, score, "val")
    stored = record["scores"][score]["thresholds"]
    found = {"no threshold": None}
    if stored["paper"] is not None:
        found[f"{stored['paper']:g} (paper)"] = stored["paper"]
    return found | {"95% frozen": stored["accept_95"], "99% frozen": stored["accept_99"]}


def groups(record: dict, score: str, name: str) -> tuple[Tensor, Tensor]:
    """What a ROC tells apart: scores of clean correct images, and of successful adversarial ones.

    Successful: wrong now and right before. For ``"clean"`` and ``"val"`` the second group is the
    images that the network gets wrong without any attack.
    """
    values, right = scored(record, score, name)
    if name in ("clean", "val"):
        return values[right], values[~right]
    clean, clean_right = scored(record, score, "clean")
    return clean[clean_right], values[clean_right & ~right]


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


def outcomes(record: dict, score: str, threshold: float | None) -> dict[str, dict]:
    """What a threshold does to each set of the test images; None accepts everything.

    Per set the ``summary``, ``rejection`` (share of all its images) and ``auc``; beside them
    ``"linf"`` and ``"l2"``, the worst case: an image is missed where *some* attack of that norm
    is accepted and wrong.
    """
    if threshold is not None:
        check_threshold(record, score, threshold)
    cut = float("-inf") if threshold is None else threshold
    found, missed = {}, {}
    for name in attacked_sets(record):
        values, right = scored(record, score, name)
        found[name] = summary(count(values, right, cut))
        found[name] |= {
            "rejection": share(values < cut),
            "auc": roc(*groups(record, score, name))["auc"],
        }
        norm = name.partition("_")[0]
        wrong = (values >= cut) & ~right
        missed[norm] = missed.get(norm, torch.zeros_like(wrong)) | wrong
    for norm in ("linf", "l2"):
        if norm in missed:
            found[norm] = {"robust_error_under_rejection": share(missed[norm])}
    return found


def outcome_rows(record: dict, score: str) -> list[dict]:
    """``outcomes`` at each of ``thresholds`` as flat rows for a table; shares in percent."""
    rows = []
    for title, threshold in thresholds(record, score).items():
        for name, found in outcomes(record, score, threshold).items():
            row = {"defence": record["defence"], "score": score, "threshold": title}
            row |= {"cut": threshold, "set": name if "auc" in found else f"{name}_worst_case"}
            for key, value in found.items():
                if isinstance(value, dict):
                    ends = {"": "value", "_low": "low", "_high": "high"}
                    row |= {f"{key}{e}": round(100 * value[v], 2) for e, v in ends.items()}
                else:
                    row[key] = value
            rows.append(row)
    return rows


def recorded_choice(record: dict) -> dict:
    """The threshold to show where nobody moves a slider: the last one stored, else the frozen.

    ``threshold``, ``score``, ``attack``, ``split`` and ``source``.
    """
    stored = [e for e in record.get("exploratory", []) if e["score"] in record["scores"]]
    if stored:
        return {**stored[-1], "source": "stored from the widget, exploratory"}
    names = attacked_sets(record)
    return {
        "threshold": record["scores"]["posterior"]["thresholds"]["accept_95"],
        "score": "posterior",
        "attack": next((name for name in names if name != "clean"), "clean"),
        "split": "test",
        "source": "frozen on validation images, 95% accepted",
    }
