"""Fig. 4 and 5: growing budgets, more iterations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import glossary
from ldatlib.report.figures.look import (
    colour,
    direct_labels,
    finished,
    named,
    panels,
    say,
    whiskers,
)
from ldatlib.report.words import NORMS, NORMS_IN_FIGURES, swept_images
from ldatlib.study.records import Masking, Share, Sweep

_YLABEL = "robust accuracy (%)"
_NOTHING_RIGHT = "no network has an image right"


@dataclass(frozen=True)
class _Line:
    """One defence in one panel: places on the axis, shares, and how it is drawn."""

    defence: str
    xs: list[float]
    shares: list[Share]
    dashed: bool = False

    def draw(self, axis: Axes) -> None:
        own = self.defence.startswith("ldat")
        values = [100 * share.value for share in self.shares]
        look: dict[str, Any] = {"color": colour(self.defence), "lw": 2.2 if own else 1.3}
        look |= {"zorder": 3 if own else 2, "alpha": 0.95}
        axis.plot(self.xs, values, "--" if self.dashed else "-", marker="o", ms=2.5, **look)

    def at(self, x: float | None) -> int:
        """The number of the point at ``x``; of the last one where there is none."""
        near = [k for k, own in enumerate(self.xs) if x is not None and abs(own - x) <= 1e-6 * x]
        return near[0] if near else len(self.xs) - 1


def accuracy_by_eps(
    records: Mapping[str, Sweep],
    budgets: Mapping[str, float] | None = None,
    growing: Sequence[Masking] = (),
) -> Figure:
    """Fig. 4: robust accuracy against the budget of PGD, both norms. defence -> sweep record.

    ``budgets``: norm -> Table 1's budget, which is marked and whose numbers have 95% intervals.
    ``growing``: records of the tests for masking, whose balls grow on, dashed, until they hold
    every image.
    """
    figure, axes = panels(1, 2, 11, 4.2, sharey=True)
    images, at_budget = swept_images(records.values()), []
    for axis, norm in zip(axes[0], NORMS, strict=True):
        lines: list[_Line] = []
        for defence, record in records.items():
            points = [point for point in record.points if point.norm == norm and point.eps > 0]
            if points:
                shares = [point.robust_accuracy for point in points]
                lines.append(_Line(defence, [point.eps for point in points], shares))
        largest = max((x for line in lines for x in line.xs), default=0.0)
        budget = (budgets or {}).get(norm)
        for line in _grown(growing, norm):
            # On from the last ball that the sweep has; other images, so they are not one line.
            first = max((eps for eps in line.xs if eps <= largest), default=line.xs[0])
            kept = [k for k, eps in enumerate(line.xs) if eps >= first]
            xs, shares = [line.xs[k] for k in kept], [line.shares[k] for k in kept]
            _Line(line.defence, xs, shares, dashed=True).draw(axis)
        _over_budgets(axis, lines, budget, norm)
        axis.set_title(f"PGD, {NORMS_IN_FIGURES[norm]}, {images}")
        if budget is not None and lines:
            values = [
                f"{glossary.defence(line.defence)} {line.shares[line.at(budget)].value:.0%}"
                for line in lines
            ]
            at_budget.append(f"{NORMS[norm]} {budget:g}: {', '.join(values)}.")
    axes[0][0].set_ylabel(_YLABEL)
    names = ", ".join(map(glossary.defence, records))
    shows = f"Robust accuracy under PGD against the budget, both norms, {images}: {names}."
    return finished(figure, " ".join([shows, *at_budget]))


def growing_eps(records: Sequence[Masking], norm: str) -> Figure:
    """Accuracy under PGD on doubling balls, to the one that holds every image; as Fig. 4."""
    figure, axes = panels(1, 1, 6.4, 3.6)
    axis, lines = axes[0][0], _grown(records, norm)
    budget = next((record.norms[norm].eps for record in records if norm in record.norms), None)
    _over_budgets(axis, lines, budget, norm)
    axis.set_ylabel("accuracy under PGD (%)")
    names = ", ".join(glossary.defence(line.defence) for line in lines)
    if not lines:
        say(axis, _NOTHING_RIGHT)
    shows = f"Accuracy under PGD on ever larger balls, {NORMS[norm]}, a line a network: "
    return finished(figure, f"{shows}{names or _NOTHING_RIGHT}.")


def accuracy_by_steps(records: Mapping[str, Sweep], steps: int | None = None) -> Figure:
    """Fig. 5: robust accuracy against iterations, PGD L-inf and C&W L2. defence -> record.

    ``steps``: Table 1's iterations, which are marked. Each panel says whether its attack has
    converged: what the most iterations still take.
    """
    figure, axes = panels(1, 2, 11, 4.2, sharey=True)
    images, said = swept_images(records.values()), []
    for axis, (method, norm) in zip(axes[0], (("pgd", "linf"), ("cw", "l2")), strict=True):
        lines, still = [], {}
        for defence, record in records.items():
            points = sorted((p for p in record.points if p.method == method), key=lambda p: p.steps)
            if points:
                shares = [point.robust_accuracy for point in points]
                lines.append(_Line(defence, [float(point.steps) for point in points], shares))
            if len(points) > 1:
                before, after = (from_bits(point.right) for point in points[-2:])
                still[defence] = int((before & ~after).sum()), points[-2].steps, points[-1].steps
        axis.set_xlabel("iterations")
        _draw(axis, lines, float(steps) if steps else None, "Table 1's iterations", at_end=True)
        if still:
            most, first, last = max(still.values())
            taken = f"{most} image{'s' if most > 1 else ''}"
            text = (
                f"not converged: {first} to {last} iterations still take up to {taken}"
                if most
                else f"converged: {first} to {last} iterations take no image more"
            )
            title = f"{METHODS[method].title}, {NORMS_IN_FIGURES[norm]}, {images}"
            axis.set_title(f"{title}\n{text}", fontsize=9)
            said.append(f"{METHODS[method].title} {text}")
    axes[0][0].set_ylabel(_YLABEL)
    names = ", ".join(map(glossary.defence, records))
    shows = "Robust accuracy against the iterations of PGD (L-inf) and of C&W (L2)"
    return finished(figure, f"{shows}, {images}: {names}. {'; '.join(said)}.")


def _grown(records: Sequence[Masking], norm: str) -> list[_Line]:
    lines = []
    for record in records:
        tests = record.norms[norm].tests if norm in record.norms else []
        for points in [test.numbers.points for test in tests if test.numbers.points]:
            shares = [point.robust_accuracy for point in points]
            lines.append(_Line(record.defence, [point.eps for point in points], shares))
    return lines


def _over_budgets(axis: Axes, lines: list[_Line], budget: float | None, norm: str) -> None:
    axis.set(xscale="log")
    axis.set_xlabel(f"budget eps, {NORMS_IN_FIGURES[norm]} (pixel units, log axis)")
    drawn = [float(x) for line in axis.lines for x in np.asarray(line.get_xdata(), dtype=float)]
    ticks = sorted({x for line in lines for x in line.xs} | set(drawn))
    _draw(axis, lines, budget, "budget", at_end=False)
    # The budget first; of the others those that do not stand on one already there.
    shown: list[float] = [] if budget is None else [budget]
    apart = 0.11 * np.log(max(ticks, default=1.0) / min(ticks, default=1.0))
    for tick in reversed(ticks):
        if all(abs(np.log(tick / other)) >= apart for other in shown):
            shown.append(tick)
    axis.set_xticks(sorted(shown), [f"{eps:.3g}" for eps in sorted(shown)], fontsize=8)
    axis.minorticks_off()


def _draw(axis: Axes, lines: list[_Line], marked: float | None, what: str, at_end: bool) -> None:
    """The lines, the marked place with intervals, and names in the place of a legend.

    ``at_end``: the names stand for the values at the right end, not for those that are marked.
    """
    for line in lines:
        line.draw(axis)
    # Weak networks would lie on one another under an empty panel; panels share this axis.
    highest = max((100 * share.high for line in lines for share in line.shares), default=100.0)
    axis.set_ylim(-2, max(axis.get_ylim()[1], min(104.0, 1.1 * highest)))
    if marked is not None:
        axis.axvline(marked, color="0.35", lw=0.9, ls="--", zorder=1)
        axis.annotate(
            what,
            (marked, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            color="0.35",
            fontsize=8,
            va="top",
        )
    axis.set_xlim(axis.get_xlim())
    words = []
    for number, line in enumerate(lines):
        point = line.at(marked)
        if marked is not None and abs(line.xs[point] - marked) <= 1e-6 * marked:
            # Side by side: intervals at one place would hide each other.
            _, right = axis.transData.inverted().transform(
                axis.transData.transform([(marked, 0)] * 2)
                + [[0, 0], [3 * (number - (len(lines) - 1) / 2), 0]]
            )[:, 0]
            whiskers(axis, right, line.shares[point], colour(line.defence), ms=3.5)
        named_at = len(line.xs) - 1 if at_end else point
        value = 100 * line.shares[named_at].value
        words.append((value, f"{named(line.defence)} {value:.0f}%", colour(line.defence)))
    if lines:
        start = max(line.xs[-1] for line in lines) if at_end or marked is None else marked
        direct_labels(axis, words, start)
