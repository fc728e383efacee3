"""How the trainings went, epoch by epoch."""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ldatlib.defences.adversaries import PGD, Boundary
from ldatlib.report import glossary
from ldatlib.report.figures.look import colour, direct_labels, finished, named
from ldatlib.report.words import NORMS_IN_FIGURES
from ldatlib.study.trainings import Training

# Name of an entry of a log's line, title, factor.
_SHARED = (
    ("val_clean_accuracy", "validation: natural accuracy (%)", 100),
    ("val_robust_accuracy", rf"validation: PGD {NORMS_IN_FIGURES['linf']} accuracy (%)", 100),
    ("perturbation_norm", r"mean $\|x' - x\|_2$ of training examples", 1),
    ("smallest_centroid_distance", "LDAT: smallest centroid distance", 1),
    ("lambda", r"LDAT: $\lambda_t$", 1),
)


def length_limits(trainings: Iterable[Training], pixels: int) -> dict[str, float]:
    """Defence -> the longest perturbation that its attack in training allows, in L2.

    The radius of Algorithm 1's projection, the budget of PGD; that of an L-inf ball is the
    distance to its corner, ``eps`` times the root of the numbers of an image (``pixels``).
    """
    limits = {}
    for training in trainings:
        adversary = training.config.defence.adversary
        if isinstance(adversary, Boundary):
            limits[training.name] = adversary.radius
        elif isinstance(adversary, PGD):
            corner = sqrt(pixels) if adversary.norm == "linf" else 1.0
            limits[training.name] = adversary.eps * corner
    return limits


def training_curves(
    logs: Mapping[str, Sequence[Mapping[str, float]]], limits: Mapping[str, float] | None = None
) -> Figure:
    """Losses, validation accuracies, lambda, centroid distance, Algorithm 1's norm, over epochs.

    ``logs``: defence -> lines of its log. ``limits``: ``length_limits``, drawn dotted. Losses are
    sums of different things: each has an axis of its own.
    """
    figure = Figure(figsize=(11, 8.2), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 2.7))
    above, below = halves
    losses = above.subplots(1, max(len(logs), 1), squeeze=False)[0]
    for axis, (defence, log) in zip(losses, logs.items(), strict=False):
        _curve(axis, defence, log, "loss", 1)
        axis.set_title(named(defence).replace(" (", "\n("), fontsize=8.5, color=colour(defence))
        axis.tick_params(labelsize=7)
    losses[0].set_ylabel("training loss")
    axes = list(below.subplots(2, 3).flat)
    said = []
    for axis, (name, title, factor) in zip(axes, _SHARED, strict=False):
        ends = []
        for defence, log in logs.items():
            found = _curve(axis, defence, log, name, factor)
            if found is not None:
                unit = f"{found:.0f}" if factor > 1 else f"{found:.2f}"
                ends.append((found, f"{named(defence)} {unit}", colour(defence)))
                if name == "val_robust_accuracy":
                    said.append(f"{glossary.defence(defence)} {unit}%")
        if factor > 1:
            axis.set_ylim(-2, 104)
        if name == "perturbation_norm":
            ends += _limits(axis, {d: e for d, e in (limits or {}).items() if d in logs})
        axis.set_title(title, fontsize=9)
        axis.set_xlim(axis.get_xlim())
        axis.set_ylim(axis.get_ylim())
        direct_labels(axis, ends, axis.get_xlim()[1])
    for axis in axes[len(_SHARED) :]:
        axis.set_axis_off()
    names = ", ".join(map(glossary.defence, logs))
    shows = "Losses, validation accuracies, length of the perturbations, centroids and lambda over "
    last = f" Validation accuracy under PGD at the end: {', '.join(said)}." if said else ""
    return finished(figure, f"{shows}epochs: {names}.{last}")


def _curve(
    axis: Axes, defence: str, log: Sequence[Mapping[str, float]], name: str, factor: float
) -> float | None:
    """One line; its last value, None where the log has no such entry."""
    lines = [line for line in log if name in line]
    axis.set_xlabel("epoch", fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    if not lines:
        return None
    epochs, values = [line["epoch"] for line in lines], [factor * line[name] for line in lines]
    axis.plot(epochs, values, color=colour(defence), lw=2.2 if defence == "ldat" else 1.4)
    if name == "perturbation_norm" and defence.startswith("ldat"):
        raw = [line["attack_norm"] for line in lines]
        axis.plot(epochs, raw, color=colour(defence), lw=1, ls=(0, (1, 1)))
    return values[-1]


def _limits(axis: Axes, limits: Mapping[str, float]) -> list[tuple[float, str, str]]:
    """Dotted lines, one a value; their heights, words and colours."""
    bounded: dict[float, list[str]] = {}
    for defence, limit in limits.items():
        bounded.setdefault(round(limit, 6), []).append(defence)
    said = []
    for limit, defences in bounded.items():
        shade = colour(defences[0]) if len(defences) == 1 else "0.4"
        axis.axhline(limit, color=shade, lw=1, ls=":")
        what = "radius" if defences[0].startswith("ldat") else "budget"
        of = named(defences[0]) if len(defences) == 1 else f"of {len(defences)} defences:"
        said.append((limit, f"{what} {of} {limit:.2f}", shade))
    return said
