"""Fig. 7: t-SNE of the features."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ldatlib.evaluation.feature_space import Cloud
from ldatlib.report.figures.look import panels
from ldatlib.study.records import Features


def embedded(record: Features) -> Cloud:
    """The two-dimensional picture that a record holds."""
    flat = record.embedding
    return Cloud(np.array(flat.natural), np.array(flat.adversarial), np.array(flat.y))


def tsne(clouds: Mapping[str, Cloud], class_names: Sequence[str]) -> Figure:
    """Fig. 7: t-SNE of features, natural (dots) and adversarial (crosses) images by class.

    ``clouds``: title -> features in two dimensions, see ``embedded``. All panels have one scale.
    """
    figure, axes = panels(1, len(clouds), 4.6 * len(clouds), 4.6, sharex=True, sharey=True)
    palette = sns.color_palette("tab10" if len(class_names) <= 10 else "husl", len(class_names))
    for axis, (title, cloud) in zip(axes[0], clouds.items(), strict=True):
        for label, name in enumerate(class_names):
            own = cloud.y == label
            dots = {"s": 9, "color": palette[label], "linewidths": 0.7}
            axis.scatter(*cloud.natural[own].T, marker="o", alpha=0.8, label=name, **dots)
            axis.scatter(*cloud.adversarial[own].T, marker="x", alpha=0.6, **dots)
        axis.set(title=title, xticks=[], yticks=[], aspect="equal")
    handles, labels = axes[0][0].get_legend_handles_labels()
    for marker, name in (("o", "natural"), ("x", "adversarial")):
        handles.append(matplotlib.lines.Line2D([], [], marker=marker, ls="", color="0.3"))
        labels.append(name)
    if len(labels) <= 24:
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    return figure
