"""Figures of notebook 09. Functions take tables or records and return a matplotlib Figure."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ldatlib.defences import TITLES
from ldatlib.report.figures import _NORM_TITLES, _axes, colour

# From what the paper measures (grey) to everything that was run (dark).
_SHADES = {
    "best": ("best attack of the list", "#c9c9c9"),
    "list_worst_case": ("worst case of the list", "#8fbcd9"),
    "autoattack": ("AutoAttack", "#0173b2"),
    "worst_case": ("worst case of everything", "#08304f"),
}
ORDINARY, ADAPTIVE = "#8fbcd9", "#d55e00"


def _bars(axis, index: np.ndarray, frame: pd.DataFrame, name: str, width: float, **style) -> None:
    values = frame[name].to_numpy()
    ends = np.array([frame[f"{name}_low"], frame[f"{name}_high"]])
    error = {"yerr": np.abs(ends - values), "error_kw": {"lw": 0.7, "ecolor": "0.3"}}
    axis.bar(index, values, width, **error, **style)


def scrutiny(frame: pd.DataFrame) -> Figure:
    """Accuracy left by the list's best attack, the list, AutoAttack, and everything; a norm each.

    ``frame``: ``tables_scrutiny.scrutiny``. Lines are 95% intervals.
    """
    frame = frame[frame.seed == frame.seed.min()]
    norms = list(dict.fromkeys(frame.norm))
    figure, axes = _axes(len(norms), 1, 9, 3.1 * len(norms) + 0.4, sharex=True)
    for axis, norm in zip(axes[:, 0], norms, strict=True):
        of_norm = frame[frame.norm == norm]
        places = np.arange(len(of_norm))
        for index, (name, (title, shade)) in enumerate(_SHADES.items()):
            where = places + 0.2 * (index - 1.5)
            _bars(axis, where, of_norm, name, 0.19, color=shade, label=title)
        axis.set_xticks(places, [TITLES[name] for name in of_norm.defence])
        axis.set(ylim=(0, 102), ylabel="accuracy (%), 95% interval")
        axis.set_title(f"{_NORM_TITLES[norm]}, {of_norm.images.iloc[0]} test images")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def surfaces(records: Sequence[dict], norm: str) -> Figure:
    """The mean margin over the plane of the gradient (across) and a random direction (up).

    Above 0 (red) the average image is misclassified; the star is the image itself. A smooth slope
    to the right is what an attack needs; a plain without slope is what masking looks like.
    """
    shown = [r for r in records if norm in r["norms"] and r["norms"][norm]["surface"]]
    columns = min(4, max(len(shown), 1))
    rows = max(-(-len(shown) // columns), 1)
    figure, axes = _axes(rows, columns, 2.5 * columns + 0.8, 2.6 * rows, sharex=True, sharey=True)
    grids = [np.array(record["norms"][norm]["surface"]["margin"]) for record in shown]
    for axis, record, grid in zip(axes.flat, shown, grids, strict=False):
        positions = record["norms"][norm]["surface"]["positions"]
        # Logits are on scales of their own: each network is seen against its own clean margin.
        unit = abs(grid[len(positions) // 2, len(positions) // 2]) or 1.0
        levels = np.linspace(-1.5, 1.5, 13)
        drawn = axis.contourf(
            positions, positions, (grid / unit).T, levels=levels, cmap="RdBu_r", extend="both"
        )
        axis.contour(positions, positions, grid.T, levels=[0], colors="k", linewidths=1)
        axis.plot(0, 0, "*", color="k", ms=8)
        axis.set_title(TITLES[record["defence"]], fontsize=9)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    figure.supxlabel("steps of eps along the gradient", fontsize=9)
    figure.supylabel("steps of eps in a random direction", fontsize=9)
    if shown:
        label = "mean margin / clean margin"
        figure.colorbar(drawn, ax=axes, label=label, ticks=[-1.5, -1, -0.5, 0, 0.5, 1, 1.5])
    figure.suptitle(f"Margin of the wrong classes over the true one, {_NORM_TITLES[norm]}")
    return figure


def growing_eps(records: Sequence[dict], norm: str) -> Figure:
    """Accuracy under PGD on doubling balls, to the one that holds every image."""
    figure, axes = _axes(1, 1, 5.2, 3.4)
    axis = axes[0][0]
    for record in records:
        tests = record["norms"].get(norm, {}).get("tests", [])
        for test in tests:
            if test["test"] == "growing_eps":
                points = test["numbers"].get("points", [])
                values = [100 * point["robust_accuracy"]["value"] for point in points]
                style = {"color": colour(record["defence"]), "label": TITLES[record["defence"]]}
                axis.plot([point["eps"] for point in points], values, "-o", ms=3, **style)
    axis.set(xscale="log", ylim=(-2, 102), xlabel=f"eps, {_NORM_TITLES[norm]}, in pixel units")
    axis.set_ylabel("accuracy under PGD (%)")
    budgets = sorted({float(x) for line in axis.lines for x in line.get_xdata()})
    axis.set_xticks(budgets, [f"{eps:.3g}" for eps in budgets])
    axis.minorticks_off()
    axis.legend(fontsize=8)
    return figure


def adaptive(frame: pd.DataFrame, score: str = "posterior") -> Figure:
    """Wrong and accepted images: the best ordinary attack beside the adaptive one.

    ``frame``: ``tables_scrutiny.adaptive_rows``. A row of panels a norm, a panel a threshold.
    """
    frame = frame[frame.score == score]
    norms = list(dict.fromkeys(frame.norm))
    thresholds = list(dict.fromkeys(frame.threshold))
    figure, axes = _axes(
        len(norms), len(thresholds), 3.7 * len(thresholds), 2.7 * len(norms) + 0.4, sharey=True
    )
    for row, norm in zip(axes, norms, strict=True):
        for axis, threshold in zip(row, thresholds, strict=True):
            shown = frame[(frame.norm == norm) & (frame.threshold == threshold)]
            places = np.arange(len(shown))
            _bars(axis, places - 0.2, shown, "ordinary", 0.38, color=ORDINARY, label="ordinary")
            _bars(axis, places + 0.2, shown, "adaptive", 0.38, color=ADAPTIVE, label="adaptive")
            names = [TITLES[name] for name in shown.defence]
            axis.set_xticks(places, names, rotation=35, ha="right", fontsize=8)
            axis.set_title(f"{_NORM_TITLES[norm]}, threshold {threshold}", fontsize=9)
            axis.set(ylim=(0, 102))
        row[0].set_ylabel("wrong and accepted (%)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
