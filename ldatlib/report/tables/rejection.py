"""The detector over all thresholds, by the share of clean images that it accepts."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ldatlib.evaluation import rejection
from ldatlib.report import detector, glossary, words
from ldatlib.report.words import NORMS
from ldatlib.study.records import Adaptive, Detection, Share

# Columns of ``robust_FRACTION``, in the order in which they are shown.
FRACTIONS = ("0", *(f"{fraction:g}" for fraction in rejection.FRACTIONS))


def rejection_rows(adaptive: Sequence[Adaptive], ordinary: Sequence[Detection]) -> pd.DataFrame:
    """A row a network, norm, score and share of clean validation images that is accepted.

    ``ordinary``: the detection records of the same networks. ``clean_acceptance`` is of the right
    test images, ``robust_0`` to ``robust_1`` of all images (robust with rejection, where images
    within that fraction of the budget may not be refused), ``error`` among the accepted (empty
    where nothing is). No row is given by records made before these attacks were, and by networks
    that have no validation image right.
    """
    rows = []
    for record, seen in zip(adaptive, ordinary, strict=True):
        for norm, scores in (record.highest or {}).items():
            for score, highest in scores.items():
                count = record.images
                clean = (v[:count] for v in detector.scored(seen, score, "clean"))
                lowest = {} if record.lowest is None else record.lowest[norm][score]
                val = detector.scored(seen, score, "val")
                if not val[1].any():
                    continue  # nothing to freeze a threshold on
                points = rejection.curve(
                    val,
                    (next(clean), next(clean)),
                    detector.values(highest),
                    {float(f): detector.values(entry) for f, entry in lowest.items()},
                )
                first = {"defence": record.defence, "seed": record.seed, "norm": norm}
                for point in points:
                    row: dict[str, Any] = first | {"score": score}
                    row |= {"acceptance": point.acceptance, "threshold": point.threshold}
                    row |= words.columns("clean_acceptance", Share(**point.clean_acceptance))
                    for fraction, kept in point.robust.items():
                        row |= words.columns(f"robust_{fraction}", Share(**kept))
                    if point.error_among_accepted:
                        row |= words.columns("error", Share(**point.error_among_accepted))
                    rows.append(row | {"images": count, "ok": record.ok})
    columns = ["defence", "seed", "norm", "score", "acceptance", "error", "error_low", "error_high"]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*frame.columns, *(c for c in columns if c not in frame)])


def rejection_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """``rejection_rows`` with titles, and shares as "value ± half the interval"."""
    rows = {}
    robust = glossary.title("detection_robust")
    for _, row in frame.iterrows():

        def shown(column: str, row: Any = row) -> str:
            return "" if pd.isna(row[column]) else words.from_columns(row, column)

        accepted = f"{100 * row.acceptance:.0f}%"
        key = words.network(row.defence, row.ok), NORMS[row.norm], row.score, accepted
        rows[key] = {glossary.title("clean_acceptance"): shown("clean_acceptance")}
        for fraction in FRACTIONS:
            within = "" if fraction == "0" else f", none refused within {fraction} eps"
            rows[key][robust + within] = shown(f"robust_{fraction}")
        rows[key][glossary.title("error_among_accepted")] = shown("error")
    result = pd.DataFrame.from_dict(rows, orient="index")
    names = ["defence", "norm", "score", "accepted in validation"]
    result.index = pd.MultiIndex.from_tuples(result.index, names=names)
    return result
