"""Who fools whom."""

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ldatlib.report.escape import in_figure
from ldatlib.report.figures.look import finished, panels

_OWN, _STRONGEST = "#56b4e9", "#d62728"


def transfer_heat_map(matrix: pd.DataFrame) -> Figure:
    """Heat map of ``tables.transfer_matrix``: rows crafted on, columns shown to; percent.

    Outlined: a network under its own images (dashed), and in each column the images that leave
    least (solid), which need not be the same.
    """
    figure, axes = panels(1, 1, 2.2 + 0.9 * matrix.shape[1], 1.3 + 0.5 * matrix.shape[0])
    axis = axes[0][0]
    sns.heatmap(
        matrix.rename(index=in_figure, columns=in_figure),
        ax=axis,
        annot=True,
        fmt=".0f",
        cmap="Greys_r",
        vmin=0,
        vmax=100,
        linewidths=0.5,
        cbar_kws={"label": "accuracy (%)"},
    )
    others = []
    frame: dict[str, Any]
    for column, target in enumerate(matrix.columns):
        own = list(matrix.index).index(target) if target in matrix.index else None
        values = matrix.iloc[:, column]
        strongest = [k for k, value in enumerate(values) if value == values.min()]
        for row in strongest:
            frame = {"fill": False, "ec": _STRONGEST, "lw": 2.4, "zorder": 3}
            axis.add_patch(Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, **frame))
        if own is not None:
            frame = {"fill": False, "ec": _OWN, "lw": 2, "ls": (0, (3, 2)), "zorder": 4}
            axis.add_patch(Rectangle((column + 0.1, own + 0.1), 0.8, 0.8, **frame))
        if own not in strongest:
            others.append(f"{target} by images of {matrix.index[strongest[0]]}")
    handles = [
        Rectangle((0, 0), 1, 1, fill=False, ec=_OWN, lw=2, ls="--", label="its own images"),
        Rectangle((0, 0), 1, 1, fill=False, ec=_STRONGEST, lw=2.4, label="the strongest images"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8.5)
    axis.set(xlabel="shown to", ylabel="PGD crafted on", title=r"Transfer, PGD $L_\infty$")
    axis.tick_params(axis="x", rotation=30)
    shows = "Accuracy of each network under PGD images crafted on each other one: "
    most = f" Fooled most not by its own: {'; '.join(others)}." if others else ""
    return finished(figure, f"{shows}{', '.join(map(str, matrix.columns))}.{most}")
