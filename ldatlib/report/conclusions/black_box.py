"""Notebook 04: which surrogate is the stronger attacker, and does anything beat one's own PGD?"""

from collections.abc import Sequence

from ldatlib.report.claims import rules
from ldatlib.report.comparisons import Shown, transfer_pair
from ldatlib.report.conclusions.saying import listed, told_apart
from ldatlib.report.paired import ALPHA
from ldatlib.study.records import Transfer
from ldatlib.study.trainings import Training

PGD = "linf_pgd"


def surrogates(records: Sequence[Transfer], targets: Sequence[Training]) -> list[str]:
    """The undefended surrogate's PGD against the defended one's, on every target."""
    undefended, defended = records
    lost, supports, titles = [], [], [target.title for target in targets]
    for target in targets:
        weak, strong = (Shown(record, target.label, PGD) for record in (undefended, defended))
        lost.append(100 * (weak._replace(key="clean").share.value - weak.share.value))
        supports.append(rules.ahead(transfer_pair(weak, strong)))
    sides = told_apart(titles, supports)
    most = max(range(len(lost)), key=lost.__getitem__)
    return [
        f"PGD of the undefended surrogate takes {min(lost):.1f} to {max(lost):.1f} points of "
        f"natural accuracy, most from {titles[most]}.",
        "The defended surrogate is "
        + sides.sentence(
            "the stronger attacker against",
            "the weaker one against",
            "not told apart from the other against",
        ),
    ]


def own_attack(
    records: Sequence[Transfer], sources: Sequence[Training], targets: Sequence[Training]
) -> list[str]:
    """Is a network's own PGD the strongest? ``records``: of ``sources``, targets among them."""
    crafted = {source.label: record for source, record in zip(sources, records, strict=True)}
    titles = {source.label: source.title for source in sources}
    cases, supports = [], []
    for target in targets:
        own = Shown(crafted[target.label], target.label, PGD)
        for source, record in crafted.items():
            if source != target.label:
                other = Shown(record, target.label, PGD)
                cases.append((target.title, titles[source]))
                supports.append(rules.ahead(transfer_pair(own, other)))
    doubts = rules.doubts(supports)
    beaten: dict[str, list[str]] = {}
    for (target_title, source_title), support, doubt in zip(cases, supports, doubts, strict=True):
        if support.favour < support.against and doubt < ALPHA:
            beaten.setdefault(target_title, []).append(source_title)
    if not beaten:
        return [
            "No network's images fool another one better than its own PGD does: robust accuracy "
            "under transfer is no less than in the white box, and no evidence of robustness."
        ]
    whom = "; ".join(f"{name} by images of {listed(by)}" for name, by in beaten.items())
    return [
        f"Fooled better by another network's images than by its own PGD: {whom}. There the "
        "gradients mislead PGD (masking); elsewhere transfer takes no more than the white box."
    ]
