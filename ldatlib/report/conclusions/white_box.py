"""Notebook 03: have the attacks converged, and does APGD leave more than PGD?"""

from collections.abc import Iterable, Mapping

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import glossary, oddity, words
from ldatlib.report.conclusions.saying import listed
from ldatlib.study.records import Sweep, Whitebox


def convergence(steps: Mapping[str, Sweep]) -> list[str]:
    """What the most iterations still take that fewer had left; defence -> sweep record."""
    found = []
    for method in dict.fromkeys(p.method for record in steps.values() for p in record.points):
        taken, span = {}, ""
        for defence, record in steps.items():
            points = sorted((p for p in record.points if p.method == method), key=lambda p: p.steps)
            if len(points) < 2:
                continue
            before, after = points[-2:]
            span = f"from {before.steps} to {after.steps} iterations"
            lost = int((from_bits(before.right) & ~from_bits(after.right)).sum())
            if lost:
                taken[glossary.defence(defence)] = lost
        if not span:
            continue
        title = METHODS[method].title
        if taken:
            of = listed([f"{count} of {name}'s images" for name, count in taken.items()])
            found.append(
                f"{title} has not converged: {span} it still takes {of}; its column in "
                "Table 1 is too high there."
            )
        else:
            found.append(f"{title} has converged: {span} it takes no image more.")
    return found


def emptied(eps: Mapping[str, Sweep]) -> list[str]:
    """What PGD leaves at the largest budget, norm by norm; defence -> sweep record."""
    found = []
    for norm, title in words.NORMS.items():
        left, largest = {}, 0.0
        for defence, record in eps.items():
            points = [point for point in record.points if point.norm == norm]
            if points:
                last = max(points, key=lambda point: point.eps)
                largest = last.eps
                if last.robust_accuracy.value:
                    left[glossary.defence(defence)] = last.robust_accuracy.value
        if left:
            of = listed([f"{100 * share:.1f}% of {name}" for name, share in left.items()])
            found.append(
                f"{title} {largest:g} leaves {of}: PGD fails there, or the answer "
                "is always the same."
            )
        elif largest:
            found.append(f"{title} {largest:g} leaves nothing of any network.")
    return found


def oddities(records: Iterable[Whitebox]) -> list[str]:
    """APGD-DLR beside PGD, a sentence a network."""
    return [
        oddity.sentences(words.network(r.defence, r.ok, r.seed), oddity.measured(r, None))
        for r in records
    ]
