"""The worst case of all attacks, tests for gradient masking, attacks that know the threshold."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from ldatlib.report import components, conclusions, glossary, tables, words
from ldatlib.report.comparisons import leaders_of, survivors
from ldatlib.report.conclusions.saying import listed
from ldatlib.report.document.alive import pictures
from ldatlib.report.document.kept import Kept, Section, kept
from ldatlib.report.grid import BEST, LEVEL, of_frame
from ldatlib.report.tables.masking import SILENT
from ldatlib.report.words import NORMS
from ldatlib.study.records import Adaptive, Autoattack, Detection, Masking, Search, Whitebox
from ldatlib.study.run import Run

Others = Search | Masking | Adaptive


class Scrutiny:
    """The records of it, by defence, as far as there are any."""

    def __init__(self, run: Run):
        first = run.select_seed(run.trainings())

        def by_name(found: Iterable[Kept]) -> dict[str, Kept]:
            return {one.training.name: one for one in found}

        self.whitebox = by_name(kept(run, "whitebox", first, Whitebox))
        self.auto = by_name(kept(run, "autoattack", first, Autoattack))
        self.search = by_name(kept(run, "search", first, Search))
        self.masking = by_name(kept(run, "masking", first, Masking))
        self.adaptive = by_name(kept(run, "adaptive", first, Adaptive))
        self.detection = by_name(kept(run, "detection", first, Detection))

    @property
    def names(self) -> list[str]:
        """Defences that AutoAttack has seen."""
        return [name for name in self.whitebox if name in self.auto]

    def others(self, name: str) -> list[Others]:
        """All further records of a defence."""
        kinds = (self.search, self.masking, self.adaptive)
        return [found[name].record for found in kinds if name in found]

    def paths(self, name: str) -> list[Path]:
        """The files that its worst case of all attacks comes from."""
        kinds = (self.whitebox, self.auto, self.search, self.masking, self.adaptive)
        return [found[name].path for found in kinds if name in found]

    def worst_cases(self) -> pd.DataFrame | None:
        """``tables.scrutiny``; None where AutoAttack has seen nobody."""
        if not self.names:
            return None
        return tables.scrutiny(
            [self.whitebox[name].record for name in self.names],
            [self.auto[name].record for name in self.names],
            {name: self.others(name) for name in self.names},
        )

    def aimed(self) -> tuple[list[Adaptive], list[Detection]]:
        """Adaptive records, and those of the detector of the same networks."""
        names = [name for name in self.adaptive if name in self.detection]
        return (
            [self.adaptive[name].record for name in names],
            [self.detection[name].record for name in names],
        )


def scrutiny(run: Run) -> Section:
    """Every table of it that the run can give, each norm apart."""
    found = Scrutiny(run)
    parts = [*_worst_cases(found), *_masking(found)]
    parts += [pictures(run, "scrutiny", "growing_eps_l2", "growing_eps_linf", "surface_l2")]
    body = components.joined(*parts)
    title = "All attacks: the worst case, and gradient masking"
    return Section("scrutiny", title, "09", body or None)


def _worst_cases(found: Scrutiny) -> list[Markup]:
    table = found.worst_cases()
    if table is None:
        return []
    shown = tables.scrutiny_for_reading(table)
    titles = {
        words.network(row.defence, row.ok, row.seed): row.defence for _, row in table.iterrows()
    }
    parts = [components.lines(conclusions.worst_cases(table)[-1:])]
    for norm, title in NORMS.items():
        rows = shown.xs(title, level="norm")
        right = {
            name: survivors(
                found.whitebox[name].record, found.auto[name].record, found.others(name), norm
            )["worst_case"]
            for name in found.names
        }
        best, level = leaders_of(right)
        marks = {
            (text,): BEST if name == best else LEVEL
            for text, name in titles.items()
            if name == best or name in level
        }
        caption = (
            f"What attacks leave under {title} (%). All attacks: Table 1's, AutoAttack, the search "
            "and those of notebook 09, image by image. Overstated: Table 1's attacks leave more "
            "images than all attacks do."
        )
        parts.append(
            components.table(
                of_frame(
                    rows,
                    f"scrutiny-{norm}",
                    caption,
                    records=lambda key: found.paths(titles[key[0]]),
                    marks={glossary.title("all_worst_case"): marks},
                    numbers=table[table.norm == norm],
                )
            )
        )
    return parts


def _masking(found: Scrutiny) -> list[Markup]:
    records = [one.record for one in found.masking.values()]
    if not records:
        return []
    rows = tables.masking_rows(records)
    parts = [components.lines(conclusions.masks(rows))]
    for norm, title in NORMS.items():
        shown = tables.masking_verdicts(records, norm)
        if (shown == SILENT).all(axis=None):
            # A page of dashes says less than a line.
            if not shown.empty:
                silent = f"Silent for every network under {title}: {listed(list(shown.index))}."
                parts.append(components.lines([silent]))
        else:
            caption = (
                f"Tests for gradient masking, {title}. Misled: a gradient or a loss misleads, "
                "which is masking; stuck: a search from starts in the ball is, at local maxima, "
                "which is none; overstated: the reported worst case is too high."
            )
            own = rows[rows.norm == norm]
            made = of_frame(shown.fillna(""), f"masking-{norm}", caption, numbers=own)
            parts.append(components.table(made))
    titles = {
        words.network(one.record.defence, one.record.ok): one for one in found.masking.values()
    }
    made = of_frame(
        tables.alarms(records),
        "alarms",
        "Tests for gradient masking that sound, what they tell, and why.",
        records=lambda key: [titles[key[0]].path],
        links=("tests",),
    )
    return [*parts, components.table(made)]
