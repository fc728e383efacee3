"""Notebook 03: have the attacks converged, and do those of one kind leave the same?"""

from collections.abc import Iterable, Mapping

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import glossary, oddity, paper, words
from ldatlib.report.conclusions.saying import listed
from ldatlib.study.records import Sweep, Whitebox


def convergence(steps: Mapping[str, Sweep]) -> list[str]:
    """What the most iterations still take that fewer had left; defence -> sweep record."""
    found = []
    for method in dict.fromkeys(p.method for record in steps.values() for p in record.points):
        taken, span, images = {}, "", 0
        for defence, record in steps.items():
            points = sorted((p for p in record.points if p.method == method), key=lambda p: p.steps)
            if len(points) < 2:
                continue
            before, after = points[-2:]
            span = f"from {before.steps} to {after.steps} iterations"
            images = after.robust_accuracy.count
            lost = int((from_bits(before.right) & ~from_bits(after.right)).sum())
            if lost:
                taken[glossary.defence(defence)] = lost
        if not span:
            continue
        title = METHODS[method].title
        if taken:
            of = listed([f"{count} of {name}'s" for name, count in taken.items()])
            found.append(
                f"{title} has not converged: {span} it still takes, of {images} images, {of}; its "
                "column in Table 1 is too high there."
            )
        else:
            found.append(f"{title} has converged: {span} it takes none of {images} images more.")
    return found


def emptied(eps: Mapping[str, Sweep]) -> list[str]:
    """What PGD leaves at the largest budget, norm by norm; defence -> sweep record."""
    found = []
    for norm, title in words.NORMS.items():
        left, largest, images = {}, 0.0, 0
        for defence, record in eps.items():
            points = [point for point in record.points if point.norm == norm]
            if points:
                last = max(points, key=lambda point: point.eps)
                largest, images = last.eps, last.robust_accuracy.count
                if last.robust_accuracy.value:
                    left[glossary.defence(defence)] = last.robust_accuracy.value
        if left:
            of = listed([f"{100 * share:.1f}% of {name}" for name, share in left.items()])
            found.append(
                f"{title} {largest:g} leaves {of}, of {images} images: PGD fails there, or the "
                "answer is always the same."
            )
        elif largest:
            found.append(f"{title} {largest:g} leaves none of {images} images of any network.")
    return found


def oddities(records: Iterable[Whitebox]) -> list[str]:
    """APGD-DLR beside PGD, a sentence a network; corrected over all networks and norms."""
    return oddity.sentences(
        [(words.network(r.defence, r.ok, r.seed), oddity.measured(r, None)) for r in records]
    )


def minimal_norm_gaps(records: Iterable[Whitebox]) -> list[str]:
    """How much more DeepFool leaves than FAB, norm by norm, beside the paper's largest gap.

    Both look for a small perturbation and are judged at a fixed budget.
    """
    printed = paper.table(1)
    columns = [(f"{norm}_deepfool", f"{norm}_fab") for norm in words.NORMS]
    theirs = max(float((printed[deepfool] - printed[fab]).max()) for deepfool, fab in columns)
    gaps, found = {}, []
    for record in records:
        left = {key: 100 * own.robust_accuracy.value for key, own in record.attacks.items()}
        for norm, (deepfool, fab) in zip(words.NORMS, columns, strict=True):
            if {deepfool, fab} <= left.keys():
                title = words.network(record.defence, record.ok, record.seed)
                gaps[f"{title} ({words.NORMS[norm]})"] = left[deepfool] - left[fab]
    if gaps:
        widest = max(gaps, key=gaps.__getitem__)
        found.append(
            f"DeepFool leaves up to {gaps[widest]:.1f} points more than FAB here, of {widest}; in "
            f"the paper's table up to {theirs:.2f}."
        )
    if wide := [f"{name} {gap:.1f}" for name, gap in gaps.items() if gap >= theirs]:
        found.append(
            f"At least as far apart as the paper's are {listed(wide)}: such a gap alone is no "
            "evidence against the paper."
        )
    return found
