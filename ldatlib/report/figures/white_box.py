"""Fig. 4 and 5: growing budgets, more iterations."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldatlib.attacks import NORMS
from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report import glossary
from ldatlib.report.figures.look import colour, panels
from ldatlib.report.words import NORMS_IN_FIGURES
from ldatlib.study.records import Share, Sweep

_YLABEL = "robust accuracy (%), 95% interval"


def accuracy_by_eps(records: Mapping[str, Sweep]) -> Figure:
    """Fig. 4: robust accuracy against the budget of PGD, both norms. defence -> sweep record."""
    figure, axes = panels(1, 2, 9, 3.8, sharey=True)
    for axis, norm in zip(axes[0], NORMS, strict=True):
        for defence, record in records.items():
            points = [point for point in record.points if point.norm == norm]
            shares = [point.robust_accuracy for point in points]
            _curve(axis, [point.eps for point in points], shares, defence)
        title = f"PGD, {NORMS_IN_FIGURES[norm]}"
        axis.set(title=title, xlabel="budget (pixel units)", ylim=(-2, 102))
    axes[0][0].set_ylabel(_YLABEL)
    axes[0][1].legend()
    return figure


def accuracy_by_steps(records: Mapping[str, Sweep]) -> Figure:
    """Fig. 5: robust accuracy against iterations, PGD L-inf and C&W L2. defence -> record."""
    figure, axes = panels(1, 2, 9, 3.8, sharey=True)
    for axis, (method, norm) in zip(axes[0], (("pgd", "linf"), ("cw", "l2")), strict=True):
        for defence, record in records.items():
            points = [point for point in record.points if point.method == method]
            shares = [point.robust_accuracy for point in points]
            _curve(axis, [point.steps for point in points], shares, defence)
        title = f"{METHODS[method].title}, {NORMS_IN_FIGURES[norm]}"
        axis.set(title=title, xlabel="iterations", ylim=(-2, 102))
    axes[0][0].set_ylabel(_YLABEL)
    axes[0][1].legend()
    return figure


def _curve(axis: Axes, xs: Sequence[float], shares: list[Share], defence: str) -> None:
    values = [100 * share.value for share in shares]
    width = 2.5 if defence == "ldat" else 1.3
    axis.plot(
        xs, values, "-o", ms=3, lw=width, color=colour(defence), label=glossary.defence(defence)
    )
    low, high = [100 * share.low for share in shares], [100 * share.high for share in shares]
    axis.fill_between(xs, low, high, color=colour(defence), alpha=0.08, lw=0)
