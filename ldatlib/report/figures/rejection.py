"""What the detector is worth, over the share of clean images that it accepts."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldatlib.report import glossary
from ldatlib.report.figures.look import colour, finished, legend_below, named, panels
from ldatlib.report.words import NORMS_IN_FIGURES

# Column of ``tables.rejection_rows`` -> how its panel is called.
_PANELS = {
    "robust_0": "robust with rejection",
    "robust_0.5": "none refused within eps/2",
    "robust_1": "none refused within eps",
    "error": "error among the accepted",
}


def rejection(frame: pd.DataFrame, score: str = "posterior") -> Figure:
    """Robust accuracy with rejection and robust error, over clean acceptance; bands are 95%.

    ``frame``: ``tables.rejection_rows``. A row of panels a norm; at the right end of each curve
    everything is accepted.
    """
    frame = frame[frame.score == score]
    norms = list(dict.fromkeys(frame.norm))
    rows, columns = max(len(norms), 1), len(_PANELS)
    figure, axes = panels(rows, columns, 2.7 * columns, 2.6 * rows + 0.5, sharex=True, sharey=True)
    for row, norm in zip(axes, norms, strict=False):
        for axis, (name, title) in zip(row, _PANELS.items(), strict=True):
            for defence, points in frame[frame.norm == norm].groupby("defence", sort=False):
                _curve(axis, points.sort_values("clean_acceptance"), name, str(defence))
            axis.set_title(f"{NORMS_IN_FIGURES[norm]}: {title}", fontsize=8)
            axis.set(xlim=(0, 102), ylim=(0, 102))
        row[0].set_ylabel("images (%)", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel(f"{glossary.title('clean_acceptance')} (%)", fontsize=8)
    legend_below(figure, axes[0][0], 4)
    titles = ", ".join(map(glossary.defence, dict.fromkeys(frame.defence)))
    shows = "Robust accuracy with rejection and error among the accepted, over the share of clean "
    return finished(figure, f"{shows}images that is accepted: {titles}.")


def _curve(axis: Axes, points: pd.DataFrame, name: str, defence: str) -> None:
    shade = colour(defence)
    across = points.clean_acceptance
    axis.plot(across, points[name], "-", color=shade, lw=1.2, label=named(defence))
    axis.fill_between(across, points[f"{name}_low"], points[f"{name}_high"], color=shade, alpha=0.1)
