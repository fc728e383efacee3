"""The demo in words and tables: data/results/demo.json -> what stands between the markers.

Of README.md and docs/demo.md; ``tools/published_tables.py`` puts it there, and checks it. Every
sentence is made from numbers, so that another run of the demo gives other sentences.
"""

from demo_contests import contests, kept, standing
from demo_elsewhere import moved, moved_in_readme, moves
from demo_scrutiny import attacks, detector, detectors, scrutinised, scrutiny
from markers import bullets, markdown, paragraph, percent, title


def instead(record: dict) -> str:
    """Figure 6 in a sentence: the same LDAT trained against PGD in L-inf."""
    (other,) = record["replaced"].values()
    own = record["values"]["linf_pgd"][record["base"]]
    return (
        f"Trained against L-inf PGD instead of Algorithm 1 the same {title(record['base'])} keeps "
        f"{percent(100 * other['linf_pgd'])} under L-inf PGD instead of {percent(own)}."
    )


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


def readme(record: dict) -> str:
    """The demo in README: where LDAT stands, and how far that can be trusted."""
    own, found = record["base"], contests(record["contests"])
    return paragraph(
        f"On the [demo](docs/demo.md)'s digits all attacks together leave "
        f"{title(own)} {kept(found['l2'], own)} under L2: {standing(found['l2'], own)}. Under "
        f"L-inf they leave it {kept(found['linf'], own)}: {standing(found['linf'], own)}.",
        f"[On other processors](docs/demo.md#other-processors) {moved_in_readme(record)}",
    )


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


def flattened(record: dict) -> str:
    """Validation accuracy after about three quarters of the epochs and at the end, a row each."""
    import pandas as pd

    rows, moved = [], []
    for name, lines in record["validation"].items():
        last = lines[-1]
        early = next(line for line in lines if line[0] >= 0.7 * last[0])
        clean, robust = (abs(last[column] - early[column]) for column in (1, 2))
        moved.append((robust, clean, title(name)))
        rows.append(
            {
                "defence": title(name),
                f"clean, epoch {early[0]}": f"{early[1]:.1f}",
                f"clean, epoch {last[0]}": f"{last[1]:.1f}",
                f"PGD, epoch {early[0]}": f"{early[2]:.1f}",
                f"PGD, epoch {last[0]}": f"{last[2]:.1f}",
            }
        )
    most, clean = max(moved), max(one[1] for one in moved)
    return f"{markdown(pd.DataFrame(rows))}\n\n" + paragraph(
        f"Clean accuracy moves by at most {clean:.1f} points, PGD accuracy by at most "
        f"{most[0]:.1f} ({most[2]})."
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
        "demo-flattened": flattened(record),
    }
