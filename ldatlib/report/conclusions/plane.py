"""Notebook 01: where attacks end in the plane, and how far features move."""

from collections.abc import Mapping

import numpy as np

from ldatlib.report.claims import rules
from ldatlib.report.conclusions.saying import told_apart


def walks(distances: Mapping[str, np.ndarray]) -> list[str]:
    """Of each attack's signed distances to the boundary, the start first; negative: behind it."""
    found = []
    for name, walk in distances.items():
        end, behind = float(walk[-1]), int((walk[1:] < 0).sum())
        side = "behind" if end < 0 else "before"
        found.append(
            f"{name} ends {abs(end):.2f} {side} the boundary; {behind} of its {len(walk) - 1} "
            "points lie behind it."
        )
    return found


def nearness(moved: Mapping[str, np.ndarray | None], own: str) -> list[str]:
    """Whose features move less under attack than those of ``own``, on the same images.

    ``moved``: title -> moves [N], in class distances; None where there is no such distance.
    """
    known = {title: values for title, values in moved.items() if values is not None}
    unknown = [
        f"How far apart is unknown with {title}: no two classes have means apart."
        for title in moved
        if title not in known
    ]
    if own not in known:
        return unknown
    means = ", ".join(f"{values.mean():.2f} with {title}" for title, values in known.items())
    others = [title for title in known if title != own]
    supports = [rules.larger(known[title], known[own]) for title in others]
    sides = told_apart(others, supports)
    said = sides.sentence("nearer to each other than with", "further apart than with")
    return [
        f"Natural and adversarial features are {means} class distances apart.",
        f"{own}'s are {said}",
        *unknown,
    ]
