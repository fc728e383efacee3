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
    """The mean margin along the gradient, and along a random direction, in steps of eps.

    Above 0 the average image is misclassified. Along the gradient: the median over the random
    steps of the plane that a record holds, and the band of its quantiles from 10% to 90%; along
    the random direction: through the images themselves. (A record holds means over images.) A
    gradient that rises beside a flat random direction is what an attack needs; two flat ones are
    what masking looks like.
    """
    found = [(r.defence, r.norms[norm].surface) for r in records if norm in r.norms]
    shown = [(defence, surface) for defence, surface in found if surface]
    columns = min(4, max(len(shown), 1))
    rows = max(-(-len(shown) // columns), 1)
    size = 2.5 * columns + 0.8, 2.3 * rows + 0.6
    figure, axes = panels(rows, columns, *size, sharex=True, sharey=True)
    rises = []
    for axis, (defence, surface) in zip(axes.flat, shown, strict=False):
        positions, grid = surface.positions, np.array(surface.margin)
        # Logits are on scales of their own: each network is seen against its own clean margin.
        grid = grid / (abs(grid[len(positions) // 2, len(positions) // 2]) or 1.0)
        axis.axhline(0, color="0.3", lw=0.9, ls="--")
        # The gradient's position is the first index.
        low, middle, high = np.quantile(grid, [0.1, 0.5, 0.9], axis=1)
        axis.fill_between(positions, low, high, color=colour(defence), alpha=0.25, lw=0)
        axis.plot(positions, middle, color=colour(defence), lw=2)
        axis.plot(positions, grid[len(positions) // 2], color=_RANDOM, lw=1.2, ls=":")
        rises.append(f"{glossary.defence(defence)} {middle[-1] - middle[0]:+.1f}")
        axis.set_title(named(defence), fontsize=9, color=colour(defence))
    for axis in list(axes.flat)[len(shown) :] if shown else []:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel("steps of eps", fontsize=9)
    figure.supylabel("mean margin / clean margin (above 0: wrong)", fontsize=9)
    if shown:
        lines = [
            Line2D(
                [],
                [],
                color="0.2",
                lw=1.8,
                label="along the gradient; band: 10% to 90%",
            ),
            Line2D([], [], color=_RANDOM, lw=1.2, ls=":", label="along a random direction"),
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=2, fontsize=8)
    else:
        say(axes[0][0], _NOTHING_RIGHT)
    figure.suptitle(f"Margin of the wrong classes over the true one, {NORMS_IN_FIGURES[norm]}")
    names = ", ".join(rises) or _NOTHING_RIGHT
    shows = f"Mean margin along the gradient and a random direction, {NORMS[norm]}; its rise from "
    return finished(figure, f"{shows}one eps before the image to one behind it: {names}.")
