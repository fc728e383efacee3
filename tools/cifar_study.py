"""What the parts of LDAT do on CIFAR-10: the tables of ``cifar_pages`` about them."""

from pathlib import Path

from markers import markdown, title

PROJECT = Path(__file__).resolve().parent.parent
# The study of the likelihood term as it was on a schedule of 6 epochs: kept to be compared with.
SIX_EPOCHS = PROJECT / "data" / "results" / "cifar10-six-epochs.json"
WAY_BACK = PROJECT / "data" / "results" / "no-way-back.json"
# What the study of the likelihood term is made from.
STUDY = ("train", "validation", "basic")


def measured(run, trainings: dict, kinds: tuple[str, ...]) -> dict:
    """Those of the named trainings whose records of all these kinds are there."""
    return {
        name: training
        for name, training in trainings.items()
        if all(run.jobs_of(kind, [training])[0].done for kind in kinds)
    }


def beta(run) -> str:
    """Table 3, measured and printed."""
    from ldatlib.report import tables

    trainings = measured(run, run.beta_trainings(), ("train", "basic"))
    if len(trainings) < 2:
        return "Not measured yet."
    records = dict(zip(trainings, run.records("basic", list(trainings.values())), strict=True))
    return markdown(tables.table3_beside_paper(records, "here").reset_index(), 2)


def replaced(run) -> str:
    """Figure 6 as numbers."""
    import pandas as pd

    from ldatlib.report import tables

    trainings = measured(run, run.attack_trainings(), ("train", "basic"))
    records = zip(trainings, run.records("basic", list(trainings.values())), strict=True)
    rows = [{"trained against": name, **tables.basic_row(record)} for name, record in records]
    return markdown(pd.DataFrame(rows))


def study(run) -> str:
    from ldatlib.report import tables

    trainings = measured(run, run.switch_trainings(), STUDY)
    trained = list(trainings.values())
    found = [run.records(kind, trained) for kind in STUDY]
    return markdown(tables.likelihood_study_for_reading(list(trainings), *found).reset_index())


def heads(run) -> str:
    """{linear, Gaussian mixture} x what is trained against: what does what."""
    import pandas as pd

    from ldatlib.report import tables

    trainings = measured(run, run.factorial_trainings(), ("train", "basic"))
    if len({head for head, _ in trainings}) < 2:
        return "Not measured yet."
    # Pairs beside each other: the head is what is compared.
    order = sorted(trainings, key=lambda key: (list(run.attack_trainings()).index(key[1]), key[0]))
    records = run.records("basic", [trainings[key] for key in order])
    rows = [
        {"trained against": attack, "head": head, **tables.basic_row(record)}
        for (head, attack), record in zip(order, records, strict=True)
    ]
    return markdown(pd.DataFrame(rows), 2)


def lengths(run) -> str:
    """Algorithm 1's perturbations in the last epoch, around right and around wrong images."""
    import pandas as pd

    rows = []
    for name in ("ldat", "ldat_chosen"):
        for line in (run.log(run.training(name))[0], run.log(run.training(name))[-1]):
            row = {"training": title(name), "epoch": str(line["epoch"])}
            row["right before the attack"] = f"{line['attacked_right']:.0%}"
            for side in ("right", "wrong"):
                row[f"length around {side} ones"] = f"{line[f'attack_norm_{side}']:.2f}"
                row[f"of them beyond the radius ({side})"] = f"{line[f'projected_{side}']:.0%}"
            rows.append(row | {"mean length, projected": f"{line['perturbation_norm']:.2f}"})
    return markdown(pd.DataFrame(rows), 2)


def six_epochs() -> str:
    """The study on a squeezed schedule, from the summary that is kept of it."""
    import pandas as pd

    from ldatlib.files import read_json

    keys = {
        "test_natural": "natural accuracy, test",
        "test_linf_pgd": "L-inf PGD, test",
        "test_l2_pgd": "L2 PGD, test",
        "val_l2_pgd": "L2 PGD, validation",
    }
    rows = [
        {"changed": row["training"]}
        | {title: f"{row[key]:.1f}" for key, title in keys.items()}
        | {"smallest centroid distance": f"{row['smallest_centroid_distance']:.2f}"}
        for row in read_json(SIX_EPOCHS)["rows"]
    ]
    return markdown(pd.DataFrame(rows))


def way_back() -> str:
    """A collapsed network trained on without the term, beside one that never had it."""
    import pandas as pd

    from ldatlib.files import read_json

    if not WAY_BACK.is_file():
        return "Not measured yet."
    found = read_json(WAY_BACK)
    titles = {
        "collapse": "lambda constant at 1",
        "back": "from there on, lambda 0",
        "fresh": "lambda 0 from the beginning",
    }
    rows = [
        {
            "training": titles[name],
            "epoch": line["epoch"],
            "natural accuracy, validation": f"{100 * line['val_clean_accuracy']:.1f}",
            "smallest centroid distance": f"{line['smallest_centroid_distance']:.2g}",
            "feature norm": f"{line['val_feature_norm']:.2g}",
        }
        for name, log in found["logs"].items()
        for line in log
    ]
    return markdown(pd.DataFrame(rows))
