"""Tables 1 and 2, and the spread over seeds."""

from collections.abc import Sequence

import pandas as pd

from ldatlib.defences import TITLES
from ldatlib.report import glossary, paper, words
from ldatlib.report.comparisons import SEED_COLUMNS, right_images
from ldatlib.report.words import NORMS, column_title
from ldatlib.study.records import Share, Whitebox


def table1(records: Sequence[Whitebox]) -> pd.DataFrame:
    """Table 1 as numbers, a row a record: ``natural``, a column an attack, worst case per norm."""
    rows = []
    for record in records:
        row = {"defence": record.defence, "seed": record.seed, "ok": record.ok}
        row |= words.columns("natural", record.clean_accuracy)
        for key, column in record.attacks.items():
            row |= words.columns(key, column.robust_accuracy)
        for norm, share in record.worst_case.items():
            row |= words.columns(f"{norm}_worst_case", share)
        rows.append(row | {"images": record.clean_accuracy.count})
    return pd.DataFrame(rows)


def table1_beside_paper(records: Sequence[Whitebox], dataset: str, number: int = 1) -> pd.DataFrame:
    """Table 1 (or 2) for reading: measured (± half the 95% interval) and the paper's numbers."""
    rows = {}
    for record in records:
        seed = f", seed {record.seed}" if record.seed else ""
        name = words.network(record.defence, record.ok)
        rows[name, f"measured{seed}, {dataset}"] = {
            column_title(key): words.percent(share) for key, share in _in_order(record).items()
        }
    printed = paper.table(number).set_index("defence")
    data = {1: "CIFAR-10", 2: "CIFAR-100"}[number]
    for defence, row in printed.iterrows():
        rows[glossary.defence(defence), f"paper, {data}"] = {
            column_title(key): f"{value:.2f}" for key, value in row.items()
        }
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["defence", "source"])
    order = {title: position for position, title in enumerate(TITLES.values())}
    return frame.sort_index(
        level=0, sort_remaining=False, key=lambda names: names.map(lambda n: order.get(n, 99))
    )


def _in_order(record: Whitebox) -> dict[str, Share]:
    """Column -> share: natural, then each norm's attacks and their worst case."""
    shares = {"natural": record.clean_accuracy}
    for norm in NORMS:
        for key, column in record.attacks.items():
            if key.startswith(norm):
                shares[key] = column.robust_accuracy
        if norm in record.worst_case:
            shares[norm] = record.worst_case[norm]
    return shares


def over_seeds(records: Sequence[Whitebox], keys: Sequence[str] = SEED_COLUMNS) -> pd.DataFrame:
    """Methods trained with several seeds: a row a defence and column, in percent.

    ``mean``, ``sd`` (of one training, n - 1), ``low`` and ``high`` over the ``seeds`` trainings;
    keys as for ``comparisons.right_images``. Defences with a single training are left out.
    """
    rows = []
    for defence in dict.fromkeys(record.defence for record in records):
        own = [record for record in records if record.defence == defence]
        if len(own) < 2:
            continue
        for key in keys:
            values = pd.Series([100 * right_images(r, key).double().mean().item() for r in own])
            row = {"defence": defence, "column": key, "seeds": len(own), "mean": values.mean()}
            rows.append(row | {"sd": values.std(), "low": values.min(), "high": values.max()})
    return pd.DataFrame(rows, columns=["defence", "column", "seeds", "mean", "sd", "low", "high"])
