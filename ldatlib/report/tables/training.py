"""What the trainings cost and where they ended."""

from collections.abc import Sequence

import pandas as pd

from ldatlib.report import glossary
from ldatlib.study.records import Train


def trainings(records: Sequence[Train]) -> pd.DataFrame:
    """One row a training: what it cost and where it ended on validation images."""
    return pd.DataFrame(
        {
            "defence": glossary.defence(record.defence),
            "seed": record.seed,
            "epochs": record.last["epoch"],
            "seconds": record.seconds,
            "images/s": record.images_per_second,
            "val clean %": round(100 * record.last["val_clean_accuracy"], 1),
            "val PGD %": round(100 * record.last["val_robust_accuracy"], 1),
            "best epoch": record.best["epoch"],
            "val PGD % at best": round(100 * record.best["val_robust_accuracy"], 1),
        }
        for record in records
    )
