"""The demo on other processors: how far their numbers are off, and whether a place changes.

Sentences and the table of ``demo_pages`` about the runs that the record has beside the page's own.
"""

from collections.abc import Iterable

from demo_contests import contests, kept, sides, standing
from markers import bullets, markdown, paragraph, title

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


def moved(record: dict) -> str:
    """How far the numbers of other runs of the same code are off, in a sentence or two."""
    others = elsewhere(record)
    if not others:
        return "How far, was not measured."

    def most(*keys: str) -> tuple[float, str, str]:
        return max(one for other in others for one in differences(record, other, keys))

    every = [one[0] for other in others for one in differences(record, other, record["values"])]
    worst = most(*_WORST)
    names = "; ".join(other["name"] for other in others)
    place = _place(record, "changed nowhere", "changed somewhere")
    return (
        f"The same code and seed run elsewhere ({names}) moved natural accuracy by up to "
        f"{most('natural')[0]:.1f} points, a worst case by up to {worst[0]:.1f} "
        f"({title(worst[1])}), a number by {sum(every) / len(every):.1f} on average{place} "
        "([which runs](#other-processors))."
    )


def _place(record: dict, same: str, changed: str) -> str:
    """Whether ours stands where it does here, in those runs that tell: a clause, or nothing."""
    compared = [other["name"] for other in elsewhere(record) if other.get("searched")]
    if not compared:
        return ""
    found = changed if displaced(record) else same
    return f"; {title(record['base'])}'s place among the others ({'; '.join(compared)}) {found}"


def moved_in_readme(record: dict) -> str:
    found = [
        (max(one[0] for one in differences(record, other, _WORST)), other["name"])
        for other in elsewhere(record)
    ]
    if not found:
        return "such numbers differ; how far, was not measured."
    each = " and ".join(f"{points:.1f} points ({name})" for points, name in found)
    return f"such numbers moved by up to {each}{_place(record, 'stays', 'does not')}."


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
