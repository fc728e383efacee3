"""Who fools whom."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ldatlib.report.figures.look import panels


def transfer_heat_map(matrix: pd.DataFrame) -> Figure:
    """Heat map of ``tables.transfer_matrix``: rows crafted on, columns shown to; percent."""
    figure, axes = panels(1, 1, 1.0 + 0.85 * matrix.shape[1], 0.9 + 0.5 * matrix.shape[0])
    sns.heatmap(
        matrix,
        ax=axes[0][0],
        annot=True,
        fmt=".0f",
        cmap="viridis",
        vmin=0,
        vmax=100,
        cbar_kws={"label": "accuracy (%)"},
    )
    axes[0][0].set(xlabel="shown to", ylabel="PGD crafted on", title=r"Transfer, PGD $L_\infty$")
    axes[0][0].tick_params(axis="x", rotation=30)
    return figure
