"""The closing report: what there is, what the paper claims, and what this run saw.

Reads records, figures and tables of a run; computes nothing that takes time.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pandas as pd

from ldatlib.report import tables
from ldatlib.study.records import (
    Adaptive,
    Autoattack,
    Detection,
    Masking,
    Record,
    Search,
    Train,
    Whitebox,
    read,
)
from ldatlib.study.run import Run

R = TypeVar("R", bound=Record)

# Item, its file, the notebook that makes it, what it shows.
_ITEMS = (
    ("Table 1", "tables/table1.csv", "03", "white-box robustness"),
    ("Table 2", "tables/table2.csv", "03", "white-box robustness on CIFAR-100"),
    ("Table 3", "tables/table3.csv", "05", "sensitivity to beta"),
    ("Table 4", "tables/table4.csv", "04", "black-box robustness"),
    ("Table 5", "tables/table5.csv", "04", "black-box robustness on CIFAR-100"),
    ("Figure 1", "figures/fig1.png", "01", "decision boundaries, measured in two dimensions"),
    ("Figure 2", "figures/fig2.png", "01", "feature clouds, measured in two dimensions"),
    ("Figure 3", "figures/fig3.png", "01", "attacks on a linear classifier"),
    ("Figure 4", "figures/fig4.png", "03", "accuracy against the budget"),
    ("Figure 5", "figures/fig5.png", "03", "accuracy against iterations"),
    ("Figure 6", "figures/fig6.png", "05", "Algorithm 1 replaced by PGD"),
    ("Figure 7", "figures/fig7.png", "06", "t-SNE of the features"),
    ("Figure 8", "figures/fig8.png", "07", "likelihood histograms"),
    ("Figure 9", "figures/fig9.png", "08", "defence success with a threshold"),
    ("Scrutiny", "tables/scrutiny.csv", "09", "worst case of all attacks; not in the paper"),
    ("Scrutiny", "tables/masking.csv", "09", "tests for gradient masking; not in the paper"),
    ("Scrutiny", "tables/adaptive.csv", "09", "an adaptive attack; not in the paper"),
    ("Scrutiny", "tables/rejection.csv", "09", "rejection at every threshold; not in the paper"),
    ("Scrutiny", "figures/scrutiny.png", "09", "what all attacks leave; not in the paper"),
    ("Scrutiny", "figures/adaptive.png", "09", "what the detector misses; not in the paper"),
    ("Scrutiny", "figures/rejection.png", "09", "robust with rejection; not in the paper"),
)
# Of the same attacks one table on CIFAR-100, one on everything else.
_OTHER_DATA = {
    True: {"Table 1": "cifar10", "Table 4": "cifar10"},
    False: {"Table 2": "cifar100", "Table 5": "cifar100"},
}


def inventory(run: Run) -> pd.DataFrame:
    """Every table and figure of the paper, and the scrutiny: made in this run, or why not."""
    elsewhere = _OTHER_DATA[run.dataset.num_classes == 100]
    rows = []
    for item, path, notebook, what in _ITEMS:
        if item in elsewhere:
            status = f"on other data: runner.py --profile {elsewhere[item]}"
        elif (run.root / path).is_file():
            status = path
        else:
            status = f"not made yet: runner.py --only {notebook}"
        rows.append({"item": item, "what": what, "in this run": status})
    return pd.DataFrame(rows).set_index("item")


def facts(run: Run, record: Train) -> pd.DataFrame:
    """Data, network, recipe, machine and versions of a run, one a row."""
    p, source = run.profile, record.provenance
    data = run.dataset
    sizes = ", ".join(f"{len(data.labels[s])} {s}" for s in ("train", "val", "test"))
    side = data.images["train"].shape[-1]
    rows = {
        "profile": f"{p.name}: {p.title}",
        "data": f"{data.title}, {data.num_classes} classes, {side}x{side}, {sizes}",
        "data fingerprint": data.fingerprint[:16],
        "network": run.trainings()[0].config.network.title,
        "recipe": f"{p.epochs} epochs, batch {p.batch_size}, SGD {p.lr:g}, cosine to 0, "
        + ("1 training of each" if p.seeds == 1 else f"{p.seeds} trainings of each"),
        "budgets": f"L-inf {p.eps_linf:g}, L2 {p.eps_l2:g}, radius of LDAT {p.radius:g} "
        "(pixels in [0,1])",
        "device": f"{source.device}, threads a process: {source.threads}",
        "versions": ", ".join(f"{k} {v}" for k, v in source.libraries.items()),
        "source revision": source.revision or "not a git checkout",
    }
    return pd.DataFrame(rows.items(), columns=["", "this run"]).set_index("")


def self_checks(run: Run) -> pd.DataFrame:
    """Failed self-checks over all records of this run's settings; empty when all passed."""
    rows = []
    plans = (run.plan(notebook) for _, _, notebook, _ in _ITEMS)
    for path in sorted({job.path for plan in plans for job in plan if job.done}):
        record = read(path)
        checks = getattr(record, "self_checks", None)
        for check in checks or []:
            if not check.passed:
                rows.append({"record": path.name, "check": check.name, "value": check.value})
        if checks is None and not getattr(record, "ok", True):
            rows.append({"record": path.name, "check": "a point of the sweep", "value": 0.0})
    return pd.DataFrame(rows, columns=["record", "check", "value"])


def scrutiny(run: Run) -> dict[str, pd.DataFrame]:
    """Title -> table of what notebook 09 found; empty where it has not been run.

    As far as records are there, of each defence that AutoAttack has seen: the worst case of all
    attacks; the alarms for masking; the detector at the threshold that accepts 95%, ordinary
    against adaptive; what it is worth where it accepts 95% and 99% of the clean images.
    """
    trainings = run.select_seed(run.trainings())
    kinds = ("whitebox", "detection", "search", "autoattack", "masking", "adaptive")
    done: dict[str, dict[str, Path]] = {
        kind: {j.training.name: j.path for j in run.jobs_of(kind, trainings) if j.done}
        for kind in kinds
    }

    def found(kind: str, shape: type[R], names: Iterable[str]) -> list[R]:
        return [read(done[kind][name], shape) for name in names]

    both = done["whitebox"].keys() & done["autoattack"].keys()
    attacked = [training.name for training in trainings if training.name in both]
    if not attacked:
        return {}
    masked = [name for name in attacked if name in done["masking"]]
    aimed = [n for n in attacked if all(n in done[k] for k in ("adaptive", "detection"))]
    masking, adaptive = found("masking", Masking, masked), found("adaptive", Adaptive, aimed)
    searched = found("search", Search, [name for name in attacked if name in done["search"]])
    several: list[Search | Masking | Adaptive] = [*searched, *masking, *adaptive]
    others: dict[str, list[Search | Masking | Adaptive]] = {}
    for record in several:
        others.setdefault(record.defence, []).append(record)
    table = tables.scrutiny(
        found("whitebox", Whitebox, attacked), found("autoattack", Autoattack, attacked), others
    )
    shown = {"The worst case of all attacks (%)": tables.scrutiny_for_reading(table)}
    if masking:
        shown["Alarms for gradient masking"] = tables.alarms(masking)
    if adaptive:
        seen = found("detection", Detection, aimed)
        curves = tables.rejection_rows(adaptive, seen)
        curves = curves[curves.acceptance.isin([0.95, 0.99])]
        shown |= {
            "The detector, ordinary against adaptive (%)": tables.adaptive_for_reading(
                tables.adaptive_at_frozen(adaptive, seen)
            ),
            "The detector, by the share of clean images that it accepts (%)": (
                tables.rejection_for_reading(curves)
            ),
        }
    return shown
