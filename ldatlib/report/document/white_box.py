"""White-box robustness: Table 1 or 2 by norm, and Figures 4 and 5."""

from collections.abc import Callable

import pandas as pd
import torch
from markupsafe import Markup
from torch import Tensor

from ldatlib.report import components, conclusions, paper, tables
from ldatlib.report.comparisons import leaders_of, right_images
from ldatlib.report.document.alive import pictures
from ldatlib.report.document.kept import Kept, Section, kept
from ldatlib.report.grid import BEST, LEVEL, Cell, Table, cell, of_frame
from ldatlib.report.words import NORMS, column_title, network, percent
from ldatlib.study.records import Share, Sweep, Whitebox
from ldatlib.study.run import Run


def white_box(run: Run) -> Section:
    """Table 1 (of CIFAR-100: Table 2), the sweeps over budgets and iterations, seeds."""
    number = paper.counterparts(run.dataset.num_classes).white_box
    found = kept(run, "whitebox", run.trainings(), Whitebox)
    parts: list[Markup] = []
    if found:
        parts += [components.table(table1(found, norm, number)) for norm in NORMS]
        parts += _seeds(found)
    first = run.select_seed(run.trainings())
    sweeps = {
        kind: {k.training.name: k.record for k in kept(run, kind, first, Sweep)}
        for kind in ("sweep_eps", "sweep_steps")
    }
    said = conclusions.convergence(sweeps["sweep_steps"])
    said += conclusions.emptied(sweeps["sweep_eps"])
    said += conclusions.oddities(one.record for one in found)
    parts += [pictures(run, "fig5", "gallery")]
    if found:
        parts += [components.lines(said)]
    body = components.joined(*parts)
    return Section("white-box", f"White box: Table {number}", "03", body or None)


def table1(found: list[Kept[Whitebox]], norm: str, number: int) -> Table:
    """One norm of Table 1 or 2: measured, and the paper's number with it."""
    printed = paper.table(number).set_index("defence")
    data = paper.counterparts(100 if number == 2 else 10).data
    methods = list(
        dict.fromkeys(k for one in found for k in one.record.attacks if k.startswith(f"{norm}_"))
    )
    keys = ["natural", *methods, norm]
    marks = {key: _marks(found, key) for key in keys}
    rows = []
    for one in found:
        record = one.record
        row = [cell(network(record.defence, record.ok, record.seed))]
        for key in keys:
            share, beside = _share(record, key), _printed(printed, record, key)
            mark = marks[key].get(one.training.label, "")
            if share is None:
                row.append(Cell("", None, beside))
                continue
            row.append(Cell(percent(share), 100 * share.value, beside, (one.path.name,), mark))
        rows.append(row)
    caption = (
        f"Table {number}, {NORMS[norm]}: share of all test images right (%), ± half of its 95% "
        f"interval; the paper's on {data}. Worst case: right under every attack of the norm."
    )
    head = ["defence", *(column_title(key).removeprefix(f"{NORMS[norm]} ") for key in keys)]
    numbers = tables.table1([one.record for one in found])
    own = [c for c in numbers if not c.startswith(tuple(f"{n}_" for n in NORMS if n != norm))]
    return Table(f"table{number}-{norm}", caption, head, rows, 1, numbers[own])


def _share(record: Whitebox, key: str) -> Share | None:
    """Of an attack, of ``natural`` or of a norm's worst case; None where it was not run."""
    if key == "natural":
        return record.clean_accuracy
    if key in record.attacks:
        return record.attacks[key].robust_accuracy
    return record.worst_case.get(key)


def _printed(table: pd.DataFrame, record: Whitebox, key: str) -> str:
    """The paper's number, with the first training of a defence; nothing where it has none."""
    if key not in table or record.seed or record.defence not in table.index:
        return ""
    value = table.loc[record.defence, key]
    return "" if pd.isna(value) else f"{value:.2f}"


def _marks(found: list[Kept[Whitebox]], key: str) -> dict[str, str]:
    """The best of a column, and all that are not told apart from it, by label of the training."""

    def has(one: Kept[Whitebox]) -> bool:
        record = one.record
        return key == "natural" or key in record.attacks or key in record.worst_case

    return marked(found, has, lambda one: right_images(one.record, key))


def marked(
    found: list[Kept[Whitebox]],
    has: Callable[[Kept[Whitebox]], bool],
    right: Callable[[Kept[Whitebox]], Tensor],
) -> dict[str, str]:
    """Marks by label, of those networks that have a record, on the same images."""
    images = {one.training.label: right(one) for one in found if has(one)}
    if len(images) < 2 or not torch.stack(list(images.values())).any():
        return {}
    best, level = leaders_of(images)
    return dict.fromkeys(level, LEVEL) | {best: BEST}


def _seeds(found: list[Kept[Whitebox]]) -> list[Markup]:
    spread = tables.over_seeds([one.record for one in found])
    if not len(spread):
        return []
    shown = spread.assign(
        defence=[network(name) for name in spread.defence],
        column=[column_title(key) for key in spread.column],
    ).set_index(["defence", "column"])
    caption = "Several trainings of each: mean, standard deviation and range over seeds (%)."
    return [components.table(of_frame(shown, "seeds", caption, numbers=spread))]
