"""What the parts of LDAT do on CIFAR-10: the tables of ``cifar_pages`` about them."""

from pathlib import Path

from markers import markdown, title

PROJECT = Path(__file__).resolve().parent.parent
# The study of the likelihood term as it was on a schedule of 6 epochs: kept to be compared with.
SIX_EPOCHS = PROJECT / "data" / "results" / "cifar10-six-epochs.json"
WAY_BACK = PROJECT / "data" / "results" / "no-way-back.json"
# What a short evaluation measures.
_BASIC = ("natural", "linf_pgd", "l2_pgd")
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


def parts(run) -> str:
    """One part exchanged for another, everything else alike: McNemar on the same images, Holm."""
    import pandas as pd

    from ldatlib.report import paired
    from ldatlib.report.comparisons import right_images
    from ldatlib.report.words import column_title

    trainings = measured(run, run.factorial_trainings(), ("train", "basic"))
    found = dict(zip(trainings, run.records("basic", list(trainings.values())), strict=True))
    (plain,) = run.records("whitebox", [run.training("l2_at")])
    rows = _exchanged(found, plain)
    if not rows:
        return "Not measured yet."
    pairs = {
        (part, kept, key): paired.pair(right_images(one, key), right_images(other, key))
        for part, kept, one, other in rows
        for key in _BASIC
    }
    plain_p = [float(paired.mcnemar_p(p.first_only, p.second_only)) for p in pairs.values()]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for ((part, kept, key), pair), p in zip(pairs.items(), paired.holm(plain_p), strict=True):
        line = lines.setdefault((part, kept), {"exchanged": part, "with": kept})
        value = f"{100 * pair.difference:+.1f} (p = {p:.2g})"
        line[column_title(key)] = f"**{value}**" if p < paired.ALPHA else value
    words = f"(McNemar, {len(pairs)} tests, Holm; bold: told apart)"
    return f"In points {words}:\n\n{markdown(pd.DataFrame(list(lines.values())), 2)}"


def _exchanged(found: dict, plain) -> list[tuple]:
    """(what is exchanged, what else, record with it, record without)."""
    rows: list[tuple] = []
    own, attacks = "Algorithm 1", dict.fromkeys(attack for _, attack in found)
    for attack in attacks:
        if {("GMM", attack), ("linear", attack)} <= found.keys():
            pair = (found["GMM", attack], found["linear", attack])
            rows.append(("GMM for a linear head", attack, *pair))
    for attack in (attack for attack in attacks if attack != own):
        for head in ("GMM", "linear"):
            if {(head, own), (head, attack)} <= found.keys():
                pair = (found[head, own], found[head, attack])
                rows.append((f"{own} for {attack}", f"{head} head", *pair))
    if ("linear", "PGD-CE") in found:
        pair = (found["linear", "PGD-CE"], plain)
        rows.append(("half natural images for none (L2-AT)", "linear head, PGD-CE", *pair))
    return rows


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
