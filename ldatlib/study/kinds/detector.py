"""The detector: scores and thresholds. Figures 8 and 9."""

import torch
from torch import Tensor

from ldatlib.evaluation import detection
from ldatlib.evaluation.robustness import from_bits, to_bits
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.study.kinds.white_box import WHITE_BOX


def scored(values: Tensor, right: Tensor) -> dict:
    """Scores and verdicts [N] as records hold them: six digits, right as bits."""
    return {"score": [round(v, 6) for v in values.tolist()], "right": to_bits(right)}


def missed(score: list[float], right: str, cut: float, count: int | None = None) -> Tensor:
    """Wrong and accepted, bool [N], of a set of scores and verdicts; of its first ``count``."""
    scores = torch.tensor(score, dtype=torch.float64)
    return ((scores >= cut) & ~from_bits(right))[:count]


class Detection(Kind):
    """Scores of every split and attack; thresholds frozen on validation images."""

    name = "detection"
    reads = (WHITE_BOX,)

    def compute(self, ws, training, device):
        model, saved = ws.model(training), WHITE_BOX.images(ws, training)
        x_val, y_val = (v.to(device) for v in ws.dataset.split("val"))
        y = saved.pop("y").to(device)
        sets = {"clean": saved.pop("x"), **saved}
        scores = {}
        for score in detection.scores_of(model):
            values, predicted = detection.score_images(model, x_val, score)
            right = predicted == y_val
            entries = {"val": scored(values, right)}
            # Frozen on the rounded scores: the record itself accepts the share it promises.
            val = torch.tensor(entries["val"]["score"], dtype=torch.float64)
            thresholds = {
                "paper": detection.PAPER_THRESHOLD if score == "posterior" else None,
                "accept_95": _frozen(val, right.cpu(), 0.95),
                "accept_99": _frozen(val, right.cpu(), 0.99),
            }
            for name, images in sets.items():
                values, predicted = detection.score_images(model, images.to(device), score)
                entries[name] = scored(values, predicted == y)
            scores[score] = {"thresholds": thresholds, "sets": entries}
        return {"scores": scores, "images": len(y)}

    def line(self, record, training):
        scores = ", ".join(record.scores)
        return f"scored {training.label}: {scores} of {record.images} images a set"

    def settings(self, ws, training):
        return {}

    def operations(self, ws, training):
        return 12 * ws.profile.saved_images * operations.forward_of(ws, training)


def _frozen(scores: Tensor, right: Tensor, accept: float) -> float | None:
    """None where no validation image is right: such a network has nothing to accept."""
    return detection.freeze_threshold(scores, right, accept) if right.any() else None


DETECTION = Detection()
