"""The study of the likelihood term: LDAT as written, one thing changed at a time."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ldatlib.report.likelihood_model import critical_weight
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


def likelihood_study(
    names: Sequence[str],
    trained: Sequence[Train],
    validated: Sequence[Basic],
    tested: Sequence[Basic],
) -> pd.DataFrame:
    """One row a training of the ablation: accuracies in percent, and where the features lie.

    Validation and test images apart; distances are those of clean validation images after the
    last epoch, in feature units. ``separation`` is the distance between class means over the root
    mean squared distance within a class, ``critical_weight`` what follows from it.
    """
    rows = []
    for name, training, val, test in zip(names, trained, validated, tested, strict=True):
        row: dict[str, Any] = {"training": name, "seed": training.seed}
        for split, record in (("val", val), ("test", test)):
            row[f"{split}_natural"] = 100 * record.clean_accuracy.value
            for key, column in record.attacks.items():
                row[f"{split}_{key}"] = 100 * column.robust_accuracy.value
        row |= {key: training.last.get(key, float("nan")) for key in _FEATURES}
        row["separation"] = row["val_between_classes"] / row["val_within_class"]
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
    for (_, row), record in zip(table.iterrows(), tested, strict=True):
        read = {f"{title}, test": value for title, value in basic_row(record).items()}
        read["L2 PGD, validation"] = f"{row['val_l2_pgd']:.1f}"
        read |= {title: f"{row[key]:.2f}" for key, title in _FEATURES.items()}
        read["separation"] = f"{row['separation']:.2f}"
        rows[row["training"]] = read
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("changed")


def best_by_validation(table: pd.DataFrame, key: str = "val_l2_pgd") -> str:
    """The training that keeps most validation images under PGD of LDAT's own norm."""
    return table.loc[table[key].idxmax(), "training"]
