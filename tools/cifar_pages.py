"""CIFAR-10 in tables, sentences and pictures: what is published -> what stands between the markers.

Of docs/cifar10.md, docs/regularizer.md and README.md; ``tools/published_tables.py`` puts it there,
and checks it.
"""

from pathlib import Path

import cifar_seeds
import cifar_study
from markers import bullets, markdown, percent, title

# What the pages compare LDAT as written with, and the chosen one, in every column.
BESIDE_WRITTEN, BESIDE_CHOSEN = ("standard",), ("l2_at", "trades", "standard")
_SHORT = ("natural", "linf_pgd", "linf", "l2_pgd", "l2")


def table1(run, keys) -> str:
    """Measured and printed, a row each: the columns ``keys``, and AutoAttack in their norms."""
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
            if norm not in keys:
                continue
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


def whole(run):
    """The published run with all that ``cifar10-small`` varies, whether it is there or not."""
    from ldatlib.study.profiles import load_profile
    from ldatlib.study.run import open_run

    trained = load_profile("cifar10-small")
    named = ("betas", "replaced_attacks", "likelihood_switches", "other_switches")
    every = {name: getattr(trained, name) for name in named}
    return open_run(run.profile.name, every, run.root, jobs=1)


def total(run) -> str:
    """What everything that is published took, and by its operations the rest of the profile."""
    from collections import defaultdict

    from ldatlib.study.records import read

    every = whole(run)
    jobs = {job.path: job for number in range(2, 10) for job in every.plan(f"{number:02}")}
    seconds: dict[str, float] = defaultdict(float)
    operations: dict[bool, dict[str, float]] = {flag: defaultdict(float) for flag in (True, False)}
    for job in jobs.values():
        operations[job.done][job.kind] += job.operations
        if job.done:
            seconds[job.kind] += read(job.path).seconds
    done, spent = sum(job.done for job in jobs.values()), sum(seconds.values()) / 3600
    trained, rest = seconds["train"] / 3600, spent - seconds["train"] / 3600
    said = (
        f"{done} of {len(jobs)} results: trainings {trained:.1f} h of one core, evaluations "
        f"{rest:.1f} h, so {spent / 2:.1f} h of two cores"
    )
    measured, left = operations[True], operations[False]
    if left:
        more = sum(left[kind] * seconds[kind] / measured[kind] for kind in left) / 3600
        said += f"; with the rest {(spent + more) / 2:.1f} h, by their operations"
    return f"{said}."


def claims(run, ldat: str) -> str:
    from ldatlib.report import claims

    columns = ["section", "claim, in our words", "seen here", "verdict"]
    return markdown(claims.claims(run, ldat)[columns], 4)


def verdicts(run) -> str:
    """Every claim in a line: the verdict on LDAT as written, and on the chosen one."""
    from ldatlib.report import claims

    found = {name: claims.claims(run, name) for name in ("ldat", run.profile.base)}
    frame = found["ldat"][["section", "claim, in our words"]].copy()
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


def draw(run, folder: Path) -> None:
    """The pages' pictures, as notebooks 03 and 05 have them."""
    from ldatlib.report import figures, tables
    from ldatlib.report.likelihood_model import final_weight

    figures.style()
    first = run.select_seed(run.trainings())
    swept = run.records("sweep_eps", first)
    by_eps = {training.name: record for training, record in zip(first, swept, strict=True)}
    trainings = cifar_study.measured(run, run.likelihood_trainings(), cifar_study.STUDY)
    trained = list(trainings.values())
    found = [run.records(kind, trained) for kind in cifar_study.STUDY]
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
        "cifar10-seeds": cifar_seeds.seeds(run),
        "cifar10-methods": cifar_seeds.methods(run),
        "cifar10-cost": cost(run),
        "cifar10-facts": facts(run),
        "cifar10-total": total(run),
        "cifar10-verdicts": verdicts(run),
        "cifar10-claims": claims(run, "ldat"),
        "cifar10-claims-chosen": claims(run, run.profile.base),
        "cifar10-scrutiny": scrutiny(run),
        "cifar10-beta": cifar_study.beta(run),
        "cifar10-fig6": cifar_study.replaced(run),
        "cifar10-study": cifar_study.study(run),
        "cifar10-heads": cifar_study.heads(run),
        "cifar10-parts": cifar_study.parts(run),
        "cifar10-lengths": cifar_study.lengths(run),
        "six-epochs": cifar_study.six_epochs(),
        "way-back": cifar_study.way_back(),
    }
