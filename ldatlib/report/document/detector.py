"""The detector: thresholds, Figures 8 and 9, an attack that knows the threshold."""

import pandas as pd
from markupsafe import Markup

from ldatlib.report import components, conclusions, glossary, tables, words
from ldatlib.report.document.alive import pictures
from ldatlib.report.document.kept import Kept, Section
from ldatlib.report.document.scrutiny import Scrutiny
from ldatlib.report.grid import of_frame
from ldatlib.report.words import NORMS
from ldatlib.study.records import Detection
from ldatlib.study.run import Run

# Shares of clean validation images that are accepted: of some twenty that were computed.
_ACCEPTANCES = (0.95, 0.99)


def detector(run: Run) -> Section:
    """What rejecting costs and buys, under ordinary attacks and under one that knows it."""
    found = Scrutiny(run)
    seen = list(found.detection.values())
    base = found.detection.get(run.profile.base)
    parts: list[Markup] = []
    if seen:
        parts += _thresholds(seen)
    parts += _adaptive(found)
    parts.append(pictures(run, "fig8", "fig9", "adaptive", "rejection", "threshold"))
    if base:
        parts += _outcomes(base)
        parts.append(components.lines(conclusions.thresholds(base.record)))
    body = components.joined(*parts)
    return Section("detector", "Rejecting: the detector", "08", body or None, opened=False)


def _thresholds(seen: list[Kept[Detection]]) -> list[Markup]:
    records = {one.training.name: one.record for one in seen}
    paths = {glossary.defence(one.training.name): one.path for one in seen}
    made = of_frame(
        tables.thresholds(records),
        "thresholds",
        "Thresholds, frozen on validation images, and what they do to natural test images.",
        records=lambda key: [paths[key[0]]],
        precision={"value": 3},
    )
    parts = [components.table(made)]
    areas = tables.areas(records)
    for norm, title in NORMS.items():
        columns = [c for c in areas if str(c).startswith(f"{title} ")]
        made = of_frame(
            areas[columns],
            f"areas-{norm}",
            f"AUC under {title}: natural right images against successful adversarial ones; 0.5 is "
            "a coin. Empty: the attack fooled no image.",
            records=lambda key: [paths[key[0]]],
            numbers=areas[columns].reset_index(),
            precision=3,
        )
        parts.append(components.table(made))
    return parts


def _outcomes(base: Kept[Detection]) -> list[Markup]:
    """The four counts of one network, each score and norm apart."""
    parts = [components.heading(f"Every count of {base.training.title}")]
    for score in base.record.scores:
        frame = pd.DataFrame(tables.outcome_rows(base.record, score))
        for norm, title in NORMS.items():
            own = frame[frame["set"].str.startswith(f"{norm}_") | (frame["set"] == "clean")]
            made = of_frame(
                tables.outcomes_for_reading(own),
                f"outcomes-{score.replace('_', '-')}-{norm}",
                f"{base.training.title}, {glossary.title(score)}, natural images and {title}: "
                "accepted or rejected, right or wrong. Worst case: missed if any attack is.",
                records=lambda _: [base.path],
                numbers=own,
                precision=3,
            )
            parts.append(components.table(made))
    return parts


def _adaptive(found: Scrutiny) -> list[Markup]:
    adaptive, ordinary = found.aimed()
    if not adaptive:
        return []
    parts = []
    paths = {
        words.network(one.record.defence, one.record.ok): [
            one.path,
            found.detection[one.training.name].path,
        ]
        for one in found.adaptive.values()
        if one.training.name in found.detection
    }
    frame = tables.adaptive_at_frozen(adaptive, ordinary)
    curves = tables.rejection_rows(adaptive, ordinary)
    chosen = curves[curves.acceptance.isin(_ACCEPTANCES)]
    for norm, title in NORMS.items():
        own = frame[frame.norm == norm]
        if len(own):
            shown = tables.adaptive_for_reading(own).droplevel("norm")
            made = of_frame(
                shown,
                f"adaptive-{norm}",
                f"The detector under {title}, ordinary attacks against one that knows the "
                "threshold (%). Missed: wrong and accepted, of all images.",
                records=lambda key: paths[key[0]],
                numbers=own,
            )
            parts.append(components.table(made))
        curve = chosen[chosen.norm == norm]
        if len(curve):
            made = of_frame(
                tables.rejection_for_reading(curve).droplevel("norm"),
                f"rejection-{norm}",
                f"The detector under {title}, by the share of clean images that it accepts (%); "
                "the file has every share.",
                records=lambda key: paths[key[0]],
                numbers=curves[curves.norm == norm],
            )
            parts.append(components.table(made))
    return parts
