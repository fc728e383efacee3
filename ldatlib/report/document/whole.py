"""The report put together: first screen, claims, one section a question, provenance, errata."""

from pathlib import Path

from markupsafe import Markup

from ldatlib.files import write_bytes
from ldatlib.report import claims, components, errata, glossary, oddity, paper, summary
from ldatlib.report.components import Entry
from ldatlib.report.document.alive import drawing
from ldatlib.report.document.detector import detector
from ldatlib.report.document.kept import Section, kept
from ldatlib.report.document.lead import lead
from ldatlib.report.document.others import ablations, black_box, features, training
from ldatlib.report.document.scrutiny import scrutiny
from ldatlib.report.document.white_box import white_box
from ldatlib.report.grid import of_frame
from ldatlib.study.records import Train
from ldatlib.study.run import Run

_RULES = (
    "Networks are compared on the same images (McNemar's exact test), methods over three trainings "
    "of each or more (Welch's test); every p is corrected for the comparisons of its claim (Holm). "
    "Claims stand in our words; (ours) marks those that are not the paper's. "
    "A claim holds where all of them speak for it at 5%, and does not where one speaks against it. "
    '"Hardly", "approaches", "almost no" mean at most 5 points. A verdict speaks of this network, '
    "unless it says more."
)


def html(run: Run) -> str:
    """The report of a run as a document: what there is shown, what is missing named."""
    judged = claims.judged(run)
    sections = [
        _claims(run, judged),
        white_box(run),
        scrutiny(run),
        detector(run),
        black_box(run),
        ablations(run),
        features(run),
        training(run),
        _provenance(run),
        _inventory(run),
        _errata(),
    ]
    contents = [Entry("main", "In short"), *(Entry(s.name, s.title) for s in sections)]
    body = components.joined(lead(run, judged), *(section.html() for section in sections))
    title = f"LDAT on {run.dataset.title}: what this run measured"
    return components.document(title, body, contents, alive=True, charts=drawing(body))


def write(run: Run) -> Path:
    """``report.html`` in the folder of the run; returns its path."""
    path = run.root / "report.html"
    write_bytes(path, html(run).encode())
    return path


def _claims(run: Run, judged: list[claims.Judged]) -> Section:
    parts = [components.paragraph(_RULES), components.claims(judged, "claims-ldat")]
    if run.profile.base != "ldat":
        own = glossary.defence(run.profile.base)
        parts += [
            components.heading(f"The same claims put to {own}"),
            components.paragraph(
                "Its settings were chosen on validation images; no rival was tuned."
            ),
            components.claims(claims.judged(run, run.profile.base), "claims-base"),
        ]
    ours = sum(one.claim.extension for one in judged)
    title = f"What the paper claims: {len(judged) - ours} verdicts, and {ours} on claims of ours"
    return Section("claims", title, "10", components.joined(*parts))


def _provenance(run: Run) -> Section:
    found = kept(run, "train", run.trainings(), Train)
    parts: list[Markup] = []
    if found:
        facts = summary.facts(run, found[0].record)
        parts.append(components.table(of_frame(facts, "facts", "What was run, and on what.")))
    failed = summary.self_checks(run)
    if failed.empty:
        parts.append(components.paragraph("All self-checks of all records passed."))
    else:
        caption = "Self-checks that failed: do not use the numbers of these records."
        parts.append(components.table(of_frame(failed, "self-checks", caption)))
    title = "Settings, provenance, self-checks"
    return Section("provenance", title, "02", components.joined(*parts), opened=False)


def _inventory(run: Run) -> Section:
    made = of_frame(
        summary.inventory(run), "items", "Every table and figure of the paper, and where it is."
    )
    return Section(
        "inventory", "Everything in the paper", "10", components.table(made), opened=False
    )


def _errata() -> Section:
    said = [*errata.ERRATA, *errata.of_table1(), *oddity.of_the_paper(paper.table(1))]
    intro = "Found while reading; each was checked against the paper's own tables."
    body = components.joined(components.paragraph(intro), components.lines(said))
    return Section("errata", "Errata of the paper", "10", body, opened=False)
