"""How the trainings went, epoch by epoch."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ldatlib.report import glossary
from ldatlib.report.figures.look import colour, legend_below, panels


def training_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Loss, validation accuracies, lambda, centroid distance, Algorithm 1's norm, over epochs.

    ``logs``: defence -> lines of its log.
    """
    shown = [
        ("loss", "training loss", "log"),
        ("val_clean_accuracy", "validation: clean accuracy", "linear"),
        ("val_robust_accuracy", r"validation: PGD $L_\infty$ accuracy", "linear"),
        ("perturbation_norm", r"mean $\|x' - x\|_2$ of training examples", "linear"),
        ("smallest_centroid_distance", "LDAT: smallest centroid distance", "linear"),
        ("lambda", r"LDAT: $\lambda_t$", "linear"),
    ]
    figure, axes = panels(2, 3, 11, 5.8)
    for axis, (name, title, scale) in zip(axes.flat, shown, strict=True):
        for defence, log in logs.items():
            lines = [line for line in log if name in line]
            if not lines:
                continue
            epochs = [line["epoch"] for line in lines]
            values = [line[name] for line in lines]
            axis.plot(epochs, values, color=colour(defence), label=glossary.defence(defence))
            if name == "perturbation_norm" and defence == "ldat":
                raw = [line["attack_norm"] for line in lines]
                axis.plot(epochs, raw, ":", color=colour(defence))
                where = {"xy": (epochs[-1], raw[-1]), "xytext": (0, 6), "ha": "right"}
                text = "dotted: LDAT before projection"
                axis.annotate(text, **where, textcoords="offset points", fontsize=7)
        axis.set(title=title, xlabel="epoch", yscale=scale)
    legend_below(figure, axes[0][0])
    return figure
