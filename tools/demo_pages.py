"""The demo in words and tables: data/results/demo.json -> what stands between the markers.

Of README.md and docs/demo.md; ``tools/published_tables.py`` puts it there, and checks it. Every
sentence is made from numbers, so that another run of the demo gives other sentences.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markers import bullets, markdown, paragraph, percent, title

PROJECT = Path(__file__).resolve().parent.parent
OUTSIDER = PROJECT / "data" / "results" / "outsider.json"
# Points from which one number of Table 1 is said to mislead.
FAR = 5.0


def contests(found: Sequence[dict]) -> dict[str, Any]:
    """The record's contests, by name."""
    from ldatlib.evaluation.robustness import from_bits
    from ldatlib.report.conclusions import Contest

    return {
        one["name"]: Contest(
            one["name"], one["under"], {n: from_bits(b) for n, b in one["right"].items()}
        )
        for one in found
    }


def sides(contest, own: str) -> dict[str, list[str]]:
    """Whom ``own`` is ahead of, behind, and not told apart from; an undefended network apart.

    McNemar's exact test on the same images, corrected for their number (Holm), at 5%.
    """
    from ldatlib.report import paired
    from ldatlib.report.claims import rules
    from ldatlib.report.conclusions.saying import told_apart

    others = [name for name in contest.right if name not in (own, "natural")]
    pairs = [paired.pair(contest.right[own], contest.right[name]) for name in others]
    found = told_apart(others, [rules.ahead(pair) for pair in pairs])
    return {"ahead of": found.favour, "behind": found.against, "level with": found.neither}


def standing(contest, own: str) -> str:
    """ "ahead of the paper's four rivals (at most LBGAT's 31.7%), level with L2-AT (57.3%)"."""
    from ldatlib.report.claims.contests import RIVALS
    from ldatlib.report.comparisons import share
    from ldatlib.report.conclusions.saying import listed

    left = {name: 100 * share(right).value for name, right in contest.right.items()}
    said = []
    for side, names in sides(contest, own).items():
        if not names:
            continue
        whom = []
        if set(RIVALS) <= set(names):
            best = max(RIVALS, key=left.__getitem__)
            whom.append(f"the paper's four rivals (at most {title(best)}'s {percent(left[best])})")
            names = [name for name in names if name not in RIVALS]
        whom += [f"{title(name)} ({percent(left[name])})" for name in names]
        said.append(f"{side} {listed(whom)}")
    return ", ".join(said)


def kept(contest, own: str) -> str:
    """``58.7% [53.0, 64.1]``."""
    from ldatlib.report.comparisons import share

    found = share(contest.right[own])
    return f"{percent(100 * found.value)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def instead(record: dict) -> str:
    """Figure 6 in a sentence: the same LDAT trained against PGD in L-inf."""
    (other,) = record["replaced"].values()
    own = record["values"]["linf_pgd"][record["base"]]
    return (
        f"Trained against L-inf PGD instead of Algorithm 1 the same {title(record['base'])} keeps "
        f"{percent(100 * other['linf_pgd'])} under L-inf PGD instead of {percent(own)}."
    )


def detectors(record: dict):
    """Its rows, L2 and the largest posterior, as a frame."""
    import pandas as pd

    return pd.DataFrame(record["detector"])


def short(record: dict) -> str:
    """What a reader takes away, a bullet each."""
    from ldatlib.report.words import NORMS

    own, found = record["base"], contests(record["contests"])
    said = [
        f"**{title(own)} under {NORMS[norm]}: {standing(found[norm], own)}.** "
        f"{found[norm].under[:1].upper()}{found[norm].under[1:]} it keeps "
        f"{kept(found[norm], own)} of the images."
        for norm in ("l2", "linf")
    ]
    said[1] += f" {instead(record)}"
    natural = found["natural"]
    said.append(
        f"**Without an attack {title(own)} has {kept(natural, own)} right**: "
        f"{standing(natural, own)}."
    )
    said.append(f"**Natural and adversarial features.** {record['probes'][-1]}")
    rows = detectors(record)
    row = rows[(rows.defence == own) & (rows.score == "posterior")].iloc[0]
    more = "more" if row.union > row.ordinary else "no more"
    said.append(
        f"**The detector meets who knows it.** An attack that knows the threshold gets {more} past "
        f"{title(own)}'s detector ({row.union:.0f}%) than the strongest that does not "
        f"({row.ordinary:.0f}%), at a threshold that accepts 95%."
    )
    said.append(f"**Another processor gives other numbers.** {moved(record)}")
    return bullets(said)


def differences(record: dict, other: dict, keys: Iterable[str]) -> list[tuple[float, str, str]]:
    """Points between two runs, with defence and column, of those that both have."""
    own, theirs = record["values"], other["values"]
    return [
        (abs(own[key][name] - theirs[key][name]), name, key)
        for key in keys
        if key in theirs and key in own
        for name in own[key]
        if name in theirs[key]
    ]


def elsewhere(record: dict) -> list[dict]:
    """The other runs that gave other numbers; those that gave the same say nothing of a spread."""
    every = record["values"]
    return [o for o in record["others"] if any(one[0] for one in differences(record, o, every))]


def moved(record: dict) -> str:
    """How far the numbers of other runs of the same code are off, in a sentence or two."""
    others = elsewhere(record)
    if not others:
        return "How far, was not measured."

    def most(*keys: str) -> tuple[float, str, str]:
        return max(one for other in others for one in differences(record, other, keys))

    every = [one[0] for other in others for one in differences(record, other, record["values"])]
    worst = most(*_WORST)
    places = "nowhere" if not displaced(record) else "somewhere"
    return (
        "The same code and seed elsewhere moved natural accuracy by up to "
        f"{most('natural')[0]:.1f} points, a worst case by up to {worst[0]:.1f} "
        f"({title(worst[1])}), a number by {sum(every) / len(every):.1f} on average; "
        f"{title(record['base'])}'s place among the others changed {places} "
        "([which runs](#other-processors))."
    )


def displaced(record: dict) -> list[str]:
    """Contests in which somebody stands on another side of ours than in the run of the page.

    Under the attacks that all of these runs have met: Table 1's and the search.
    """
    own, found = record["base"], []
    here = contests(record["searched"])
    for other in record["others"]:
        for name, contest in contests(other.get("searched", [])).items():
            if sides(contest, own) != sides(here[name], own):
                found.append(
                    f"{other['name']}, {contest.under} {kept(contest, own)}: "
                    f"{standing(contest, own)}; in the page's run {standing(here[name], own)}"
                )
    return found


# Rows of the table of differences: title, columns.
_MOVES = {
    "natural": ("natural",),
    "a single attack": (
        *(f"linf_{m}" for m in ("pgd", "apgd", "fab", "deepfool")),
        *(f"l2_{m}" for m in ("pgd", "apgd", "fab", "cw", "deepfool", "ddn")),
    ),
    "Table 1's worst case, L-inf": ("linf",),
    "Table 1's worst case, L2": ("l2",),
    "with the search, L-inf": ("linf_search",),
    "with the search, L2": ("l2_search",),
    "all attacks, L-inf": ("linf_all",),
    "all attacks, L2": ("l2_all",),
}
# Those of them that are worst cases.
_WORST = ("linf", "l2", "linf_search", "l2_search", "linf_all", "l2_all")


def moves(record: dict) -> str:
    """Largest and mean difference, a row a kind of number, a column another run."""
    import pandas as pd

    from ldatlib.report.conclusions.saying import listed

    rows = []
    for name, keys in _MOVES.items():
        if not any(differences(record, other, keys) for other in elsewhere(record)):
            continue
        row = {"": name}
        for other in record["others"]:
            found = differences(record, other, keys)
            cell = ""
            if found:
                most = max(found)
                mean = sum(one[0] for one in found) / len(found)
                cell = f"{most[0]:.1f} ({title(most[1])}); {mean:.1f}" if most[0] else "none"
            row[other["name"]] = cell
        rows.append(row)
    source = record["provenance"]
    intro = paragraph(
        f"The page's run: {source['device']} with {record['kernels']} kernels, torch "
        f"{source['libraries']['torch']}, revision {source['revision'][:10]}, {source['date']}. "
        "A cell: the largest difference to it, in percent points, and whose it is; then the mean "
        f"over networks. Empty: not known. One image is {100 / record['images']['all']:.2f} points."
    )
    parts = [intro, markdown(pd.DataFrame(rows))]
    changed, own = displaced(record), title(record["base"])
    known = [other["name"] for other in record["others"] if "searched" in other]
    if known:
        where = "changes" if changed else "is the same"
        parts.append(
            paragraph(
                f"By Table 1's attacks and the search {own}'s place among the others {where} in "
                f"these runs: {listed(known)}."
            )
        )
        parts += [bullets(f"{one}." for one in changed)] if changed else []
    return "\n\n".join(parts)


def table1(record: dict) -> str:
    """Measured and printed, a row each."""
    import pandas as pd

    from ldatlib.report import paper, words

    keys = ("natural", "linf_pgd", "linf_worst_case", "l2_pgd", "l2_worst_case")
    printed, rows = paper.table(1).set_index("defence"), []
    for _, row in pd.DataFrame(record["table1"]).iterrows():
        named = {key: words.column_title(key.removesuffix("_worst_case")) for key in keys}
        measured = {named[key]: words.from_columns(row, key) for key in keys}
        rows.append({"defence": title(row.defence), "source": "measured", **measured})
        if row.defence in printed.index:
            theirs = printed.loc[row.defence]
            cells = {named[key]: f"{theirs[key]:.2f}" if key in theirs else "" for key in keys}
            rows.append({"defence": "", "source": "paper", **cells})
    return markdown(pd.DataFrame(rows), 2)


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


def detector(record: dict) -> str:
    """AutoAttack alone, what the detector misses, and which tests for masking sound; L2."""
    import pandas as pd

    rows = detectors(record)
    table = pd.DataFrame(record["scrutiny"])
    found = []
    for _, row in rows[rows.score == "posterior"].iterrows():
        there = table[(table.defence == row.defence) & (table.norm == row.norm)].iloc[0]
        tests = [test.replace("_", " ") for test in record["alarms"].get(row.defence, [])]
        found.append(
            {
                "defence": title(row.defence),
                "tests for masking that sound": ", ".join(tests) or "none",
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
    found.append(f"The tests for gradient masking {sounding}.")
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


def readme(record: dict) -> str:
    """The demo in README: where LDAT stands, and how far that can be trusted."""
    own, found = record["base"], contests(record["contests"])
    return paragraph(
        f"On the [demo](docs/demo.md)'s digits all attacks together leave "
        f"{title(own)} {kept(found['l2'], own)} under L2: {standing(found['l2'], own)}. Under "
        f"L-inf they leave it {kept(found['linf'], own)}: {standing(found['linf'], own)}.",
        f"[On other processors](docs/demo.md#other-processors) {moved_in_readme(record)}",
    )


def moved_in_readme(record: dict) -> str:
    found = [one[0] for other in elsewhere(record) for one in differences(record, other, _WORST)]
    if not found:
        return "such numbers differ; how far, was not measured."
    same = "" if displaced(record) else f"; {title(record['base'])}'s place stays"
    return f"such numbers moved by up to {max(found):.1f} points{same}."


def what(record: dict) -> str:
    """What was run: the data, the networks, the budgets."""
    images = record["images"]["all"]
    widest = max(
        (row[f"{key}_high"] - row[f"{key}_low"]) / 2
        for row in record["table1"]
        for key in ("natural", "linf_pgd", "linf_worst_case", "l2_pgd", "l2_worst_case")
    )
    return paragraph(
        f"{record['what']} One training each; {images} test images, so half of a 95% interval is "
        f"at most {widest:.1f} points."
    )


def render(record: dict) -> dict[str, str]:
    """Marker -> Markdown."""
    images, sweep = (record["images"][key] for key in ("first", "sweep"))
    return {
        "demo-readme": readme(record),
        "demo-what": what(record),
        "demo-short": short(record),
        "demo-fig4": f"*Figure 4: accuracy on {sweep} test images against the budget of PGD, with "
        "95% intervals.*",
        "demo-table1": table1(record),
        "demo-attacks": attacks(record),
        "demo-scrutiny": scrutiny(record),
        "demo-first": paragraph(
            f"On the first {images} images, L2: AutoAttack alone, and the detector "
            "(`tables/adaptive.csv`). *Missed*: wrong and accepted at the threshold on the largest "
            "posterior that accepts 95% of the correct clean validation images, by the best "
            "ordinary attack and by one that knows the threshold."
        ),
        "demo-detector": detector(record),
        "demo-scrutinised": scrutinised(record),
        "demo-moves": moves(record),
    }
