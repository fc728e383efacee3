"""Tables from records: ours, beside the paper's where it has the same cell; in percent."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ldatlib.defences import TITLES
from ldatlib.errors import UserError
from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import paper
from ldatlib.study.trainings import Training

NORMS = {"linf": "L-inf", "l2": "L2"}


def column_title(key: str) -> str:
    """``linf_pgd`` -> ``L-inf PGD``, ``linf`` -> ``L-inf worst case``."""
    if key == "natural":
        return "Natural"
    norm, _, method = key.partition("_")
    return f"{NORMS[norm]} {METHODS[method].title if method else 'worst case'}"


def percent(share: dict) -> str:
    """``value ± half the 95% interval``, in percent."""
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
        for norm, title in NORMS.items():
            for key, column in record["attacks"].items():
                if key.startswith(norm):
                    shares[column_title(key)] = column["robust_accuracy"]
            if norm in record["worst_case"]:
                shares[f"{title} worst case"] = record["worst_case"][norm]
        name = TITLES[record["defence"]] + ("" if record["ok"] else " (SELF-CHECK FAILED)")
        seed = f", seed {record['seed']}" if record["seed"] else ""
        rows[name, f"measured{seed}, {dataset}"] = {k: percent(v) for k, v in shares.items()}
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
    if key in NORMS:
        columns = [c for name, c in record["attacks"].items() if name.startswith(f"{key}_")]
        return torch.stack([from_bits(column["right"]) for column in columns]).all(0)
    return from_bits(record["attacks"][key]["right"])


def mcnemar(first: dict, second: dict, key: str) -> tuple[int, int, float]:
    """Two networks on the same images: exact McNemar test. ``key`` as for ``right_images``.

    Returns how many images only the first, and only the second, still has right, and the
    two-sided p-value. It speaks of these two networks, not of the two methods.
    """
    return mcnemar_of(right_images(first, key), right_images(second, key))


def mcnemar_of(a: Tensor, b: Tensor) -> tuple[int, int, float]:
    """``mcnemar`` of two bool tensors [N]: the same images, right or wrong."""
    from scipy.stats import binomtest

    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    if only_first + only_second == 0:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second).pvalue)


# What is compared between methods: one column a threat model, and its worst case.
SEED_COLUMNS = ("natural", "linf_pgd", "linf", "l2_pgd", "l2")


def over_seeds(records: Sequence[dict], keys: Sequence[str] = SEED_COLUMNS) -> pd.DataFrame:
    """Methods trained with several seeds: a row a defence and column, in percent.

    ``mean``, ``sd`` (of one training, n - 1), ``low`` and ``high`` over the ``seeds`` trainings;
    keys as for ``right_images``. Defences with a single training are left out.
    """
    rows = []
    for defence in dict.fromkeys(record["defence"] for record in records):
        own = [record for record in records if record["defence"] == defence]
        if len(own) < 2:
            continue
        for key in keys:
            values = pd.Series([100 * right_images(r, key).double().mean().item() for r in own])
            row = {"defence": defence, "column": key, "seeds": len(own), "mean": values.mean()}
            rows.append(row | {"sd": values.std(), "low": values.min(), "high": values.max()})
    return pd.DataFrame(rows, columns=["defence", "column", "seeds", "mean", "sd", "low", "high"])


def compare_methods(records: Sequence[dict], first: str, second: str, key: str) -> float:
    """Two-sided p-value of Welch's t-test on the accuracies of two defences over their seeds.

    Raises ``UserError`` where a defence has fewer than three trainings: too few for a method.
    """
    from scipy.stats import ttest_ind

    samples = []
    for name in (first, second):
        own = [record for record in records if record["defence"] == name]
        if len(own) < 3:
            raise UserError(f"{name} has {len(own)} training(s); a method needs at least 3 seeds")
        samples.append([right_images(record, key).double().mean().item() for record in own])
    return float(ttest_ind(*samples, equal_var=False).pvalue)


_TRANSFERS = {"fgsm": "linf_fgsm", "mi_fgsm": "linf_mi_fgsm", "pgd": "linf_pgd"}


def table4(records: Sequence[dict], trainings: Sequence[Training]) -> pd.DataFrame:
    """Table 4 (or 5) as numbers: a row a surrogate and target, percent with Wilson bounds.

    ``records``: transfer records of the surrogates; ``trainings``: the targets.
    """
    rows = []
    for record in records:
        for training in trainings:
            shares = record["targets"][training.label]
            row = {
                "surrogate": "undefended" if record["defence"] == "natural" else "defended",
                "defence": training.name,
                "seed": training.config.seed,
                "natural": round(100 * shares["clean"]["value"], 2),
            }
            for name, key in _TRANSFERS.items():
                row[name] = round(100 * shares[key]["value"], 2)
                row[f"{name}_low"] = round(100 * shares[key]["low"], 2)
                row[f"{name}_high"] = round(100 * shares[key]["high"], 2)
            rows.append(row)
    return pd.DataFrame(rows)


def table4_beside_paper(
    records: Sequence[dict], trainings: Sequence[Training], dataset: str, number: int = 4
) -> pd.DataFrame:
    """Table 4 (or 5) for reading; the paper's rows by what its text says of the surrogate."""
    printed = paper.table(number).set_index(["surrogate_as_text", "defence"])
    data = {4: "CIFAR-10", 5: "CIFAR-100"}[number]
    rows = {}
    for record in records:
        surrogate = "undefended" if record["defence"] == "natural" else "defended"
        for training in trainings:
            seed = f", seed {training.config.seed}" if training.config.seed else ""
            shares = record["targets"][training.label]
            row = {"Natural": percent(shares["clean"])}
            row |= {METHODS[m].title: percent(shares[k]) for m, k in _TRANSFERS.items()}
            rows[surrogate, training.title, f"measured{seed}, {dataset}"] = row
            if (surrogate, training.name) in printed.index:
                found = printed.loc[(surrogate, training.name)]
                row = {METHODS[m].title: f"{found[m]:.2f}" for m in _TRANSFERS}
                rows[surrogate, training.title, f"paper, {data}"] = row
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["surrogate", "defence", "source"])
    return frame


def transfer_matrix(
    records: Sequence[dict], sources: Sequence[Training], targets: Sequence[Training]
) -> pd.DataFrame:
    """Accuracy in percent of each target (column) under PGD crafted on each source (row)."""
    rows = {
        source.title: {
            target.title: 100 * record["targets"][target.label]["linf_pgd"]["value"]
            for target in targets
        }
        for record, source in zip(records, sources, strict=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def basic_row(record: dict) -> dict[str, str]:
    """Natural accuracy and PGD in both norms, for reading."""
    row = {"Natural": percent(record["clean_accuracy"])}
    return row | {
        column_title(key): percent(column["robust_accuracy"])
        for key, column in record["attacks"].items()
    }


def table3(records: dict[float, dict]) -> pd.DataFrame:
    """Table 3 as numbers: beta -> natural, PGD L-inf and L2 in percent with Wilson bounds."""
    rows = []
    for beta, record in records.items():
        shares = {"natural": record["clean_accuracy"]}
        shares |= {key: c["robust_accuracy"] for key, c in record["attacks"].items()}
        row = {"beta": beta}
        for name, share in shares.items():
            row[name] = round(100 * share["value"], 2)
            row[f"{name}_low"] = round(100 * share["low"], 2)
            row[f"{name}_high"] = round(100 * share["high"], 2)
        rows.append(row)
    return pd.DataFrame(rows)


def table3_beside_paper(records: dict[float, dict], dataset: str) -> pd.DataFrame:
    """Table 3 for reading: rows are sources, columns beta."""
    printed = paper.table(3).set_index("beta")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for beta, record in records.items():
        for name, value in basic_row(record).items():
            rows.setdefault((f"measured, {dataset}", name), {})[f"beta {beta:g}"] = value
    for name, column in (("Natural", "natural"), ("L-inf PGD", "robust")):
        rows["paper, CIFAR-10", name] = {
            f"beta {beta:g}": f"{value:.2f}" for beta, value in printed[column].items()
        }
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["source", "accuracy"])
    return frame[sorted(frame, key=lambda name: float(name.removeprefix("beta ")))]


def path(root: Path, name: str) -> Path:
    """``tables/NAME.csv`` of a run, its folder made."""
    folder = root / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.csv"
