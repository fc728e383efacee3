"""What attacks and detectors say of each other in the demo: tables, sentences of ``demo_pages``."""

from pathlib import Path

from markers import bullets, markdown, percent, title

PROJECT = Path(__file__).resolve().parent.parent
OUTSIDER = PROJECT / "data" / "results" / "outsider.json"
# Points from which one number of Table 1 is said to mislead.
FAR = 5.0


def attacks(record: dict) -> str:
    """What the attacks say about each other."""
    from ldatlib.report.words import NORMS, column_title

    table = record["scrutiny"]
    said = []
    for norm in ("l2", "linf"):
        own = [row for row in table if row["norm"] == norm]
        row = max(own, key=lambda r: r["strongest"] - r["table1_worst_case"])
        said.append(
            f"under {NORMS[norm]}, {title(row['defence'])} keeps {percent(row['strongest'])} under "
            f"the strongest single attack ({column_title(row['strongest_attack'])}) and "
            f"{percent(row['table1_worst_case'])} in the worst case"
        )
    found = [
        f"They disagree image by image: {'; '.join(said)}. A single column overstates robustness, "
        "and a stronger collection would probably lower the worst case further."
    ]
    own = record["values"]
    more = sum(own["l2_apgd"][name] > own["l2_pgd"][name] for name in own["l2_pgd"])
    found.append(
        f"Under L2, APGD-DLR leaves more than PGD for {more} of {len(own['l2_pgd'])} networks. The "
        "losses differ, so this is no contradiction; the paper's tables show the same oddity."
    )
    less = [
        (own[f"{norm}_pgd"][name] - own[f"{norm}_apgd"][name], name, norm)
        for norm in NORMS
        for name in own["l2_pgd"]
    ]
    gap, name, norm = max(less)
    if gap >= FAR:
        found.append(
            f"{title(name)} under {NORMS[norm]} keeps {percent(own[f'{norm}_pgd'][name])} under "
            f"PGD and {percent(own[f'{norm}_apgd'][name])} under APGD-DLR: cross-entropy misleads "
            "the attack there, and PGD alone would have made it look better than it is."
        )
    return bullets(found)


def scrutiny(record: dict) -> str:
    """Table 1's worst case, with the search, and that of all attacks; both norms."""
    import pandas as pd

    from ldatlib.report import words
    from ldatlib.report.words import NORMS

    table = pd.DataFrame(record["scrutiny"])
    rows: dict[str, dict[str, str]] = {}
    for _, row in table.iterrows():
        cells = rows.setdefault(row.defence, {"defence": title(row.defence)})
        cells[f"Table 1's, {NORMS[row.norm]}"] = f"{row.table1_worst_case:.1f}"
        cells[f"search, {NORMS[row.norm]}"] = f"{row.search:.1f}"
        cells[f"all attacks, {NORMS[row.norm]}"] = words.from_columns(row, "worst_case")
    return markdown(pd.DataFrame(rows.values()))


def detectors(record: dict):
    """Its rows, L2 and the largest posterior, as a frame."""
    import pandas as pd

    return pd.DataFrame(record["detector"])


def detector(record: dict) -> str:
    """AutoAttack alone, what the detector misses, and which tests for masking sound; L2."""
    import pandas as pd

    from ldatlib.evaluation.masking.verdicts import TITLES

    rows = detectors(record)
    table = pd.DataFrame(record["scrutiny"])
    found = []
    for _, row in rows[rows.score == "posterior"].iterrows():
        there = table[(table.defence == row.defence) & (table.norm == row.norm)].iloc[0]
        tests = [TITLES[test] for test in record["alarms"].get(row.defence, [])]
        found.append(
            {
                "defence": title(row.defence),
                "tests for masking that sound": "; ".join(tests) or "none",
                "AutoAttack": f"{there.autoattack:.0f}",
                "missed, ordinary": f"{row.ordinary:.0f}",
                "missed, adaptive": f"{row.union:.0f}",
            }
        )
    return markdown(pd.DataFrame(found), 2)


def scrutinised(record: dict) -> str:
    """What both tables say, a bullet each."""
    import pandas as pd

    from ldatlib.files import read_json
    from ldatlib.report import conclusions
    from ldatlib.report.conclusions.saying import listed
    from ldatlib.report.words import NORMS

    table = pd.DataFrame(record["scrutiny"])
    first = record["images"]["first"]
    row = table.loc[table.gap.idxmax()]
    found = [
        f"{conclusions.worst_cases(table)[-1]} The widest gap is {title(row.defence)}'s under "
        f"{NORMS[row.norm]}, {percent(row.table1_worst_case)} to {percent(row.worst_case)}; the "
        f"search from larger balls alone takes {row.table1_worst_case - row.search:.1f} points."
    ]
    alone = (table.autoattack - table.worst_case_there).idxmax()
    row = table.loc[alone]
    if row.autoattack > row.worst_case_there:
        found.append(
            f"**Even a standard ensemble is no certificate**: of the first {first} images "
            f"AutoAttack leaves {title(row.defence)} {row.autoattack:.0f} under "
            f"{NORMS[row.norm]}, all attacks together {row.worst_case_there:.0f}."
        )
    loud = [title(name) for name in record["alarms"]]
    sounding = f"sound for {listed(loud)}" if loud else "are silent"
    tell = ": masking, or a number that is too high? Notebook `09` tells them apart" if loud else ""
    found.append(f"The tests for gradient masking {sounding}{tell}.")
    restless = table[~table.converged.astype(bool)]
    if len(restless):
        names = [f"{title(r.defence)} ({NORMS[r.norm]})" for _, r in restless.iterrows()]
        found.append(
            f"**The search has not converged** for {listed(names)}: its last restart still found "
            "an image or more. Read those numbers as bounds."
        )
    outside = read_json(OUTSIDER)
    most = max(outside["cells"], key=lambda cell: cell["together"])
    found.append(
        f"How much is left to find: {outside['searches']} searches written from scratch, of "
        f"{outside['restarts']} restarts each, take at most {most['together']:.1f} points of any "
        f"cell of that table ({title(most['defence'])}, {NORMS[most['norm']]}; "
        "`python tools/outsider.py runs/demo`, `data/results/outsider.json`)."
    )
    rows = detectors(record)
    posterior = rows[rows.score == "posterior"]
    more = int((posterior.union > posterior.ordinary_all).sum())
    found.append(
        f"The attack that knows the detector gets more past it than all ordinary ones for {more} "
        f"of {len(posterior)} networks. {conclusions.detectors(rows, record['base'])[-1]}"
    )
    row = rows[(rows.defence == record["base"]) & (rows.score == "log_likelihood")].iloc[0]
    there = table[(table.defence == row.defence) & (table.norm == row.norm)].iloc[0]
    found.append(
        f"With the log-likelihood as its score {title(row.defence)}'s detector misses "
        f"{row.union:.0f} of {first} images under {NORMS[row.norm]}; without any detector "
        f"{first - there.worst_case_there:.0f} are wrong."
    )
    return bullets(found)
