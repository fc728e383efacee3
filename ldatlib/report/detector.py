"""What the records of the detector say: scores, thresholds, and what a threshold does."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.evaluation import detection
from ldatlib.evaluation.detection import Counts
from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import glossary
from ldatlib.report.comparisons import share
from ldatlib.report.words import NO_THRESHOLD, NOT_FROZEN, THRESHOLDS
from ldatlib.study.kinds import detector as kinds
from ldatlib.study.records import Detection, Record, Scored, Share

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class Outcome:
    """What a threshold does to one set of images."""

    counts: Counts
    defence_success: Share
    robust_error_under_rejection: Share
    rejection: Share
    # Of clean right images against successful adversarial ones; None where one is empty.
    auc: float | None


@dataclass(frozen=True)
class Choice:
    """A threshold to show, on which set, and where it comes from."""

    threshold: float
    score: str
    attack: str
    split: str
    source: str


def values(entry: Scored) -> tuple[Tensor, Tensor]:
    """Scores [N] (float64) and right [N] of a set."""
    return torch.tensor(entry.score, dtype=torch.float64), from_bits(entry.right)


def missed(entry: Scored, cut: float, count: int | None = None) -> Tensor:
    """Wrong and accepted, bool [N], of a set; of its first ``count`` images."""
    return kinds.missed(entry.score, entry.right, cut, count)


def scored(record: Record, score: str, name: str) -> tuple[Tensor, Tensor]:
    """Scores [N] (float64) and right [N] of one set: ``"val"``, ``"clean"`` or an attack's key.

    Raises ``UserError`` where the record is of another kind, or lacks the score or the set.
    """
    if not isinstance(record, Detection):
        kind = getattr(record, "kind", type(record).__name__)
        raise UserError(f"a detection record is needed, not {kind}; compute it with run.records")
    if score not in record.scores:
        known = ", ".join(record.scores)
        reason = " (a linear head has no likelihood)" if score == "log_likelihood" else ""
        raise UserError(f"{record.title} has no score {score!r}{reason}; known: {known}")
    sets = record.scores[score].sets
    if name not in sets:
        raise UserError(f"no images {name!r} in this record; known: {', '.join(sets)}")
    return values(sets[name])


def attacked_sets(record: Detection) -> list[str]:
    """``"clean"`` and the attacks of a record, in the order of Table 1: all but ``"val"``."""
    sets = next(iter(record.scores.values())).sets
    order = ["clean", *(f"{norm}_{method}" for norm in NORMS for method in METHODS)]
    return [name for name in order if name in sets]


def first_attack(record: Detection) -> str:
    """The first attack of Table 1 that a record has; ``"clean"`` where it has none."""
    return next((name for name in attacked_sets(record) if name != "clean"), "clean")


def check_same_data(records: Mapping[str, Detection]) -> None:
    """Refuse no records, those of another kind, and of other data than the first."""
    if not isinstance(records, Mapping) or not records:
        raise UserError("no detection records to explore; compute them with run.records")
    for name, record in records.items():
        for kept in ("val", "clean"):
            scored(record, "posterior", kept)
        if record.fingerprint != next(iter(records.values())).fingerprint:
            raise UserError(f"the record of {name} is of other data than the first; recompute it")


def score_range(record: Detection, score: str) -> tuple[float, float]:
    """[0, 1] for the posterior, smallest to largest score of the record for the likelihood."""
    scored(record, score, "val")
    if score == "posterior":
        return 0.0, 1.0
    found = [v for entry in record.scores[score].sets.values() for v in entry.score]
    return min(found), max(found)


def check_threshold(record: Detection, score: str, threshold: float) -> None:
    """Refuse a threshold outside the score's range, where it accepts all or nothing."""
    low, high = score_range(record, score)
    if not low <= threshold <= high:  # NaN included
        raise UserError(
            f"a threshold on the {glossary.title(score)} lies between {low:g} and {high:g} here, "
            f"not {threshold:g}"
        )


def thresholds(record: Detection, score: str) -> dict[str, float | None]:
    """Title -> threshold, as Fig. 9 has them: none, the paper's, and the two frozen ones.

    One that was not frozen is left out: no validation image is right (``words.NOT_FROZEN``).
    """
    scored(record, score, "val")
    stored = record.scores[score].thresholds
    return {NO_THRESHOLD: None} | {
        title: stored[name] for name, title in THRESHOLDS.items() if stored[name] is not None
    }


def frozen_threshold(record: Detection, score: str) -> float | None:
    """The threshold that accepts 95% of the clean validation images that are right.

    None where no validation image is: there is nothing to freeze it on.
    """
    return record.scores[score].thresholds["accept_95"]


def first_threshold(record: Detection, score: str) -> float:
    """The one to begin with: the frozen one, else the paper's, else the middle of the scores."""
    low, high = score_range(record, score)
    stored = record.scores[score].thresholds
    for found in (stored["accept_95"], stored["paper"]):
        if found is not None:
            return min(max(found, low), high)
    return (low + high) / 2


def groups(record: Detection, score: str, name: str) -> tuple[Tensor, Tensor]:
    """What a ROC tells apart: scores of clean correct images, and of successful adversarial ones.

    Successful: wrong now and right before. For ``"clean"`` and ``"val"`` the second group is the
    images that the network gets wrong without any attack.
    """
    found, right = scored(record, score, name)
    if name in ("clean", "val"):
        return found[right], found[~right]
    clean, clean_right = scored(record, score, "clean")
    return clean[clean_right], found[clean_right & ~right]


def defence_success(scores: Tensor, right: Tensor, cut: float) -> Share:
    """The paper's rate: rejected and wrong, or accepted and right."""
    return share((scores >= cut) == right)


def outcomes(record: Detection, score: str, threshold: float | None) -> dict[str, Outcome]:
    """What a threshold does to each set of the test images; None accepts everything."""
    cut = _cut(record, score, threshold)
    found = {}
    for name in attacked_sets(record):
        scores, right = scored(record, score, name)
        found[name] = Outcome(
            detection.count(scores, right, cut),
            defence_success(scores, right, cut),
            share((scores >= cut) & ~right),
            share(scores < cut),
            detection.roc(*groups(record, score, name))["auc"],
        )
    return found


def missed_at_worst(record: Detection, score: str, threshold: float | None) -> dict[str, Share]:
    """Norm -> share of images that *some* attack of that norm gets accepted and wrong."""
    cut = _cut(record, score, threshold)
    sets = record.scores[score].sets
    found = {}
    for norm in NORMS:
        attacks = [missed(e, cut) for name, e in sets.items() if name.startswith(f"{norm}_")]
        if attacks:
            found[norm] = share(torch.stack(attacks).any(0))
    return found


def _cut(record: Detection, score: str, threshold: float | None) -> float:
    if threshold is None:
        return float("-inf")
    check_threshold(record, score, threshold)
    return threshold


def recorded_choice(record: Detection) -> Choice:
    """The threshold to show where nobody moves a slider: the last one stored, else the frozen."""
    stored = [entry for entry in record.exploratory if entry.score in record.scores]
    if stored:
        last, source = stored[-1], "stored from the widget, exploratory"
        return Choice(last.threshold, last.score, last.attack, last.split, source)
    attack = first_attack(record)
    source = "frozen on validation images, 95% accepted"
    if frozen_threshold(record, "posterior") is None:
        source = f"the paper's; frozen: {NOT_FROZEN}"
    return Choice(first_threshold(record, "posterior"), "posterior", attack, "test", source)
