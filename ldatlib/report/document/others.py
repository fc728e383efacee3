"""Sections of the report: black box, what was changed one thing at a time, features, training."""

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report import components, conclusions, paper, tables, words
from ldatlib.report.comparisons import Shown, leaders, leaders_of, right_images, transfer_pair
from ldatlib.report.document.alive import pictures
from ldatlib.report.document.kept import Kept, Section, kept
from ldatlib.report.grid import BEST, LEVEL, Cell, Table, cell, of_frame
from ldatlib.report.words import column_title
from ldatlib.study.records import Basic, Features, Train, Transfer
from ldatlib.study.run import Run
from ldatlib.study.trainings import Training

_BLACK_BOX = {"fgsm": "linf_fgsm", "mi_fgsm": "linf_mi_fgsm", "pgd": "linf_pgd"}


def black_box(run: Run) -> Section:
    """Table 4 (of CIFAR-100: Table 5), a surrogate each, and who fools whom."""
    number = paper.counterparts(run.dataset.num_classes).black_box
    found = kept(run, "transfer", run.surrogates(), Transfer)
    parts = [components.table(_table4(run, one, number)) for one in found]
    first = run.select_seed(run.trainings())
    sources = kept(run, "transfer", [*run.surrogates(), *first], Transfer)
    named = [one for one in sources if all(t.label in one.record.targets for t in first)]
    if named:
        crafted = [one.record for one in named]
        matrix = tables.transfer_matrix(crafted, [one.training for one in named], first)
        paths = {one.training.title: one.path for one in named}
        caption = (
            "Who fools whom: accuracy (%) of each network (column) under L-inf PGD crafted on "
            "another (row)."
        )
        made = of_frame(
            matrix.rename_axis("crafted on"),
            "transfer",
            caption,
            records=lambda key: [paths[key[0]]],
            numbers=matrix.rename_axis("crafted on").reset_index(),
        )
        parts.append(components.table(made))
    parts.append(pictures(run, "transfer"))
    seen = [t for t in run.trainings() if all(t.label in one.record.targets for one in found)]
    if len(found) == 2 and seen:
        said = conclusions.surrogates([one.record for one in found], seen)
        parts.append(components.lines(said))
    body = components.joined(*parts)
    return Section("black-box", f"Black box: Table {number}", "04", body or None, opened=False)


def _table4(run: Run, one: Kept[Transfer], number: int) -> Table:
    """Everybody under images of one surrogate, the paper's number with it."""
    surrogate = "undefended" if one.record.defence == "natural" else "defended"
    printed = paper.table(number).set_index(["surrogate_as_text", "defence"])
    targets = [t for t in run.trainings() if t.label in one.record.targets]
    keys = {"natural": "clean", **_BLACK_BOX}
    rows: list[list[Cell]] = [[cell(_title(target))] for target in targets]
    for name, key in keys.items():
        marks = _transferred(one.record, targets, key)
        for row, target in zip(rows, targets, strict=True):
            share = one.record.targets[target.label][key]
            index, beside = (surrogate, target.name), ""
            if name in _BLACK_BOX and target.config.seed == 0 and index in printed.index:
                beside = f"{printed.loc[index][name]:.2f}"
            mark = marks.get(target.label, "")
            row.append(
                Cell(words.percent(share), 100 * share.value, beside, (one.path.name,), mark)
            )
    head = ["defence", column_title("natural"), *(METHODS[name].title for name in _BLACK_BOX)]
    caption = (
        f"Table {number}, {surrogate} surrogate: right (%) under images crafted on it, L-inf; the "
        f"paper's on {paper.counterparts(run.dataset.num_classes).data}."
    )
    numbers = tables.table4([one.record], targets)
    return Table(f"table{number}-{surrogate}", caption, head, rows, 1, numbers)


def _transferred(record: Transfer, targets: Sequence[Training], key: str) -> dict[str, str]:
    shown = {t.label: Shown(record, t.label, key) for t in targets}
    if len(shown) < 2:
        return {}
    values = {label: one.share.value for label, one in shown.items()}
    best, level = leaders(values, lambda a, b: transfer_pair(shown[a], shown[b]))
    return dict.fromkeys(level, LEVEL) | {best: BEST}


def _title(training: Training) -> str:
    return words.network(training.name, seed=training.config.seed)


def ablations(run: Run) -> Section:
    """Table 3, Algorithm 1 replaced (Figure 6), and the likelihood term changed."""
    betas = {
        beta: one
        for beta, training in run.beta_trainings().items()
        for one in kept(run, "basic", [training], Basic)
    }
    parts: list[Markup] = []
    if betas:
        printed = paper.table(3).set_index("beta")
        beside = {
            (f"{beta:g}", key): f"{printed[column][beta]:.2f}"
            for beta in betas
            if beta in printed.index
            for key, column in (("natural", "natural"), ("linf_pgd", "robust"))
        }
        named = {f"{beta:g}": one for beta, one in sorted(betas.items())}
        numbers = tables.table3({beta: one.record for beta, one in betas.items()})
        caption = "Table 3: sensitivity to beta (%); the paper's on CIFAR-10."
        parts.append(components.table(_basic(named, "table3", "beta", caption, beside, numbers)))
    replaced = {
        name: one
        for name, training in run.attack_trainings().items()
        for one in kept(run, "basic", [training], Basic)
    }
    if len(replaced) > 1:
        caption = "Algorithm 1, and PGD in its place (%); * is L-inf."
        parts.append(components.table(_basic(replaced, "fig6", "trained against", caption, {})))
    parts.append(pictures(run, "fig6"))
    parts += _switches(run)
    body = components.joined(*parts)
    return Section("ablations", "Ablations: Table 3, Figure 6", "05", body or None, opened=False)


def _basic(
    named: dict[str, Kept[Basic]],
    name: str,
    what: str,
    caption: str,
    beside: dict[tuple[str, str], str],
    numbers: pd.DataFrame | None = None,
) -> Table:
    """Natural accuracy and PGD of several networks; ``beside``: by row and column."""
    keys = ["natural", *next(iter(named.values())).record.attacks]
    rows = [[cell(title)] for title in named]
    for key in keys:
        right = {title: right_images(one.record, key) for title, one in named.items()}
        best, level = leaders_of(right)
        for row, (title, one) in zip(rows, named.items(), strict=True):
            record = one.record
            share = record.clean_accuracy
            if key != "natural":
                share = record.attacks[key].robust_accuracy
            mark = BEST if title == best else LEVEL if title in level else ""
            paper_number = beside.get((title, key), "")
            row.append(
                Cell(words.percent(share), 100 * share.value, paper_number, (one.path.name,), mark)
            )
    return Table(name, caption, [what, *map(column_title, keys)], rows, 1, numbers)


def _switches(run: Run) -> list[Markup]:
    """The study of the likelihood term, of the trainings that have all of its records."""
    wanted = {} if run.profile.ablations == "paper" else run.switch_trainings()
    trained, validated, tested = [], [], []
    names, paths = [], {}
    for name, training in wanted.items():
        train = kept(run, "train", [training], Train)
        val, test = (kept(run, kind, [training], Basic) for kind in ("validation", "basic"))
        if train and val and test:
            names.append(name)
            trained.append(train[0].record)
            validated.append(val[0].record)
            tested.append(test[0].record)
            paths[name] = [test[0].path, val[0].path, train[0].path]
    if not names:
        return []
    records = (trained, validated, tested)
    made = of_frame(
        tables.likelihood_study_for_reading(names, *records),
        "switches",
        "One thing changed at a time: test accuracy (%), and where the features lie.",
        records=lambda key: paths[key[0]],
        numbers=tables.likelihood_study(names, *records),
    )
    return [components.table(made)]


def features(run: Run) -> Section:
    """Figures 1, 2, 3 and 7, and what t-SNE cannot say."""
    first = run.select_seed(run.trainings())
    found = kept(run, "features", first, Features)
    parts: list[Markup] = []
    if found:
        records = {one.training.title: one.record for one in found}
        made = of_frame(
            tables.feature_numbers_for_reading(records).rename_axis("number"),
            "feature-numbers",
            "Where natural and adversarial features lie; what t-SNE cannot say.",
            numbers=tables.feature_numbers(records).rename_axis("number").reset_index(),
        )
        parts = [components.table(made), components.lines(conclusions.probes(records))]
    parts.append(pictures(run, "fig7", "fig1", "fig2", "fig3"))
    body = components.joined(*parts)
    return Section("features", "Features and decision boundaries", "06", body or None, opened=False)


def training(run: Run) -> Section:
    """What every training cost and where it ended."""
    found = kept(run, "train", run.trainings(), Train)
    parts: list[Markup] = []
    if found:
        frame = tables.trainings([one.record for one in found])
        paths = {(one.record.defence, one.record.seed): one.path for one in found}
        keys = {(words.network(name), seed): path for (name, seed), path in paths.items()}
        made = of_frame(
            frame.set_index(["defence", "seed"]),
            "trainings",
            "What every training cost, and where it ended on validation images.",
            records=lambda key: [keys[key]],
            numbers=frame,
        )
        logs = {one.training.name: run.log(one.training) for one in found}
        trained = [one.training for one in found if one.record.seed == 0]
        said = conclusions.perturbations(trained, logs)
        parts = [components.table(made), components.lines(said)]
    parts.append(pictures(run, "training"))
    body = components.joined(*parts)
    return Section("training", "Training", "02", body or None, opened=False)
