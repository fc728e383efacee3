"""What stands first in a notebook: its answer on this run in a sentence, and what it took.

Made from the records of the notebook's own plan, which have to be there (``run.compute``).
"""

from collections.abc import Callable, Sequence

from ldatlib.evaluation import detection
from ldatlib.report import claims, conclusions, detector, glossary, tables
from ldatlib.report.comparisons import share, survivors
from ldatlib.report.conclusions.saying import listed
from ldatlib.report.words import NORMS, set_title
from ldatlib.study.records import Share, read
from ldatlib.study.run import Run


def answer(run: Run, notebook: str) -> str:
    """The answer and the time of a notebook, by its number such as ``"03"``: a few sentences.

    A notebook whose defences are not among those of the run says that.
    """
    return f"{_ANSWERS[notebook](run)} {_time(run, notebook)}"


def _time(run: Run, notebook: str) -> str:
    paths = sorted({job.path for job in run.plan(notebook) if job.done})
    if not paths:
        return "It reads what the other notebooks have left, in seconds."
    seconds = sum(getattr(read(path), "seconds", 0.0) for path in paths)
    took = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
    return f"Its {len(paths)} results took {took}, one after another; kept, they take seconds."


def _percent(found: Share | float) -> str:
    return f"{100 * (found.value if isinstance(found, Share) else found):.0f}%"


def _base(run: Run) -> str:
    return run.profile.base


def _plane(run: Run) -> str:
    trainings = run.plane_trainings()
    records = run.records("train", trainings)
    kept = [
        f"{training.title} {_percent(float(record.last['val_robust_accuracy']))}"
        for training, record in zip(trainings, records, strict=True)
    ]
    return (
        "PGD seeks the far rim of its ball, Algorithm 1 the neighbourhood of the boundary, on "
        "either side; trained in two dimensions, networks keep under PGD in validation: "
        f"{listed(kept)}."
    )


def _training(run: Run) -> str:
    records = run.records("train", run.select_seed(run.trainings()))
    robust = {r.defence: float(r.last["val_robust_accuracy"]) for r in records}
    clean = {r.defence: float(r.last["val_clean_accuracy"]) for r in records}
    best, base = max(robust, key=robust.__getitem__), _base(run)
    own = (
        f"{glossary.defence(base)} ends at {_percent(clean[base])} natural and "
        f"{_percent(robust[base])} under PGD; "
        if base in robust
        else ""
    )
    return (
        f"On validation images {own}{glossary.defence(best)} is the most robust, with "
        f"{_percent(robust[best])}."
    )


def _white_box(run: Run) -> str:
    records = run.records("whitebox", run.select_seed(run.trainings()))
    base, said = _base(run), []
    for norm, title in NORMS.items():
        left = {r.defence: r.worst_case[norm] for r in records if norm in r.worst_case}
        if not left:
            continue
        best = max(left, key=lambda name: left[name].value)
        own = (
            f"; {glossary.defence(base)} {_percent(left[base])}"
            if base in left and base != best
            else ""
        )
        said.append(f"of {glossary.defence(best)} in {title} ({_percent(left[best])}{own})")
    return f"Under all of Table 1's attacks together most is left {listed(said)}."


def _black_box(run: Run) -> str:
    found = conclusions.surrogates(run.records("transfer", run.surrogates()), run.trainings())
    return found[-1]


def _ablations(run: Run) -> str:
    betas = run.beta_trainings()
    records = run.records("basic", list(betas.values()))
    first, last = records[0], records[-1]
    beyond = (
        " Head and likelihood term are not changed in this profile: docs/cifar10.md#the-head and "
        "docs/regularizer.md have them."
        if run.profile.ablations == "paper"
        else ""
    )
    return (
        f"From beta {min(betas):g} to {max(betas):g} natural accuracy goes from "
        f"{_percent(first.clean_accuracy)} to {_percent(last.clean_accuracy)}, accuracy under PGD "
        f"(L-inf) from {_percent(first.attacks['linf_pgd'].robust_accuracy)} to "
        f"{_percent(last.attacks['linf_pgd'].robust_accuracy)}.{beyond}"
    )


def _features(run: Run) -> str:
    names = ("trades", "ldat", run.profile.base)
    trainings = [t for t in run.select_seed(run.trainings()) if t.name in names]
    if not trainings:
        return "Neither TRADES nor LDAT is among the defences of this run."
    records = zip(trainings, run.records("features", trainings), strict=True)
    return conclusions.probes({training.title: record for training, record in records})[-1]


def _likelihood(run: Run) -> str:
    (record,) = run.records("detection", [run.training(run.profile.base)])
    parts = []
    _, clean_right = detector.scored(record, "posterior", "clean")
    for name in ("l2_cw", "linf_pgd"):
        if name in detector.attacked_sets(record):
            scores, right = detector.scored(record, "posterior", name)
            fooled = scores[clean_right & ~right]
            if len(fooled):
                passed = share(fooled >= detection.PAPER_THRESHOLD)
                parts.append(f"{_percent(passed)} under {set_title(name)}")
    name = glossary.defence(record.defence)
    if not parts:
        return f"No attack succeeds on {name}: there is nothing to be unsure of."
    return f"Of the images that fool {name} it is at least 60% sure of {listed(parts)}."


def _threshold(run: Run) -> str:
    trainings = [t for t in run.select_seed(run.trainings())]
    records = {r.defence: r for r in run.records("detection", trainings)}
    record = records.get(run.profile.base) or next(iter(records.values()))
    cut = detector.frozen_threshold(record, "posterior")
    name = glossary.defence(record.defence)
    if cut is None:
        return f"{name} has no validation image right: no threshold can be frozen."
    before = detector.missed_at_worst(record, "posterior", None)
    after = detector.missed_at_worst(record, "posterior", cut)
    cost = detector.outcomes(record, "posterior", cut)["clean"].rejection
    bought = [
        f"{NORMS[norm]} {_percent(before[norm])} to {_percent(after[norm])}" for norm in before
    ]
    return (
        f"The threshold frozen at 95% costs {name} {_percent(cost)} of the clean images and takes "
        f"what ordinary attacks get through from {listed(bought)}; notebook 09 asks one that knows."
    )


def _scrutiny(run: Run) -> str:
    trainings = run.select_seed(run.trainings())
    base = next((t for t in trainings if t.name == run.profile.base), trainings[0])
    kinds = ("search", "masking", "adaptive")
    others = [run.records(kind, [base])[0] for kind in kinds]
    (whitebox,), (auto,) = (run.records(kind, [base]) for kind in ("whitebox", "autoattack"))
    name, left = glossary.defence(base.name), []
    for norm in NORMS:
        if norm in whitebox.worst_case:
            right = survivors(whitebox, auto, others, norm)
            table1, every = share(right["table1"]), share(right["worst_case"])
            left.append(
                f"under {NORMS[norm]} {_percent(table1)} against Table 1's attacks, "
                f"{_percent(every)} against all attacks"
            )
    detection = run.records("detection", [base])
    rows = tables.adaptive_at_frozen(run.records("adaptive", [base]), detection)
    missed = [
        f"under {NORMS[row.norm]} {row.ordinary:.0f}% of the images by the strongest ordinary "
        f"attack, {row.union:.0f}% by one that knows its threshold"
        for _, row in rows[rows.score == "posterior"].iterrows()
    ]
    return f"{name} keeps of all images {'; '.join(left)}. Its detector misses {'; '.join(missed)}."


def _report(run: Run) -> str:
    base = run.profile.base
    found = list(zip(claims.CLAIMS, claims.claims(run, base)["same here?"], strict=True))
    papers = [word for claim, word in found if not claim.extension]
    ours = [word for claim, word in found if claim.extension]
    return (
        f"Are the paper's {len(papers)} claims, in our words, the same here, put to "
        f"{glossary.defence(base)}? {_counted(papers)}. Of {len(ours)} extensions of ours: "
        f"{_counted(ours)}."
    )


def _counted(answers: Sequence[str]) -> str:
    """``"2 'no', 1 'yes'"``."""
    return ", ".join(f"{answers.count(word)} {word!r}" for word in sorted(set(answers)))


def _examine(run: Run) -> str:
    (record,) = run.records("whitebox", [run.training("standard")])
    alone, together = record.attacks["linf_pgd"].robust_accuracy, record.worst_case["linf"]
    return (
        f"PGD alone leaves {glossary.defence('standard')} {_percent(alone)} of its images, with "
        f"Table 1's other attacks (L-inf) {_percent(together)}: an honest network loses "
        f"{100 * (alone.value - together.value):.0f} points to the others. Copies of it below that "
        "only hide its gradients keep far more under PGD than under the other attacks."
    )


_ANSWERS: dict[str, Callable[[Run], str]] = {
    "01": _plane,
    "02": _training,
    "03": _white_box,
    "04": _black_box,
    "05": _ablations,
    "06": _features,
    "07": _likelihood,
    "08": _threshold,
    "09": _scrutiny,
    "10": _report,
    "11": _examine,
}
