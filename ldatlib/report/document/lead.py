"""The first screen: what was run, what was found, whether to build on it, verdicts counted."""

from collections.abc import Sequence

from markupsafe import Markup

from ldatlib.report import claims, components, conclusions, glossary, paper, tables
from ldatlib.report.claims.detector import helps_against_the_adaptive
from ldatlib.report.claims.evidence import Evidence
from ldatlib.report.claims.table import Judged, observe
from ldatlib.report.components import Finding
from ldatlib.report.document.alive import pictures
from ldatlib.report.document.scrutiny import Scrutiny
from ldatlib.report.summary import self_checks
from ldatlib.report.words import NORMS, budget
from ldatlib.study.run import Run

# Where the ground of a finding stands.
_GROUND = {"natural": "white-box", "linf": "scrutiny", "l2": "scrutiny"}


def lead(run: Run, judged: Sequence[Judged]) -> Markup:
    """All of it; ``judged``: the claims put to LDAT as written."""
    evidence, scrutiny = Evidence(run, run.profile.base), Scrutiny(run)
    return components.joined(
        components.lead(what_was_run(run, len(evidence.whitebox))),
        _warning(run),
        _trust(run),
        components.findings(findings(run, evidence, scrutiny)),
        _advice(run, evidence, scrutiny),
        components.counts(
            {o: n for o in claims.OUTCOMES if (n := _count(judged, o))}, _asked(judged)
        ),
        pictures(run, "fig4"),
    )


def in_short(run: Run) -> list[str]:
    """What the first screen says, as sentences: what was run, and what was found."""
    evidence = Evidence(run, run.profile.base)
    found = findings(run, evidence, Scrutiny(run))
    return [what_was_run(run, len(evidence.whitebox)), *(finding.text for finding in found)]


def what_was_run(run: Run, networks: int) -> str:
    """On what data, how, attacked within which budgets: a sentence."""
    p, data = run.profile, run.dataset
    count = {split: len(data.labels[split]) for split in ("train", "test")}
    network = run.trainings()[0].config.network.title
    so_far = "" if networks == len(p.defences) else f", {networks} of them attacked so far,"
    done = f"{len(p.defences)} defences{so_far}"
    times = f", {p.seeds} times each" if p.seeds > 1 else ""
    budgets = " and ".join(budget(norm, getattr(p, f"eps_{norm}")) for norm in NORMS)
    return (
        f"{done} trained on {data.title} ({count['train']:,} images, {data.num_classes} classes; "
        f"{network}, {p.epochs} epochs{times}) and attacked on test images within {budgets}."
    )


def _warning(run: Run) -> Markup | None:
    train_images, config = len(run.dataset.labels["train"]), run.trainings()[0].config
    if not paper.is_papers_data(run.dataset):
        text = (
            "Its numbers stand beside ours for orientation: compare the order of the defences, "
            "not accuracies. Every verdict speaks of what is so here."
        )
        return components.warning(text, f"The data is {run.dataset.title}, not the paper's CIFAR.")
    if not paper.is_papers_scale(config, train_images):
        text = (
            f"{config.network.title}, {config.epochs} epochs of {train_images:,} images: "
            "accuracies are lower for that reason alone. Every verdict speaks of this scale."
        )
        return components.warning(text, "Not the paper's scale.")
    return None


def _trust(run: Run) -> Markup | None:
    failed = self_checks(run)
    if failed.empty:
        return None
    text = f"{len(failed)} self-checks failed; see below."
    return components.warning(text, "Do not use the numbers of these records.")


def findings(run: Run, evidence: Evidence, scrutiny: Scrutiny) -> list[Finding]:
    """Three or four sentences with their numbers, each with the place of its ground."""
    own = run.profile.base
    said = [
        Finding(conclusions.standing(contest, own), _GROUND[contest.name])
        for contest in conclusions.contests(evidence)
    ]
    # Robustness first: it is what the paper is about.
    said = [*said[1:], *said[:1]]
    adaptive, ordinary = scrutiny.aimed()
    if adaptive:
        rows = tables.adaptive_at_frozen(adaptive, ordinary)
        (asked,) = [c for c in claims.CLAIMS if c.observe is helps_against_the_adaptive]
        curves = tables.rejection_rows(adaptive, ordinary)
        text = conclusions.rejecting(rows, own, observe(asked, evidence).holds, curves)
        said += [Finding(text, "detector")] if text else []
    return said


def _advice(run: Run, evidence: Evidence, scrutiny: Scrutiny) -> Markup | None:
    own = run.profile.base
    contests = conclusions.contests(evidence)
    if not any(own in contest.right for contest in contests):
        return None
    found = conclusions.advice(contests, own, scrutiny.worst_cases())
    return components.advice(glossary.defence(own), found.good, found.bad)


def _asked(judged: Sequence[Judged]) -> str:
    ours = sum(one.claim.extension for one in judged)
    return f"The paper's {len(judged) - ours} claims and {ours} extensions of ours"


def _count(judged: Sequence[Judged], outcome: str) -> int:
    return sum(one.outcome == outcome for one in judged)
