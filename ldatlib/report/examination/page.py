"""The page of an examination: verdict first, then every ground of it. It asks for no other file."""

import io
import json
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from ldatlib.report.escape import in_html
from ldatlib.report.examination import frames, verdict
from ldatlib.report.figures.look import caption
from ldatlib.report.page import inlined, paragraph, styled
from ldatlib.report.words import NORMS
from ldatlib.study.records.examination import Examination

# Nothing but what stands in the page may be shown, and nothing runs.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LOOK = """
body{font-family:sans-serif;max-width:62em;margin:2em auto;padding:0 1em;line-height:1.4;
 color:#222;background:#fff}
table{border-collapse:collapse;font-size:85%;margin:1em 0}
th,td{text-align:left;padding:.2em .7em;border-bottom:1px solid #ddd;vertical-align:top}
.wide{overflow-x:auto}
.verdict{border-left:.4em solid #029e73;background:#f4f6f5;padding:.4em 1em;font-size:110%}
.doubt{border-left-color:#d62728}
pre{background:#f4f4f4;padding:.8em;white-space:pre-wrap}
"""


def whole(record: Examination, figures: Sequence[Figure]) -> str:
    """The page as a document."""
    return document(f"Examination of {record.source}", body(record, figures))


def document(title: str, content: str) -> str:
    """A page that asks for no other file: ``content`` is HTML, ``title`` is not."""
    title = in_html(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_LOOK}</style></head>\n"
        f"<body><h1>{title}</h1>\n{content}\n</body></html>\n"
    )


def body(record: Examination, figures: Sequence[Figure]) -> str:
    """The page's content: verdict, attacks, tests, pictures, what was not tried, how to repeat."""
    parts = [
        _verdict(record),
        paragraph(f"{record.data}: {record.images} images, {record.num_classes} classes.", "Data."),
        section("Attack by attack", _attacks(record), "attacks"),
        section("Tests for gradient masking", _tests(record), "masking"),
        section("The detector", _detector(record), "detector"),
        *map(drawn, figures),
        "<h2>Not tried</h2>",
        listed(record.not_tried),
        "<h2>Again</h2>",
        _again(record),
        "<h2>Settings and provenance</h2>",
        f"<pre>{in_html(json.dumps(_origin(record), indent=1))}</pre>",
    ]
    return "\n".join(part for part in parts if part)


def _verdict(record: Examination) -> str:
    kind = "verdict doubt" if record.doubts else "verdict"
    return f'<div class="{kind}">{"".join(map(paragraph, verdict.lines(record)))}</div>'


def section(title: str, frame: pd.DataFrame, name: str) -> str:
    """A table under its title; empty where it has no rows. ``name`` is for its HTML."""
    if not len(frame):
        return ""
    frame = frame.replace({"norm": NORMS}).astype(object)
    frame = frame.where(frame.notna(), "")
    table = styled(frame, name, precision=4).hide(axis="index").to_html()
    return f'<h2>{in_html(title)}</h2><div class="wide">{table}</div>'


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


def drawn(figure: Figure) -> str:
    """A figure within the page, with its words."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    return inlined(png.getvalue(), in_html(caption(figure)))


def listed(lines: Sequence[str]) -> str:
    """Lines of plain text, one below the other."""
    return f"<ul>{''.join(f'<li>{in_html(line)}</li>' for line in lines)}</ul>"


def _again(record: Examination) -> str:
    if record.command:
        return f"<pre>{in_html(record.command)}</pre>"
    return paragraph("Called from Python, with the settings below.")


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
