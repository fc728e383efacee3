"""Tables from records: ours, beside the paper's where it has the same cell; in percent."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ldatlib import paper
from ldatlib.defences import TITLES
from ldatlib.robustness import METHODS, from_bits

_NORMS = {"linf": "L-inf", "l2": "L2"}


def column_title(key: str) -> str:
    """``linf_pgd`` -> ``L-inf PGD``."""
    norm, _, method = key.partition("_")
    return f"{_NORMS[norm]} {METHODS[method].title}"


def _percent(share: dict) -> str:
    half = 50 * (share["high"] - share["low"])
    return f"{100 * share['value']:.1f} ± {half:.1f}"


def table1(records: Sequence[dict]) -> pd.DataFrame:
    """Table 1 as numbers: a row a record; ``natural``, one column an attack, worst case per norm.

    Percent; each with its Wilson bounds in columns ``*_low`` and ``*_high``.
    """
    rows = []
    for record in records:
        shares = {"natural": record["clean_accuracy"]}
        shares |= {key: c["robust_accuracy"] for key, c in record["attacks"].items()}
        shares |= {f"{norm}_worst_case": s for norm, s in record["worst_case"].items()}
        row = {"defence": record["defence"], "seed": record["seed"], "ok": record["ok"]}
        for name, share in shares.items():
            row[name] = round(100 * share["value"], 2)
            row[f"{name}_low"] = round(100 * share["low"], 2)
            row[f"{name}_high"] = round(100 * share["high"], 2)
        row["images"] = record["clean_accuracy"]["count"]
        rows.append(row)
    return pd.DataFrame(rows)


def table1_beside_paper(records: Sequence[dict], dataset: str, number: int = 1) -> pd.DataFrame:
    """Table 1 (or 2) for reading: measured (± half the 95% interval) and the paper's numbers."""
    printed = paper.table(number).set_index("defence")
    rows = {}
    for record in records:
        shares = {"Natural": record["clean_accuracy"]}
        for norm, title in _NORMS.items():
            for key, column in record["attacks"].items():
                if key.startswith(norm):
                    shares[column_title(key)] = column["robust_accuracy"]
            if norm in record["worst_case"]:
                shares[f"{title} worst case"] = record["worst_case"][norm]
        name = TITLES[record["defence"]] + ("" if record["ok"] else " (SELF-CHECK FAILED)")
        seed = f", seed {record['seed']}" if record["seed"] else ""
        rows[name, f"measured{seed}, {dataset}"] = {k: _percent(v) for k, v in shares.items()}
    for defence, row in printed.iterrows():
        titles = {"natural": "Natural"} | {
            key: column_title(key) for key in printed.columns if key != "natural"
        }
        data = {1: "CIFAR-10", 2: "CIFAR-100"}[number]
        rows[TITLES[defence], f"paper, {data}"] = {
            titles[key]: f"{value:.2f}" for key, value in row.items()
        }
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["defence", "source"])
    order = {title: position for position, title in enumerate(TITLES.values())}
    return frame.sort_index(
        level=0, sort_remaining=False, key=lambda names: names.map(lambda n: order.get(n, 99))
    )


def trainings(records: Sequence[dict]) -> pd.DataFrame:
    """One row a training: what it cost and where it ended on validation images."""
    return pd.DataFrame(
        {
            "defence": TITLES[r["defence"]],
            "seed": r["seed"],
            "epochs": r["last"]["epoch"],
            "seconds": r["seconds"],
            "images/s": r["images_per_second"],
            "val clean %": round(100 * r["last"]["val_clean_accuracy"], 1),
            "val PGD %": round(100 * r["last"]["val_robust_accuracy"], 1),
            "best epoch": r["best"]["epoch"],
            "val PGD % at best": round(100 * r["best"]["val_robust_accuracy"], 1),
        }
        for r in records
    )


def right_images(record: dict, key: str) -> Tensor:
    """Images a white-box record has right, [N] bool.

    ``key``: an attack, ``"natural"``, or ``"linf"`` / ``"l2"`` for the worst case of that norm.
    """
    if key == "natural":
        return from_bits(record["clean_right"])
    if key in _NORMS:
        columns = [c for name, c in record["attacks"].items() if name.startswith(f"{key}_")]
        return torch.stack([from_bits(column["right"]) for column in columns]).all(0)
    return from_bits(record["attacks"][key]["right"])


def mcnemar(first: dict, second: dict, key: str) -> tuple[int, int, float]:
    """Two networks on the same images: exact McNemar test. ``key`` as for ``right_images``.

    Returns how many images only the first, and only the second, still has right, and the
    two-sided p-value. It speaks of these two networks, not of the two methods.
    """
    from scipy.stats import binomtest

    a, b = right_images(first, key), right_images(second, key)
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    if only_first + only_second == 0:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second).pvalue)


def path(root: Path, name: str) -> Path:
    """``tables/NAME.csv`` of a run, its folder made."""
    folder = root / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.csv"
