"""The study of the likelihood term: LDAT as written, one thing changed at a time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ldatlib.report.comparisons import mcnemar
from ldatlib.report.likelihood_model import critical_weight
from ldatlib.report.paired import ALPHA, holm
from ldatlib.report.tables.ablation import basic_row
from ldatlib.study.records import Basic, Train

_FEATURES = {
    "smallest_centroid_distance": "smallest centroid distance",
    "val_between_classes": "between class means",
    "val_within_class": "within class",
    "val_own_centroid": "1/2 squared distance to own centroid",
    "val_feature_norm": "feature norm",
    "perturbation_norm": "training perturbation",
}

_NO_SPREAD = "none: no spread around the centroids"
_NOT_LOGGED = "not measured"


def separation(line: Mapping[str, float]) -> float:
    """Delta / r of the small model, of a line of a training's log.

    The root mean squared distance between two centroids over that of features to their own; NaN
    where the log lacks one of them, or every feature lies on its centroid.
    """
    between, own = line.get("val_between_centroids"), line.get("val_own_centroid")
    if between is None or not own:
        return float("nan")
    return between / math.sqrt(2 * own)


def likelihood_study(
    names: Sequence[str],
    trained: Sequence[Train],
    validated: Sequence[Basic],
    tested: Sequence[Basic],
) -> pd.DataFrame:
    """One row a training of the ablation: accuracies in percent, and where the features lie.

    Validation and test images apart; distances are those of clean validation images after the
    last epoch, in feature units. ``critical_weight`` is what follows from the ``separation``; NaN
    where that is.
    """
    rows = []
    for name, training, val, test in zip(names, trained, validated, tested, strict=True):
        row: dict[str, Any] = {"training": name, "seed": training.seed}
        for split, record in (("val", val), ("test", test)):
            row[f"{split}_natural"] = 100 * record.clean_accuracy.value
            for key, column in record.attacks.items():
                row[f"{split}_{key}"] = 100 * column.robust_accuracy.value
        row |= {key: training.last.get(key, float("nan")) for key in _FEATURES}
        row["separation"] = separation(training.last)
        network, defence = training.config["network"], training.config["defence"]
        row["critical_weight"] = critical_weight(
            row["separation"], network["num_classes"], defence["margin"]
        )
        rows.append(row)
    return pd.DataFrame(rows)


def likelihood_study_for_reading(
    names: Sequence[str],
    trained: Sequence[Train],
    validated: Sequence[Basic],
    tested: Sequence[Basic],
) -> pd.DataFrame:
    """The study for reading: test accuracies with half of their interval, validation beside."""
    table = likelihood_study(names, trained, validated, tested)
    rows = {}
    for (_, row), training, record in zip(table.iterrows(), trained, tested, strict=True):
        read = {f"{title}, test": value for title, value in basic_row(record).items()}
        read["L2 PGD, validation"] = f"{row['val_l2_pgd']:.1f}"
        read |= {title: f"{row[key]:.2f}" for key, title in _FEATURES.items()}
        apart = row["separation"]
        read["separation"] = f"{apart:.2f}"
        if pd.isna(apart):
            logged = "val_between_centroids" in training.last
            read["separation"] = _NO_SPREAD if logged else _NOT_LOGGED
        rows[row["training"]] = read
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("changed")


def chosen_by_validation(
    names: Sequence[str], validated: Sequence[Basic], kept: str, key: str = "l2_pgd"
) -> str:
    """The training that validation images choose: most are right under PGD of LDAT's own norm.

    ``kept``, what was chosen before, stays unless the best is told apart from it on these images:
    McNemar, corrected for the number of candidates (Holm); else every new run would choose by
    chance.
    """
    records = dict(zip(names, validated, strict=True))
    rivals = [name for name in names if name != kept]
    p_values = holm([mcnemar(records[name], records[kept], key)[2] for name in rivals])
    better = {
        name: records[name].attacks[key].robust_accuracy.value
        for name, p_value in zip(rivals, p_values, strict=True)
        if p_value < ALPHA
    } | {kept: records[kept].attacks[key].robust_accuracy.value}
    return max(better, key=better.__getitem__)
