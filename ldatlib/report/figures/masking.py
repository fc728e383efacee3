"""Does the loss look like something a gradient can climb?"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ldatlib.report import glossary
from ldatlib.report.figures.look import colour, panels
from ldatlib.report.words import NORMS_IN_FIGURES
from ldatlib.study.records import Masking


def surfaces(records: Sequence[Masking], norm: str) -> Figure:
    """The mean margin over the plane of the gradient (across) and a random direction (up).

    Above 0 (red) the average image is misclassified; the star is the image itself. A smooth slope
    to the right is what an attack needs; a plain without slope is what masking looks like.
    """
    found = [(r.defence, r.norms[norm].surface) for r in records if norm in r.norms]
    shown = [(defence, surface) for defence, surface in found if surface]
    columns = min(4, max(len(shown), 1))
    rows = max(-(-len(shown) // columns), 1)
    figure, axes = panels(rows, columns, 2.5 * columns + 0.8, 2.6 * rows, sharex=True, sharey=True)
    for axis, (defence, surface) in zip(axes.flat, shown, strict=False):
        positions, grid = surface.positions, np.array(surface.margin)
        # Logits are on scales of their own: each network is seen against its own clean margin.
        unit = abs(grid[len(positions) // 2, len(positions) // 2]) or 1.0
        levels = np.linspace(-1.5, 1.5, 13)
        drawn = axis.contourf(
            positions, positions, (grid / unit).T, levels=levels, cmap="RdBu_r", extend="both"
        )
        axis.contour(positions, positions, grid.T, levels=[0], colors="k", linewidths=1)
        axis.plot(0, 0, "*", color="k", ms=8)
        axis.set_title(glossary.defence(defence), fontsize=9)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    figure.supxlabel("steps of eps along the gradient", fontsize=9)
    figure.supylabel("steps of eps in a random direction", fontsize=9)
    if shown:
        label = "mean margin / clean margin"
        figure.colorbar(drawn, ax=axes, label=label, ticks=[-1.5, -1, -0.5, 0, 0.5, 1, 1.5])
    figure.suptitle(f"Margin of the wrong classes over the true one, {NORMS_IN_FIGURES[norm]}")
    return figure


def growing_eps(records: Sequence[Masking], norm: str) -> Figure:
    """Accuracy under PGD on doubling balls, to the one that holds every image."""
    figure, axes = panels(1, 1, 5.2, 3.4)
    axis = axes[0][0]
    for record in records:
        tests = record.norms[norm].tests if norm in record.norms else []
        for points in [test.numbers.points for test in tests if test.numbers.points]:
            values = [100 * point.robust_accuracy.value for point in points]
            look = {"color": colour(record.defence), "label": glossary.defence(record.defence)}
            axis.plot([point.eps for point in points], values, "-o", ms=3, **look)
    axis.set(xscale="log", ylim=(-2, 102), xlabel=f"eps, {NORMS_IN_FIGURES[norm]}, in pixel units")
    axis.set_ylabel("accuracy under PGD (%)")
    budgets = sorted({float(x) for line in axis.lines for x in line.get_xdata()})
    axis.set_xticks(budgets, [f"{eps:.3g}" for eps in budgets])
    axis.minorticks_off()
    axis.legend(fontsize=8)
    return figure
