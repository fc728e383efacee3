"""Tables 4 and 5, and who fools whom."""

from collections.abc import Sequence

import pandas as pd

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report import paper, words
from ldatlib.report.words import column_title
from ldatlib.study.records import Transfer
from ldatlib.study.trainings import Training

# Method -> key of its attack.
_ATTACKS = {"fgsm": "linf_fgsm", "mi_fgsm": "linf_mi_fgsm", "pgd": "linf_pgd"}


def _surrogate(record: Transfer) -> str:
    return "undefended" if record.defence == "natural" else "defended"


def table4(records: Sequence[Transfer], trainings: Sequence[Training]) -> pd.DataFrame:
    """Table 4 (or 5) as numbers: a row a surrogate and target, percent with Wilson bounds.

    ``records``: transfer records of the surrogates; ``trainings``: the targets.
    """
    rows = []
    for record in records:
        for training in trainings:
            shares = record.targets[training.label]
            row = {
                "surrogate": _surrogate(record),
                "defence": training.name,
                "seed": training.config.seed,
                "natural": round(100 * shares["clean"].value, 2),
            }
            for name, key in _ATTACKS.items():
                row |= words.columns(name, shares[key])
            rows.append(row)
    return pd.DataFrame(rows)


def table4_beside_paper(
    records: Sequence[Transfer], trainings: Sequence[Training], dataset: str, number: int = 4
) -> pd.DataFrame:
    """Table 4 (or 5) for reading; the paper's rows by what its text says of the surrogate."""
    printed = paper.table(number).set_index(["surrogate_as_text", "defence"])
    data = {4: "CIFAR-10", 5: "CIFAR-100"}[number]
    rows = {}
    for record in records:
        surrogate = _surrogate(record)
        for training in trainings:
            seed = f", seed {training.config.seed}" if training.config.seed else ""
            shares = record.targets[training.label]
            row = {column_title("natural"): words.percent(shares["clean"])}
            row |= {METHODS[m].title: words.percent(shares[key]) for m, key in _ATTACKS.items()}
            rows[surrogate, training.title, f"measured{seed}, {dataset}"] = row
            if (surrogate, training.name) in printed.index:
                found = printed.loc[(surrogate, training.name)]
                row = {METHODS[m].title: f"{found[m]:.2f}" for m in _ATTACKS}
                rows[surrogate, training.title, f"paper, {data}"] = row
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["surrogate", "defence", "source"])
    return frame


def transfer_matrix(
    records: Sequence[Transfer], sources: Sequence[Training], targets: Sequence[Training]
) -> pd.DataFrame:
    """Accuracy in percent of each target (column) under PGD crafted on each source (row)."""
    rows = {
        source.title: {
            target.title: 100 * record.targets[target.label]["linf_pgd"].value for target in targets
        }
        for record, source in zip(records, sources, strict=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index")
