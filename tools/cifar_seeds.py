"""CIFAR-10 over several trainings of a method: table and sentence of ``cifar_pages``."""

from collections import Counter
from collections.abc import Sequence
from functools import cache

from markers import markdown, paragraph, title

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
    from ldatlib.report import tables
    from ldatlib.report.words import column_title

    records, rivals = _seeded(run)
    spread = tables.over_seeds(records)
    if spread.empty:
        return "One training of each so far."
    wide = _wide(spread, _COLUMNS).rename(columns=column_title)
    wide.insert(0, "seeds", spread.groupby("defence").seeds.first())
    wide = markdown(wide.rename(index=title).reset_index())
    return f"{wide}\n\n{_against(records, rivals)}" if rivals else wide


def methods(run) -> str:
    """The methods that have as many trainings, and how the chosen LDAT stands to the others."""
    from ldatlib.report import tables
    from ldatlib.report.conclusions.saying import listed
    from ldatlib.report.paired import ALPHA

    records, rivals = _seeded(run)
    if not rivals:
        return "One training of each so far."
    under, found = _under(run), _methods(records, rivals)
    wide = _wide(tables.over_seeds(records, SEEDED_COLUMNS), SEEDED_COLUMNS)
    wide = wide.loc[[*rivals, "ldat_chosen"]].rename(index=title, columns=under)
    said = []
    for key in SEEDED_COLUMNS:
        told: dict[str, list[str]] = {"ahead of": [], "behind": [], "not told apart from": []}
        for rival in rivals:
            compared, p = found[rival, key]
            side = "ahead of" if compared.difference > 0 else "behind"
            told[side if p < ALPHA else "not told apart from"].append(title(rival))
        parts = [f"{side} {listed(names)}" for side, names in told.items() if names]
        said.append(f"{under[key]} {', '.join(parts)}")
    sentence = f"{title('ldat_chosen')} is {'; '.join(said)} (Welch, {len(found)} tests, Holm)."
    return f"{markdown(wide.reset_index())}\n\n{paragraph(sentence)}"


def _wide(spread, keys: Sequence[str]):
    """Defences x columns, mean ± standard deviation, of ``tables.over_seeds``."""
    spread["value"] = [f"{m:.1f} ± {s:.1f}" for m, s in zip(spread["mean"], spread.sd, strict=True)]
    return spread.pivot(index="defence", columns="column", values="value")[list(keys)]


def _under(run) -> dict[str, str]:
    """The columns that methods are compared in, in words."""
    from ldatlib.report.words import budget

    balls = {norm: f"within {budget(norm, eps)}" for norm, eps in run.profile.budgets.items()}
    return {"natural": "without an attack"} | balls


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
