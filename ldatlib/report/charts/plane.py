"""Fig. 3, alive: the attack, gamma and K to choose, from walks computed beforehand."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from ldatlib.errors import UserError
from ldatlib.report import trajectories
from ldatlib.report.charts.look import GREY, INK, Chart, data, drawn_up, finished, menu
from ldatlib.report.trajectories import ALGORITHM_1

GAMMAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
STEPS = 20
_WIDTH = 330
_START, _WALK = "#2ca02c", "#d62728"
# Of the circle around the start that is the ball.
_CORNERS = 120


def figure_3(gammas: Sequence[float] = GAMMAS, num_steps: int = STEPS) -> Chart:
    """Fig. 3 with the classifier, point and ball of notebook 01: Algorithm 1, PGD, friendly PGD.

    ``gammas`` and all K up to ``num_steps`` can be chosen. Raises ``UserError`` as
    ``toy_trajectories``.
    """
    where = (trajectories.WEIGHT, trajectories.BIAS, trajectories.START)
    paths = {
        gamma: trajectories.algorithm_1(*where, num_steps=num_steps, gamma=gamma)
        for gamma in gammas
    }
    walked = trajectories.pgd_walk(*where, num_steps=num_steps)
    others = {
        trajectories.PGD: walked,
        trajectories.FRIENDLY: trajectories.friendly(walked, *where[:2]),
    }
    return toy_trajectories(*where, paths, others, trajectories.EPS)


@drawn_up
def toy_trajectories(
    weight: np.ndarray,
    bias: float,
    start: np.ndarray,
    paths: Mapping[float, np.ndarray],
    others: Mapping[str, np.ndarray] | None = None,
    eps: float | None = None,
    gamma: float = 0.2,
    num_steps: int = 10,
) -> Chart:
    """Fig. 3: the walk of an attack around a linear boundary, and its distance over the steps.

    Parameters
    ----------
    weight, bias : of the boundary ``w x + b = 0``; ``start`` [2]: the point that is attacked.
    paths : gamma -> points [K + 1, 2] of Algorithm 1, the start first.
    others : title -> points [K + 1, 2] of attacks without a gamma, chosen beside Algorithm 1.
    eps : radius of their L2 ball around the start, drawn with them.
    gamma, num_steps : what is shown first, with Algorithm 1.

    Raises ``UserError`` for no walks, or a gamma or K that they lack.
    """
    if gamma not in paths or not 1 <= num_steps < len(paths[gamma]):
        known = ", ".join(f"{known:g}" for known in paths)
        raise UserError(f"no walk of {num_steps} steps with gamma {gamma}; gamma known: {known}")
    others = others or {}
    away = float(trajectories.distance(start, weight, bias))
    # Without a gamma a walk is that of every gamma: the choice moves the band alone.
    walked: list[tuple[str, float | None, np.ndarray]]
    walked = [(ALGORITHM_1, chosen, path) for chosen, path in paths.items()]
    walked += [(title, None, path) for title, path in others.items()]
    rows = [
        row for title, chosen, path in walked for row in _points(title, chosen, path, weight, bias)
    ]
    last = max(len(path) for path in paths.values()) - 1
    parameters = [
        menu("attack", "attack", [(title, title) for title in (ALGORITHM_1, *others)], ALGORITHM_1),
        alt.param(
            name="gamma",
            value=gamma,
            bind=alt.binding_select(options=list(paths), name="gamma (Algorithm 1, band B) "),
        ),
        alt.param(
            name="steps",
            value=num_steps,
            bind=alt.binding_range(min=1, max=last, step=1, name="K "),
        ),
    ]
    shown = alt.Chart(data("walk")).transform_filter(
        "datum.attack == attack && (!isValid(datum.gamma) || datum.gamma == gamma)"
        " && datum.k <= steps"
    )
    edges = _edges(weight, start, away)
    ball = _ball(start, eps, list(others))
    plane = _plane(weight, away, rows, edges, shown)
    over = _over_steps(away, max(paths), rows, shown)
    chart = alt.hconcat(plane, over, spacing=24).add_params(*parameters)
    return finished(chart, _said(others, eps), walk=rows, boundary=edges, ball=ball, nowhere=[{}])


def _said(others: Mapping[str, np.ndarray], eps: float | None) -> str:
    titles = [ALGORITHM_1, *others]
    choice = f" of {', '.join(titles[:-1])} or {titles[-1]}" if others else f" of {ALGORITHM_1}"
    ball = f" The dotted circle is the L2 ball of {' and '.join(others)}." if others and eps else ""
    chosen = "The attack, gamma" if others else "Gamma"
    return (
        f"The walk{choice} (red) from an image x (green) around the boundary of a linear "
        "classifier (solid), and its signed distance to it over the steps, below 0 where "
        "misclassified. Dashed and grey: the band B, in which one factor 1 + gamma or 1 - gamma "
        f"of Algorithm 1 decides the side.{ball} {chosen} and the number of steps K are chosen."
    )


def _points(
    title: str, gamma: float | None, path: np.ndarray, weight: np.ndarray, bias: float
) -> list[dict[str, Any]]:
    """A row a point of a walk."""
    signed = trajectories.distance(path, weight, bias)
    return [
        {
            "attack": title,
            "gamma": gamma,
            "k": k,
            "x1": round(float(point[0]), 4),
            "x2": round(float(point[1]), 4),
            "signed": round(float(signed[k]), 4),
        }
        for k, point in enumerate(path)
    ]


def _edges(weight: np.ndarray, start: np.ndarray, away: float) -> list[dict[str, float]]:
    """The two ends of the boundary, as far as the walks and a unit beyond."""
    length = np.linalg.norm(weight)
    foot = start - away * weight / length
    along = np.array([-weight[1], weight[0]]) / length
    return [dict(zip(("x1", "x2"), (foot + t * along).tolist(), strict=True)) for t in (-1.6, 1.6)]


def _ball(start: np.ndarray, eps: float | None, titles: Sequence[str]) -> list[dict[str, Any]]:
    """The rim of the ball, point by point, for each attack that has one."""
    if eps is None:
        return []
    turns = [2 * math.pi * corner / _CORNERS for corner in range(_CORNERS + 1)]
    rim = [(start[0] + eps * math.cos(t), start[1] + eps * math.sin(t)) for t in turns]
    return [
        {"attack": title, "corner": corner, "x1": round(float(a), 4), "x2": round(float(b), 4)}
        for title in titles
        for corner, (a, b) in enumerate(rim)
    ]


def _plane(
    weight: np.ndarray,
    away: float,
    rows: Sequence[Mapping[str, Any]],
    edges: Sequence[Mapping[str, float]],
    shown: alt.Chart,
) -> Chart:
    """Boundary, band B (dashed: where one factor decides the side), ball, walk and start."""
    places = np.array([[row["x1"], row["x2"]] for row in [*rows, *edges]])
    length = float(np.linalg.norm(weight))
    # One unit is as long in both directions.
    low, high = places.min(0), places.max(0)
    half = float((high - low).max()) / 2 + 0.3
    ends = [(float(middle) - half, float(middle) + half) for middle in (low + high) / 2]
    x = alt.X("x1:Q", title="x1", scale=alt.Scale(domain=list(ends[0]), nice=False))
    y = alt.Y("x2:Q", title="x2", scale=alt.Scale(domain=list(ends[1]), nice=False))
    line = alt.Chart(data("boundary"))
    layers: list[Chart] = [line.mark_line(color=INK, strokeWidth=2, clip=True).encode(x, y)]
    for sign in ("+", "-"):
        moved = line.transform_calculate(
            a=f"datum.x1 {sign} gamma * {away * weight[0] / length}",
            b=f"datum.x2 {sign} gamma * {away * weight[1] / length}",
        )
        dashed = moved.mark_line(color=GREY, strokeDash=[4, 3], clip=True)
        layers.append(dashed.encode(alt.X("a:Q"), alt.Y("b:Q")))
    rim = alt.Chart(data("ball")).transform_filter("datum.attack == attack")
    dotted = rim.mark_line(color=GREY, strokeDash=[1, 3], strokeWidth=1.5, clip=True)
    layers.append(dotted.encode(x, y, order="corner:Q"))
    layers.append(_walk(shown).encode(x, y, order="k:Q"))
    first = shown.transform_filter("datum.k == 0").mark_circle(color=_START, size=120, opacity=1)
    layers.append(first.encode(x, y, tooltip=_tips()))
    layers.append(_title(shown, "datum.attack + ' in the plane'"))
    return alt.layer(*layers).properties(width=_WIDTH, height=_WIDTH)


def _over_steps(
    away: float, widest: float, rows: Sequence[Mapping[str, Any]], shown: alt.Chart
) -> Chart:
    """Signed distance over the steps; one axis for all attacks, so that they compare."""
    reached = [row["signed"] for row in rows] + [-widest * away, widest * away]
    scale = alt.Scale(domain=[min(reached) - 0.1, max(reached) + 0.1], nice=False)
    band = alt.Chart(data("nowhere")).transform_calculate(
        low=f"-gamma * {away}", high=f"gamma * {away}"
    )
    grey = band.mark_rect(color=GREY, opacity=0.2).encode(
        y=alt.Y("low:Q", scale=scale), y2="high:Q"
    )
    zero = band.transform_calculate(zero="0").mark_rule(color=INK, strokeWidth=2)
    zero = zero.encode(y="zero:Q")
    # As long for an attack that stops early as for one that does not.
    steps = alt.Scale(domainMin=0, domainMax=alt.ExprRef("steps"), nice=False)
    walk = _walk(shown).encode(
        x=alt.X("k:Q", title="step", scale=steps, axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("signed:Q", title="signed distance to the boundary (below 0: misclassified)"),
    )
    ends = (
        "'after step ' + datum.k + ': ' + format(abs(datum.signed), '.2f') + "
        "(datum.signed < 0 ? ' behind' : ' before') + ' the boundary'"
    )
    layers = alt.layer(grey, zero, walk, _title(shown, ends))
    return layers.properties(width=_WIDTH, height=_WIDTH)


def _walk(shown: alt.Chart) -> alt.Chart:
    walk = shown.mark_line(color=_WALK, point={"color": _WALK, "size": 34})
    return walk.encode(tooltip=_tips())


def _tips() -> list[alt.Tooltip]:
    return [alt.Tooltip("k:Q", title="step"), alt.Tooltip("signed:Q", title="distance")]


def _title(shown: alt.Chart, words: str) -> alt.Chart:
    """Above a panel: ``words``, an expression of the last point that is shown."""
    last = shown.transform_joinaggregate(last="max(k)").transform_filter("datum.k == datum.last")
    title = last.transform_calculate(words=words)
    title = title.mark_text(align="left", baseline="bottom", color=INK, fontSize=12)
    return title.encode(x=alt.value(0), y=alt.value(-6), text="words:N")
