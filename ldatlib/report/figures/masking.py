"""Does the loss look like something a gradient can climb?"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ldatlib.report import glossary
from ldatlib.report.figures.look import colour, finished, named, panels, say
from ldatlib.report.words import NORMS, NORMS_IN_FIGURES
from ldatlib.study.records import Masking

_NOTHING_RIGHT = "no network has an image right"
_RANDOM = "#666666"


def surfaces(records: Sequence[Masking], norm: str) -> Figure:
    """The margin along the gradient, and along a random direction, in steps of eps.

    Above 0 an image is misclassified. Medians over the images that are right without an attack, and
    bands from 10% to 90% of them. A gradient that rises beside a flat random direction is what an
    attack needs; two flat ones are what masking looks like.
    """
    found = [(r.defence, r.norms[norm].surface) for r in records if norm in r.norms]
    shown = [(defence, surface) for defence, surface in found if surface]
    columns = min(4, max(len(shown), 1))
    rows = max(-(-len(shown) // columns), 1)
    size = 2.5 * columns + 0.8, 2.3 * rows + 0.6
    figure, axes = panels(rows, columns, *size, sharex=True, sharey=True)
    rises = []
    for axis, (defence, surface) in zip(axes.flat, shown, strict=False):
        # Logits are on scales of their own: each network is seen against its own clean margin.
        clean = abs(surface.gradient[surface.positions.index(0)].median) or 1.0
        axis.axhline(0, color="0.3", lw=0.9, ls="--")
        for heights, hue, style in (
            (surface.random, _RANDOM, ":"),
            (surface.gradient, colour(defence), "-"),
        ):
            low, middle, high = (
                np.array([getattr(height, name) for height in heights]) / clean
                for name in ("low", "median", "high")
            )
            axis.fill_between(surface.positions, low, high, color=hue, alpha=0.2, lw=0)
            axis.plot(surface.positions, middle, color=hue, lw=1.8, ls=style)
        rises.append(f"{glossary.defence(defence)} {middle[-1] - middle[0]:+.1f}")
        axis.set_title(named(defence), fontsize=9, color=colour(defence))
    for axis in list(axes.flat)[len(shown) :] if shown else []:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel("steps of eps", fontsize=9)
    figure.supylabel("margin / median clean margin (above 0: wrong)", fontsize=9)
    if shown:
        lines = [
            Line2D(
                [],
                [],
                color="0.2",
                lw=1.8,
                label="along the gradient; bands: 10% to 90% of images",
            ),
            Line2D([], [], color=_RANDOM, lw=1.2, ls=":", label="along a random direction"),
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=2, fontsize=8)
    else:
        say(axes[0][0], _NOTHING_RIGHT)
    figure.suptitle(f"Margin of the wrong classes over the true one, {NORMS_IN_FIGURES[norm]}")
    names = ", ".join(rises) or _NOTHING_RIGHT
    shows = (
        f"Median margin along the gradient and a random direction, {NORMS[norm]}; its rise from "
    )
    return finished(figure, f"{shows}one eps before the image to one behind it: {names}.")
