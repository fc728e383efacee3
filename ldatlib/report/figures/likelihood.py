"""The likelihood term: what it does over epochs, and what the small model says of it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ldatlib.report.escape import in_figure
from ldatlib.report.figures.look import finished, legend_below, panels
from ldatlib.report.likelihood_model import half_squared_distance

_PANELS = {
    "val_clean_accuracy": "validation: natural accuracy (%)",
    "val_robust_accuracy": r"validation: PGD $L_\infty$ accuracy (%)",
    "val_own_centroid": r"$\frac{1}{2}\|f-\mu_y\|^2$",
    "val_between_classes": "distance between class means",
    "val_within_class": "spread within a class",
    "val_feature_norm": "feature norm",
}


def likelihood_over_epochs(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Accuracies and where the features lie on validation images, over epochs; name -> log."""
    figure, axes = panels(2, 3, 11, 5.8)
    colours = sns.color_palette("colorblind", len(logs))
    for axis, (key, title) in zip(axes.flat, _PANELS.items(), strict=True):
        percent = 100 if key.endswith("accuracy") else 1
        for (name, log), shade in zip(logs.items(), colours, strict=True):
            lines = [line for line in log if key in line]
            values = [percent * line[key] for line in lines]
            epochs, label = [line["epoch"] for line in lines], in_figure(name)
            axis.plot(epochs, values, "-o", ms=3, color=shade, label=label)
        # From a spread that collapses to one that nothing holds: factors, not differences.
        axis.set(title=title, xlabel="epoch", yscale="linear" if percent > 1 else "log")
    legend_below(figure, axes[0][0], min(len(logs), 5))
    shows = "Accuracies and distances of features on validation images over the epochs of LDAT: "
    return finished(figure, f"{shows}{', '.join(logs)}.")


def small_model(
    table: pd.DataFrame, weights: Mapping[str, float], num_classes: int, margin: float
) -> Figure:
    """The small model against the trainings of ``tables.likelihood_study``.

    ``weights``: name of a training -> weight of the likelihood term in its last epoch;
    ``margin``: that of all the trainings.

    Left: the own squared distance that the model predicts from a training's separation and weight,
    and the one measured. Right: separation against weight, and the line above which the model
    says that everything falls into one point.
    """
    shown = table[(table.training.map(weights) > 0) & table.separation.notna()]
    names = ", ".join(shown.training) or "no training has a separation"
    figure, (axes,) = panels(1, 2, 10, 4.4)
    colours = sns.color_palette("husl", len(shown))
    ends = []
    for (_, row), shade in zip(shown.iterrows(), colours, strict=True):
        weight, label = weights[row.training], in_figure(row.training)
        expected = half_squared_distance(row.separation, weight, num_classes, margin)
        ends += [expected, row.val_own_centroid]
        axes[0].plot(expected, row.val_own_centroid, "o", color=shade, label=label)
        axes[1].plot(weight, row.separation, "o", color=shade)
    line = np.array([0, 1.05 * max(ends, default=1.0)])
    axes[0].plot(line, line, "--", color="0.6", lw=1)
    axes[0].set(
        title=r"$\frac{1}{2}\|f-\mu_y\|^2$ after the last epoch",
        xlabel="the small model",
        ylabel="measured",
    )
    grid = np.geomspace(1e-3, 2, 100)
    critical = np.sqrt(2 * grid / (1 - 1 / num_classes) + margin)
    axes[1].fill_between(grid, critical, color="0.9")
    axes[1].plot(grid, critical, color="0.4", lw=1)
    axes[1].annotate("collapse", (0.9, 0.25), ha="right", color="0.4")
    axes[1].set(
        title="Separation and the weight of the likelihood term",
        xlabel=r"weight of $\|f-\mu_y\|^2$ in the last epoch",
        ylabel="distance between centroids / spread around them",
        xscale="log",
        ylim=(0, None),
    )
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    shows = "Distance of features to their centroids, as a small model expects it and as measured; "
    return finished(figure, f"{shows}separation of classes against the weight: {names}.")
