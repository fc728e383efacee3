"""CIFAR-10 in tables, sentences and pictures: what is published -> what stands between the markers.

Of docs/cifar10.md, docs/regularizer.md and README.md; ``tools/published_tables.py`` puts it there,
and checks it.
"""

from pathlib import Path

from markers import bullets, markdown, percent, title

PROJECT = Path(__file__).resolve().parent.parent
# The study of the likelihood term as it was on a schedule of 6 epochs: kept to be compared with.
SIX_EPOCHS = PROJECT / "data" / "results" / "cifar10-six-epochs.json"
WAY_BACK = PROJECT / "data" / "results" / "no-way-back.json"
# What has several trainings: the other results of the profile are of one.
SEEDS = {"seeds": 3, "seeded": "standard,trades,l2_at,ldat,ldat_chosen"}
# Compared over seeds: the chosen LDAT against these, in these columns, corrected together.
SEEDED_RIVALS, SEEDED_COLUMNS = ("standard", "trades", "l2_at", "ldat"), ("natural", "linf", "l2")
# What the pages compare LDAT as written with, and the chosen one, in every column.
BESIDE_WRITTEN, BESIDE_CHOSEN = ("standard",), ("l2_at", "trades", "standard")
# What the study of the likelihood term is made from.
STUDY = ("train", "validation", "basic")
_SHORT = ("natural", "linf_pgd", "linf", "l2_pgd", "l2")


def table1(run, keys) -> str:
    """Measured and printed, a row each: the columns ``keys``, and AutoAttack where it was run."""
    import pandas as pd

    from ldatlib.evaluation.robustness import from_bits
    from ldatlib.report import glossary, paper, words
    from ldatlib.report.comparisons import right_images, share
    from ldatlib.study.records import Autoattack, read

    printed = paper.table(1).set_index("defence")
    trainings = run.select_seed(run.trainings())
    rows = []
    for training, job in zip(trainings, run.jobs_of("autoattack", trainings), strict=True):
        (record,) = run.records("whitebox", [training])
        shares = {key: share(right_images(record, key)) for key in keys}
        row = {"defence": title(training.name), "source": "measured"}
        row |= {words.column_title(key): words.percent(value) for key, value in shares.items()}
        found = read(job.path, Autoattack).norms if job.done else {}
        for norm in run.profile.autoattack_norms:
            right = from_bits(found[norm].right) if norm in found else None
            column = f"{words.NORMS[norm]} {glossary.title('autoattack')}"
            row[column] = "" if right is None else words.percent(share(right))
        rows.append(row)
        if training.name in printed.index:
            row = {"defence": "", "source": "paper"}
            values = {words.column_title(k): printed.loc[training.name].get(k) for k in keys}
            row |= {k: "" if v is None else f"{v:.2f}" for k, v in values.items()}
            rows.append(row)
    frame = pd.DataFrame(rows).fillna("")
    return markdown(frame.loc[:, (frame != "").any()], 2)


def _contests(run):
    from ldatlib.report import conclusions
    from ldatlib.report.claims.evidence import Evidence

    return conclusions.contests(Evidence(run, run.profile.base))


def headline(run) -> str:
    """Three columns of everybody; in bold who is not told apart from the best (McNemar, Holm)."""
    import pandas as pd

    from ldatlib.report import words
    from ldatlib.report.comparisons import right_images, share

    trainings, contests = run.select_seed(run.trainings()), _contests(run)
    rows = []
    for record in run.records("whitebox", trainings):
        name, row = record.defence, {"defence": title(record.defence)}
        for contest in contests:
            # The undefended network is none of the rivals there.
            lone = name not in contest.right
            right = right_images(record, "natural") if lone else contest.right[name]
            value = words.percent(share(right))
            row[contest.under] = f"**{value}**" if not lone and contest.leads(name) else value
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def short(run) -> str:
    """LDAT as written and the chosen one beside others, a sentence each, in every column."""
    from ldatlib.report import paired
    from ldatlib.report.claims import rules
    from ldatlib.report.conclusions.saying import told_apart

    contests = {contest.name: contest for contest in _contests(run)}
    rivals = {"ldat": BESIDE_WRITTEN, run.profile.base: BESIDE_CHOSEN}
    tests = [(own, rival, name) for own in rivals for rival in rivals[own] for name in contests]
    pairs = [
        paired.pair(contests[n].right[own], contests[n].right[rival]) for own, rival, n in tests
    ]
    found = told_apart(tests, [rules.ahead(pair) for pair in pairs])
    sides = {
        "ahead of": found.favour,
        "behind": found.against,
        "not told apart from": found.neither,
    }
    said = [_beside(own, contests, sides) for own in rivals]
    said[-1] += f" (McNemar on the same images, {len(tests)} tests, Holm.)"
    return bullets(said)


def _beside(own: str, contests: dict, sides: dict[str, list[tuple[str, str, str]]]) -> str:
    """``sides``: tests by how they ended, as (own, rival, contest)."""
    from ldatlib.report.comparisons import share
    from ldatlib.report.conclusions.saying import listed

    parts = []
    for contest in contests.values():
        kept = {name: percent(100 * share(right).value) for name, right in contest.right.items()}
        told = []
        for side, tests in sides.items():
            names = [rival for first, rival, name in tests if (first, name) == (own, contest.name)]
            if names:
                told.append(f"{side} {listed([f'{title(n)} ({kept[n]})' for n in names])}")
        parts.append(f"{kept[own]} {contest.under}: {', '.join(told)}")
    return f"**{title(own)}** keeps {'; '.join(parts)}."


def seeds(run) -> str:
    """Accuracies over seeds, and the chosen LDAT against every rival that has several, too."""
    from ldatlib.report import comparisons, glossary, tables
    from ldatlib.report.words import column_title
    from ldatlib.study.run import open_run

    more = open_run(run.profile.name, SEEDS, run.root)
    jobs = more.jobs_of("whitebox", more.trainings())
    records = more.records("whitebox", [job.training for job in jobs if job.done])
    spread = tables.over_seeds(records)
    if spread.empty:
        return "One training of each so far."
    spread["value"] = [f"{m:.1f} ± {s:.1f}" for m, s in zip(spread["mean"], spread.sd, strict=True)]
    wide = spread.pivot(index="defence", columns="column", values="value")[list(_SHORT)]
    wide = wide.rename(columns=column_title)
    count = spread.groupby("defence").seeds.first()
    wide.insert(0, "seeds", count)
    wide = wide.rename(index=glossary.defence).reset_index()
    several = set(count.index[count >= comparisons.METHOD_SEEDS])
    rivals = [name for name in SEEDED_RIVALS if name in several]
    if "ldat_chosen" not in several or not rivals:
        return markdown(wide)
    return f"{markdown(wide)}\n\n{_against(records, rivals)}"


def _against(records, rivals: list[str]) -> str:
    """The chosen LDAT less each rival, in points, with Welch's p-value corrected by Holm."""
    import pandas as pd

    from ldatlib.report import comparisons
    from ldatlib.report.paired import holm
    from ldatlib.report.words import column_title

    def mean(name: str, key: str) -> float:
        own = [
            comparisons.right_images(r, key).double().mean() for r in records if r.defence == name
        ]
        return 100 * float(sum(own) / len(own))

    pairs = [(rival, key) for rival in rivals for key in SEEDED_COLUMNS]
    p_values = holm([comparisons.compare_methods(records, "ldat_chosen", *pair) for pair in pairs])
    rows: dict[str, dict[str, str]] = {}
    for (rival, key), p in zip(pairs, p_values, strict=True):
        difference = mean("ldat_chosen", key) - mean(rival, key)
        rows.setdefault(rival, {"less": title(rival)})[column_title(key)] = (
            f"{difference:+.1f} (p = {p:.2g})"
        )
    tested = f"(Welch's t-test, {len(pairs)} tests, Holm)"
    words = f"{title('ldat_chosen')} less each of them, in points {tested}:"
    return f"{words}\n\n{markdown(pd.DataFrame(list(rows.values())))}"


def cost(run) -> str:
    import pandas as pd

    from ldatlib.report import glossary

    trainings, kinds = run.select_seed(run.trainings()), ("train", "whitebox")
    rows = [
        {
            "defence": title(training.name),
            "training, s of a core": round(trained.seconds),
            "images/s": round(trained.images_per_second),
            f"{glossary.title('table1_attacks')}, s of a core": round(attacked.seconds),
        }
        for training, trained, attacked in zip(
            trainings, *(run.records(kind, trainings) for kind in kinds), strict=True
        )
    ]
    return markdown(pd.DataFrame(rows))


def facts(run) -> str:
    """Data, network, recipe, hardware, versions: one line each."""
    from ldatlib.report import summary

    (record,) = run.records("train", [run.training("ldat")])
    facts = summary.facts(run, record).iloc[:, 0].drop("profile")
    facts["precision of training"] = record.execution["precision"] + "; evaluation in float32"
    return "\n".join(["| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in facts.items())])


def total(run) -> str:
    """What everything that is published took, in hours of one core."""
    from ldatlib.study.records import read

    jobs = {job.path: job for number in range(2, 10) for job in run.plan(f"{number:02}")}
    seconds = {"train": 0.0, "rest": 0.0}
    for job in jobs.values():
        if job.done:
            seconds["train" if job.kind == "train" else "rest"] += read(job.path).seconds
    trained, rest = (value / 3600 for value in seconds.values())
    done = sum(job.done for job in jobs.values())
    return (
        f"{done} of {len(jobs)} results: trainings {trained:.1f} h of one core, evaluations "
        f"{rest:.1f} h, so {(trained + rest) / 2:.1f} h of two cores."
    )


def claims(run, ldat: str) -> str:
    from ldatlib.report import claims

    columns = ["section", "the paper says", "seen here", "verdict"]
    return markdown(claims.claims(run, ldat)[columns], 4)


def verdicts(run) -> str:
    """Every claim in a line: the verdict on LDAT as written, and on the chosen one."""
    from ldatlib.report import claims

    found = {name: claims.claims(run, name) for name in ("ldat", run.profile.base)}
    frame = found["ldat"][["section", "the paper says"]].copy()
    for name, table in found.items():
        said = table.verdict.str.replace(" for this network", "").str.replace(" at this scale", "")
        frame[title(name)] = said
    return markdown(frame, 4)


def scrutiny(run) -> str:
    from ldatlib.report import summary

    parts = []
    for heading, frame in summary.scrutiny(run).items():
        frame = frame.reset_index()
        # Words to the left, numbers to the right.
        words = [not frame[name].astype(str).str.match(r"[-\d.]|$").all() for name in frame]
        left = words.index(False) if False in words else len(words)
        parts += [f"**{heading}**", "", markdown(frame, left), ""]
    return "\n".join(parts).strip() or "Not measured yet."


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


def draw(run, folder: Path) -> None:
    """The pages' pictures, as notebooks 03 and 05 have them."""
    from ldatlib.report import figures, tables
    from ldatlib.report.likelihood_model import final_weight

    figures.style()
    first = run.select_seed(run.trainings())
    swept = run.records("sweep_eps", first)
    by_eps = {training.name: record for training, record in zip(first, swept, strict=True)}
    trainings = measured(run, run.likelihood_trainings(), STUDY)
    trained = list(trainings.values())
    found = [run.records(kind, trained) for kind in STUDY]
    table = tables.likelihood_study(list(trainings), *found)
    weights = {name: final_weight(training.config) for name, training in trainings.items()}
    lambdas = {name: run.log(training) for name, training in trainings.items() if "lambda" in name}
    pictures = {
        "cifar10-fig4": figures.accuracy_by_eps(by_eps, run.profile.budgets),
        "likelihood-epochs": figures.likelihood_over_epochs(
            {"as written": run.log(trainings["as written"]), **lambdas}
        ),
    }
    if table.separation.notna().any():
        pictures["likelihood-model"] = figures.small_model(
            table, weights, run.dataset.num_classes, run.profile.margin
        )
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})


def render(run) -> dict[str, str]:
    """Marker -> Markdown."""
    keys = [attack.key for attack in run.table1_attacks()]
    linf, l2 = ([key for key in keys if key.startswith(norm)] for norm in ("linf", "l2_"))
    return {
        "cifar10-headline": headline(run),
        "cifar10-short": short(run),
        "cifar10-table1": table1(run, _SHORT),
        "cifar10-table1-linf": table1(run, ["natural", *linf, "linf"]),
        "cifar10-table1-l2": table1(run, ["natural", *l2, "l2"]),
        "cifar10-seeds": seeds(run),
        "cifar10-cost": cost(run),
        "cifar10-facts": facts(run),
        "cifar10-total": total(run),
        "cifar10-verdicts": verdicts(run),
        "cifar10-claims": claims(run, "ldat"),
        "cifar10-claims-chosen": claims(run, run.profile.base),
        "cifar10-scrutiny": scrutiny(run),
        "cifar10-beta": beta(run),
        "cifar10-fig6": replaced(run),
        "cifar10-study": study(run),
        "cifar10-heads": heads(run),
        "cifar10-lengths": lengths(run),
        "six-epochs": six_epochs(),
        "way-back": way_back(),
    }
