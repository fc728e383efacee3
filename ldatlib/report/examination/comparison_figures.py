"""Pictures of two examinations side by side."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from ldatlib.report.escape import in_figure
from ldatlib.report.examination import frames
from ldatlib.report.figures.look import finished, panels, say
from ldatlib.report.paired import ALPHA
from ldatlib.report.words import NORMS_IN_FIGURES
from ldatlib.study.records.comparison import Comparison
from ldatlib.study.records.examination import Examination

_COLOURS = {"A": "#0173b2", "B": "#de8f05"}
_PALE = "#999999"


def differences(record: Comparison) -> Figure:
    """How many points more B has right, a line a comparison, with its interval."""
    rows = record.rows
    figure, axes = panels(1, 1, 7.4, 0.9 + 0.24 * len(rows))
    axis = axes[0][0]
    for place, row in enumerate(rows):
        sure = row.p_holm is not None and row.p_holm < ALPHA
        ends = [[100 * (row.difference - row.low)], [100 * (row.high - row.difference)]]
        colour = _COLOURS["B" if row.difference > 0 else "A"] if sure else _PALE
        look = {"color": colour, "ms": 5 if row.what != "attack" else 3, "capsize": 2}
        axis.errorbar([100 * row.difference], [place], xerr=ends, fmt="o", **look)
    axis.axvline(0, color="0.6", lw=0.8, zorder=0)
    labels = [
        f"{NORMS_IN_FIGURES[row.norm]} {in_figure(row.title)}" if row.norm else "clean"
        for row in rows
    ]
    axis.set_yticks(range(len(rows)), labels, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel("points more that B has right")
    return finished(
        figure,
        "What B has right more than A, in points (bars: 95%); coloured where the corrected test "
        "shows a difference, large where everything counts.",
    )


def curve(examinations: Sequence[Examination]) -> Figure:
    """What PGD leaves on ever larger balls of each."""
    norms = list(examinations[0].norms)
    figure, axes = panels(1, len(norms), 4.2 * len(norms), 3.0, sharey=True)
    for axis, norm in zip(axes[0], norms, strict=True):
        budgets: set[float] = set()
        for name, record in zip(_COLOURS, examinations, strict=True):
            found = frames.curve(record)
            points = found[found.norm == norm] if len(found) else found
            if len(points):
                look, budgets = {"color": _COLOURS[name]}, budgets | set(points.eps)
                low, high = points.robust_accuracy_low, points.robust_accuracy_high
                axis.plot(points.eps, points.robust_accuracy, "-o", ms=3, label=name, **look)
                axis.fill_between(points.eps, low, high, alpha=0.15, **look)
        if axis.lines:
            axis.set_xscale("log")
            # Doubled from one to the next: ticks of their own would stand on each other.
            axis.set_xticks(sorted(budgets), [f"{eps:.3g}" for eps in sorted(budgets)], fontsize=7)
            axis.minorticks_off()
            axis.legend(fontsize=8)
        else:
            say(axis, "the tests for masking were not run")
        axis.set(ylim=(-2, 102), xlabel=f"eps, {NORMS_IN_FIGURES[norm]}, in pixel units")
    axes[0][0].set_ylabel("right under PGD (%)")
    shows = "Images right under PGD over the budget, of those that the tests for masking look at "
    return finished(figure, f"{shows}(bands: 95%).")
