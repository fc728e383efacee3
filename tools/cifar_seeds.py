"""CIFAR-10 over several trainings of a method: table and sentence of ``cifar_pages``."""

from collections import Counter
from functools import cache

from markers import markdown, title

# What has several trainings: the other results of the profile are of one.
SEEDS = {"seeds": 3, "seeded": "standard,trades,l2_at,ldat,ldat_chosen"}
# Compared over seeds: the chosen LDAT against these, in these columns, corrected together.
SEEDED_RIVALS, SEEDED_COLUMNS = ("standard", "trades", "l2_at", "ldat"), ("natural", "linf", "l2")
_COLUMNS = ("natural", "linf_pgd", "linf", "l2_pgd", "l2")


@cache
def _seeded(run) -> tuple[list, list[str]]:
    """Records of Table 1 that are there, of every seed; rivals that may be compared as methods."""
    from ldatlib.report.comparisons import METHOD_SEEDS
    from ldatlib.study.run import open_run

    more = open_run(run.profile.name, SEEDS, run.root)
    jobs = more.jobs_of("whitebox", more.trainings())
    records = more.records("whitebox", [job.training for job in jobs if job.done])
    count = Counter(record.defence for record in records)
    several = [name for name in SEEDED_RIVALS if count[name] >= METHOD_SEEDS]
    return records, several if count["ldat_chosen"] >= METHOD_SEEDS else []


def seeds(run) -> str:
    """Accuracies over seeds, and the chosen LDAT against every rival that has several, too."""
    from ldatlib.report import glossary, tables
    from ldatlib.report.words import column_title

    records, rivals = _seeded(run)
    spread = tables.over_seeds(records)
    if spread.empty:
        return "One training of each so far."
    spread["value"] = [f"{m:.1f} ± {s:.1f}" for m, s in zip(spread["mean"], spread.sd, strict=True)]
    wide = spread.pivot(index="defence", columns="column", values="value")[list(_COLUMNS)]
    wide = wide.rename(columns=column_title)
    wide.insert(0, "seeds", spread.groupby("defence").seeds.first())
    wide = markdown(wide.rename(index=glossary.defence).reset_index())
    return f"{wide}\n\n{_against(records, rivals)}" if rivals else wide


def seeds_short(run, beside) -> list[str]:
    """One sentence on the rivals ``beside``, or none as long as nobody has several trainings."""
    from ldatlib.report.paired import ALPHA
    from ldatlib.report.words import budget

    records, rivals = _seeded(run)
    balls = {norm: f"within {budget(norm, eps)}" for norm, eps in run.profile.budgets.items()}
    under = {"natural": "without an attack"} | balls
    found = _methods(records, rivals)
    said = []
    for rival in (name for name in beside if name in rivals):
        parts = []
        for key in SEEDED_COLUMNS:
            methods, p = found[rival, key]
            told = "" if p < ALPHA else " (not told apart)"
            parts.append(f"{_points(methods)} {under[key]}{told}")
        said.append(f"less {title(rival)}: {', '.join(parts)}")
    if not said:
        return []
    return [
        f"Three trainings of each, Table 1's attacks, in points: {title('ldat_chosen')} "
        f"{'; '.join(said)}. (Welch, {len(found)} tests, Holm.)"
    ]


def _against(records, rivals: list[str]) -> str:
    """The chosen LDAT less each rival, in points, with Welch's interval and p-value (Holm)."""
    import pandas as pd

    from ldatlib.report.words import column_title

    rows: dict[str, dict[str, str]] = {}
    for (rival, key), (found, p) in _methods(records, rivals).items():
        rows.setdefault(rival, {"less": title(rival)})[column_title(key)] = (
            f"{_points(found)} (p = {p:.2g})"
        )
    tested = f"(Welch's interval, 95%, and t-test, {len(rivals) * len(SEEDED_COLUMNS)} tests, Holm)"
    words = f"{title('ldat_chosen')} less each of them, in points {tested}:"
    return f"{words}\n\n{markdown(pd.DataFrame(list(rows.values())))}"


def _methods(records, rivals: list[str]) -> dict[tuple[str, str], tuple]:
    """(rival, column) -> the chosen LDAT against it over seeds, and the p-value by Holm."""
    from ldatlib.report import comparisons
    from ldatlib.report.paired import holm

    pairs = [(rival, key) for rival in rivals for key in SEEDED_COLUMNS]
    found = [comparisons.compare_methods(records, "ldat_chosen", *pair) for pair in pairs]
    p_values = holm([methods.p for methods in found])
    return dict(zip(pairs, zip(found, p_values, strict=True), strict=True))


def _points(methods) -> str:
    difference, low, high = (100 * v for v in (methods.difference, methods.low, methods.high))
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]"
