"""What the stronger search, AutoAttack and everything else leave, beside Table 1's attacks."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ldatlib.evaluation.masking.verdicts import some
from ldatlib.report import glossary, words
from ldatlib.report.comparisons import share, survivors
from ldatlib.report.words import NORMS, column_title
from ldatlib.study.records import Adaptive, Autoattack, Masking, Search, Whitebox


def scrutiny(
    whitebox: Sequence[Whitebox],
    auto: Sequence[Autoattack],
    others: Mapping[str, Sequence[Search | Masking | Adaptive]],
) -> pd.DataFrame:
    """A row a network and norm: strongest of Table 1's attacks, their worst case, that of all.

    ``others``: defence -> its records of the search, of masking and of the detector. Shares are of
    all images of Table 1 (``images``); ``autoattack``, and ``worst_case_there``, are of the first
    ones, which AutoAttack and the tests for masking saw (``scrutinised``; 0 where AutoAttack was
    not run in that norm). The gap is the worst case of Table 1's attacks, what the paper would
    report, less that of all attacks, and ``overstated`` where more than about none of the images
    fall in between. ``converged``: whether the last restart of the search found nothing.
    """
    rows = []
    for table1, record in zip(whitebox, auto, strict=True):
        more = others.get(record.defence, [])
        searches = [r for r in more if isinstance(r, Search)]
        for norm in NORMS:
            right = survivors(table1, record, more, norm)
            keys = [key for key in right if key.startswith(f"{norm}_")]
            strongest = min(keys, key=lambda key: int(right[key].sum()))
            row: dict[str, Any] = {"defence": record.defence, "seed": record.seed, "norm": norm}
            row |= {"strongest_attack": strongest}
            row |= words.columns("strongest", share(right[strongest]))
            row |= words.columns("table1_worst_case", share(right["table1"]))
            found = [r.norms[norm] for r in searches if norm in r.norms]
            if found:
                row |= words.columns("search", share(right["search"]))
                row["converged"] = all(each.converged for each in found)
            row |= words.columns("worst_case", share(right["worst_case"]))
            row["gap"] = round(row["table1_worst_case"] - row["worst_case"], 2)
            row["overstated"] = some(right["table1"] & ~right["worst_case"])
            row["images"] = len(right["table1"])
            row |= _scrutinised(record, right, norm)
            row["ok"] = all(r.ok for r in (table1, record, *more))
            rows.append(row)
    frame = pd.DataFrame(rows)
    for name in ("search", "autoattack", "worst_case_there"):
        # Empty columns, where nothing of a kind was run.
        for end in ("", "_low", "_high"):
            if f"{name}{end}" not in frame:
                frame[f"{name}{end}"] = float("nan")
    return frame


def _scrutinised(record: Autoattack, right: Mapping[str, Any], norm: str) -> dict[str, Any]:
    """Columns of the images that AutoAttack saw."""
    if norm not in record.norms:
        return {"scrutinised": 0, "skipped": ""}
    found, count = record.norms[norm], record.images
    row: dict[str, Any] = {"scrutinised": count, "skipped": ", ".join(found.skipped)}
    row |= words.columns("autoattack", share(right["autoattack"][:count]))
    row |= words.columns("worst_case_there", share(right["worst_case"][:count]))
    return row | {"black_box_found": round(100 * found.black_box.found.value, 2)}


def scrutiny_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """``scrutiny`` with titles, and shares as "value ± half the interval"."""
    rows = {}
    for _, row in frame.iterrows():

        def shown(column: str, row: Any = row) -> str:
            return "" if pd.isna(row[column]) else words.from_columns(row, column)

        skipped = f" (without {row.skipped})" if row.skipped else ""
        restless = "" if pd.isna(row.search) or row.converged else " (not converged)"
        here = f", first {int(frame.scrutinised.max())}"
        rows[words.network(row.defence, row.ok, row.seed), NORMS[row.norm]] = {
            glossary.title("strongest"): f"{shown('strongest')} "
            f"({column_title(row.strongest_attack)})",
            glossary.title("table1_worst_case"): shown("table1_worst_case"),
            glossary.title("searched"): shown("search") + restless,
            glossary.title("all_worst_case"): shown("worst_case"),
            glossary.title("gap"): f"{row.gap:.1f}" + (" (overstated)" if row.overstated else ""),
            glossary.title("autoattack") + here: shown("autoattack") + skipped,
            glossary.title("all_worst_case") + here: shown("worst_case_there"),
        }
    result = pd.DataFrame.from_dict(rows, orient="index")
    result.index = pd.MultiIndex.from_tuples(result.index, names=["defence", "norm"])
    return result
