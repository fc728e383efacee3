"""What the threshold explorer counts, for every cut at once: small enough for a page.

Scores become whole numbers, the cuts that they reach, so that a page counts at each cut of the
grid exactly what ``evaluation.detection.count`` does, with some hundred small numbers a set
whatever the number of images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.evaluation import detection
from ldatlib.report import detector, glossary
from ldatlib.report.words import THRESHOLDS, set_title
from ldatlib.study.records import Detection

# Steps of the slider over the range of a score.
STEPS = 200


@dataclass(frozen=True)
class Grid:
    """The cuts of one score of one network, ``STEPS + 1`` of them, rising from the lowest score."""

    cuts: Tensor  # [STEPS + 1], float64

    @property
    def even(self) -> Tensor:
        """Where the cuts would lie without thresholds of special interest."""
        return _even(float(self.cuts[0]), float(self.cuts[-1]))

    def nearest(self, threshold: float) -> int:
        """The place of the cut that lies nearest."""
        return int((self.cuts - threshold).abs().argmin())

    def has(self, threshold: float) -> bool:
        """Whether a cut is this threshold, but for what adding up steps in a browser rounds."""
        near = float(self.cuts[self.nearest(threshold)])
        return abs(near - threshold) <= 1e-9 * float(self.cuts[-1] - self.cuts[0])

    def reached(self, scores: Tensor) -> Tensor:
        """How many cuts accept each score [N]: at cut k it is accepted where this is above k."""
        return torch.searchsorted(self.cuts, scores.contiguous(), right=True)


def grid(record: Detection, score: str, also: float | None = None) -> Grid:
    """Even steps over the score's range; the recorded thresholds, and ``also``, exactly.

    Each takes the place of the cut next to it, so that the same place is about the same cut in
    every network.
    """
    low, high = detector.score_range(record, score)
    cuts = _even(low, high)
    stored = [cut for cut in record.scores[score].thresholds.values() if cut is not None]
    free = torch.ones(len(cuts), dtype=torch.bool)
    # The lowest accepts everything.
    free[0] = False
    for cut in dict.fromkeys([also, *stored]):
        if cut is not None and low < cut <= high:
            place = int((cuts - cut).abs().where(free, torch.inf).argmin())
            cuts[place], free[place] = cut, False
    return Grid(cuts.sort().values)


def _even(low: float, high: float) -> Tensor:
    cuts = torch.linspace(low, high, STEPS + 1, dtype=torch.float64)
    cuts[-1] = high
    return cuts


def rows(
    records: Mapping[str, Detection], also: Mapping[tuple[str, str], float] | None = None
) -> list[dict[str, Any]]:
    """One row a defence, score and set of images: titles, totals, and per cut what it decides.

    ``also``: further exact cuts, by (defence, score). Arrays have ``STEPS + 1`` entries; summed
    from the end to a cut's place they give the images accepted there: ``right`` and ``wrong`` of
    the set, ``clean`` of the unattacked set of the same split, ``good`` and ``bad`` of what the
    ROC tells apart. ``robust``, summed from the start, gives those accepted and right when clean
    and not missed under this attack. The cut at place k is
    ``low + k (high - low) / STEPS``, but for those ``exact`` at the places ``moved``.

    Raises ``UserError`` for no records, or of another kind.
    """
    if not records:
        raise UserError("no detection records to explore; compute them with run.records")
    found = []
    for name, record in records.items():
        detector.scored(record, "posterior", "clean")
        for score in record.scores:
            cuts = grid(record, score, (also or {}).get((name, score)))
            shown = ["val", *detector.attacked_sets(record)]
            found += [_row(name, record, score, key, cuts) for key in shown]
    return found


def _row(name: str, record: Detection, score: str, key: str, cuts: Grid) -> dict[str, Any]:
    values, right = detector.scored(record, score, key)
    clean, clean_right = detector.scored(record, score, "val" if key == "val" else "clean")
    good, bad = detector.groups(record, score, key)
    auc = detection.roc(good, bad)["auc"]

    def entering(scores: Tensor) -> list[int]:
        """Images whose score reaches just this many cuts; the first cut accepts everything."""
        return torch.bincount(cuts.reached(scores) - 1, minlength=len(cuts.cuts)).tolist()

    # Missed at cut k: k < ``fooled``; so robust from there on, until the clean image is refused.
    fooled = cuts.reached(values).where(~right, torch.tensor(0))
    until = cuts.reached(clean)
    held = clean_right & (fooled < until)
    ends = len(cuts.cuts) + 1
    robust = torch.bincount(fooled[held], minlength=ends)
    robust = robust - torch.bincount(until[held], minlength=ends)
    moved = (cuts.cuts != cuts.even).nonzero()[:, 0].tolist()
    stored = record.scores[score].thresholds
    marks = {short: stored[short] for short in THRESHOLDS if stored[short] is not None}
    return {
        "defence": name,
        "score": score,
        "shown": key,
        "title": f"{glossary.defence(name)}, {set_title(key)}",
        "axis": glossary.title(score),
        "auc": "one of the groups is empty" if auc is None else f"AUC {auc:.3f}",
        "of": "wrong" if key in ("clean", "val") else "successful adversarial",
        "low": float(cuts.cuts[0]),
        "high": float(cuts.cuts[-1]),
        "total": len(values),
        "rights": int(right.sum()),
        "cleans": len(clean),
        "goods": len(good),
        "bads": len(bad),
        "marks": list(marks.values()),
        "marked": [THRESHOLDS[short] for short in marks],
        # Enough digits for the eye; counts are exact whatever is written here.
        "moved": moved,
        "exact": [round(value, 6) for value in cuts.cuts[moved].tolist()],
        "right": entering(values[right]),
        "wrong": entering(values[~right]),
        "clean": entering(clean),
        "good": entering(good),
        "bad": entering(bad),
        "robust": robust[:-1].tolist(),
    }
