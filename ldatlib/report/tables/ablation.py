"""Table 3, and the rows of every ablation."""

import pandas as pd

from ldatlib.report import paper, words
from ldatlib.report.words import column_title
from ldatlib.study.records import Basic


def basic_row(record: Basic) -> dict[str, str]:
    """Natural accuracy and PGD in both norms, for reading."""
    row = {column_title("natural"): words.percent(record.clean_accuracy)}
    return row | {
        column_title(key): words.percent(column.robust_accuracy)
        for key, column in record.attacks.items()
    }


def table3(records: dict[float, Basic]) -> pd.DataFrame:
    """Table 3 as numbers: beta -> natural, PGD L-inf and L2 in percent with Wilson bounds."""
    rows = []
    for beta, record in records.items():
        row = {"beta": beta, **words.columns("natural", record.clean_accuracy)}
        for key, column in record.attacks.items():
            row |= words.columns(key, column.robust_accuracy)
        rows.append(row)
    return pd.DataFrame(rows)


def table3_beside_paper(records: dict[float, Basic], dataset: str) -> pd.DataFrame:
    """Table 3 for reading: rows are sources, columns beta."""
    printed = paper.table(3).set_index("beta")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for beta, record in records.items():
        for name, value in basic_row(record).items():
            rows.setdefault((f"measured, {dataset}", name), {})[f"beta {beta:g}"] = value
    for key, column in (("natural", "natural"), ("linf_pgd", "robust")):
        rows["paper, CIFAR-10", column_title(key)] = {
            f"beta {beta:g}": f"{value:.2f}" for beta, value in printed[column].items()
        }
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["source", "accuracy"])
    return frame[sorted(frame, key=lambda name: float(name.removeprefix("beta ")))]
