"""The page of an examination: verdict first, then every ground of it. It asks for no other file."""

import io
import json
from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from ldatlib.report import components
from ldatlib.report.examination import frames, verdict
from ldatlib.report.figures.look import caption
from ldatlib.report.grid import of_frame
from ldatlib.report.words import NORMS
from ldatlib.study.records.examination import Examination


def whole(record: Examination, figures: Sequence[Figure]) -> str:
    """The page as a document."""
    return components.document(f"Examination of {record.source}", _body(record, figures))


def body(record: Examination, figures: Sequence[Figure]) -> str:
    """The page's content: verdict, attacks, tests, pictures, what was not tried, how to repeat."""
    return str(_body(record, figures))


def _body(record: Examination, figures: Sequence[Figure]) -> Markup:
    data = f"{record.data}: {record.images} images, {record.num_classes} classes."
    again = (
        components.preformatted(record.command)
        if record.command
        else components.paragraph("Called from Python, with the settings below.")
    )
    return components.joined(
        components.verdict(verdict.lines(record), bool(record.doubts)),
        components.paragraph(data, "Data."),
        section("Attack by attack", _attacks(record), "attacks"),
        section("Tests for gradient masking", _tests(record), "masking"),
        section("The detector", _detector(record), "detector"),
        *map(drawn, figures),
        components.heading("Not tried"),
        components.lines(record.not_tried),
        components.heading("Again"),
        again,
        components.heading("Settings and provenance"),
        components.preformatted(json.dumps(_origin(record), indent=1)),
    )


def section(title: str, frame: pd.DataFrame, name: str) -> Markup | None:
    """A table under its title; none where it has no rows. ``name`` is for its HTML."""
    if not len(frame):
        return None
    frame = frame.replace({"norm": NORMS}).reset_index(drop=True)
    # Its numbers are in the folder beside the page: tables/NAME.csv.
    made = components.table(of_frame(frame, name, "", precision=4), download=False)
    return components.joined(components.heading(title), made)


def _attacks(record: Examination) -> pd.DataFrame:
    """Without what took nothing for the tests for masking, which have a table of their own."""
    found = frames.attacks(record)
    shown = found[(found.family != "masking") | (found.taken > 0)]
    return shown[[c for c in shown if c != "warnings" or shown.warnings.any()]]


def _tests(record: Examination) -> pd.DataFrame:
    found = frames.tests(record)
    return found[["norm", "title", "verdict", "reason"]] if len(found) else found


def _detector(record: Examination) -> pd.DataFrame:
    found = frames.detector(record)
    return found[found.acceptance >= 0.8] if len(found) else found


def drawn(figure: Figure) -> Markup:
    """A figure within the page, with its words."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    return components.figure(png.getvalue(), caption(figure))


def _origin(record: Examination) -> dict:
    libraries = record.provenance.libraries
    return {
        "key": record.key,
        "images and labels, SHA-256": record.fingerprint,
        "weights, SHA-256": record.weights,
        "settings": record.settings,
        "seconds": record.seconds,
        "device": record.provenance.device,
        "source revision": record.provenance.revision,
        "libraries": libraries,
    }
