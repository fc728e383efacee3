"""What AutoAttack and everything else leaves, beside Table 1's attacks."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ldatlib.evaluation.masking.verdicts import below
from ldatlib.report import glossary, words
from ldatlib.report.comparisons import share, survivors
from ldatlib.report.words import NORMS, column_title
from ldatlib.study.records import Adaptive, Autoattack, Masking, Whitebox


def scrutiny(
    whitebox: Sequence[Whitebox],
    auto: Sequence[Autoattack],
    others: Mapping[str, Sequence[Masking | Adaptive]],
) -> pd.DataFrame:
    """A row a network and norm: strongest of Table 1's attacks, AutoAttack, worst case, gap.

    ``others``: defence -> its masking and adaptive records. The gap is the worst case of Table 1's
    attacks, what the paper would report, less that of all attacks.
    """
    rows = []
    for table1, record in zip(whitebox, auto, strict=True):
        more = others.get(record.defence, [])
        for norm, found in record.norms.items():
            right = survivors(table1, record, more, norm)
            keys = [key for key in right if key.startswith(f"{norm}_")]
            strongest = min(keys, key=lambda key: int(right[key].sum()))
            row: dict[str, Any] = {"defence": record.defence, "seed": record.seed, "norm": norm}
            row |= {"strongest_attack": strongest}
            row |= words.columns("strongest", share(right[strongest]))
            row |= words.columns("table1_worst_case", share(right["table1"]))
            row |= words.columns("autoattack", share(right["autoattack"]))
            row |= words.columns("worst_case", share(right["worst_case"]))
            row["gap"] = round(row["table1_worst_case"] - row["worst_case"], 2)
            row["overstated"] = below(right["worst_case"], right["table1"])
            row["black_box_found"] = round(100 * found.black_box.found.value, 2)
            row["skipped"] = ", ".join(found.skipped)
            row["images"] = len(right["table1"])
            row["ok"] = all(r.ok for r in (table1, record, *more))
            rows.append(row)
    return pd.DataFrame(rows)


def scrutiny_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """``scrutiny`` with titles, and shares as "value ± half the interval"."""
    rows = {}
    for _, row in frame.iterrows():
        skipped = f" (without {row.skipped})" if row.skipped else ""
        strongest = f"{words.from_columns(row, 'strongest')} ({column_title(row.strongest_attack)})"
        rows[words.network(row.defence, row.ok, row.seed), NORMS[row.norm]] = {
            glossary.title("strongest"): strongest,
            glossary.title("table1_worst_case"): words.from_columns(row, "table1_worst_case"),
            glossary.title("autoattack"): words.from_columns(row, "autoattack") + skipped,
            glossary.title("all_worst_case"): words.from_columns(row, "worst_case"),
            glossary.title("gap"): f"{row.gap:.1f}"
            + (" (more than the interval)" if row.overstated else ""),
        }
    result = pd.DataFrame.from_dict(rows, orient="index")
    result.index = pd.MultiIndex.from_tuples(result.index, names=["defence", "norm"])
    return result
