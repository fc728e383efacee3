"""Fig. 3, alive: gamma and K of Algorithm 1 to choose, from walks computed beforehand."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import torch

from ldatlib.attacks import boundary_attack
from ldatlib.errors import UserError
from ldatlib.report.charts.look import GREY, INK, Chart, data, drawn_up, finished

GAMMAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
STEPS = 20
# A point is one of an attack, the start, or of the line that is the boundary.
_WIDTH = 330
_START, _ALGORITHM = "#2ca02c", "#d62728"


def walks(
    weight: np.ndarray,
    bias: float,
    start: np.ndarray,
    gammas: Sequence[float] = GAMMAS,
    num_steps: int = STEPS,
) -> dict[float, np.ndarray]:
    """gamma -> the points [K + 1, 2] of Algorithm 1 around ``w x + b = 0``, from ``start`` on.

    The classifier is linear, ``x`` of the class on the positive side.

    Raises ``UserError`` as ``boundary_attack``.
    """
    classifier = torch.nn.Linear(2, 2, dtype=torch.float64)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor(np.stack([-weight / 2, weight / 2])))
        classifier.bias.copy_(torch.tensor([-bias / 2, bias / 2]))
    x, y = torch.tensor(start[None], dtype=torch.float64), torch.tensor([1])
    found = {}
    for gamma in gammas:
        # Deterministic without a random start: the k-th point is what k steps return.
        steps = [
            boundary_attack(classifier, x, y, num_steps=k, gamma=gamma)
            for k in range(1, num_steps + 1)
        ]
        found[gamma] = torch.cat([x, *steps]).numpy()
    return found


@drawn_up
def toy_trajectories(
    weight: np.ndarray,
    bias: float,
    start: np.ndarray,
    paths: Mapping[float, np.ndarray],
    gamma: float = 0.2,
    num_steps: int = 10,
) -> Chart:
    """Fig. 3: the walk of Algorithm 1 around a linear boundary, and its distance over the steps.

    Parameters
    ----------
    weight, bias : of the boundary ``w x + b = 0``; ``start`` [2]: the point that is attacked.
    paths : gamma -> points [K + 1, 2], see ``walks``.
    gamma, num_steps : what is shown first.

    Raises ``UserError`` for no walks, or a gamma or K that they lack.
    """
    if gamma not in paths or not 1 <= num_steps < len(paths[gamma]):
        known = ", ".join(f"{known:g}" for known in paths)
        raise UserError(f"no walk of {num_steps} steps with gamma {gamma}; gamma known: {known}")
    length = float(np.linalg.norm(weight))
    distance = float(weight @ start + bias) / length
    rows = [
        {
            "gamma": chosen,
            "k": k,
            "x1": round(float(point[0]), 4),
            "x2": round(float(point[1]), 4),
            "signed": round(float(point @ weight + bias) / length, 4),
        }
        for chosen, path in paths.items()
        for k, point in enumerate(path)
    ]
    last = max(len(path) for path in paths.values()) - 1
    chosen = alt.param(
        name="gamma", value=gamma, bind=alt.binding_select(options=list(paths), name="gamma ")
    )
    slider = alt.binding_range(min=1, max=last, step=1, name="K ")
    steps = alt.param(name="steps", value=num_steps, bind=slider)
    edges = _edges(weight, bias, start, rows)
    shown = alt.Chart(data("walk")).transform_filter("datum.gamma == gamma && datum.k <= steps")
    plane = _plane(weight, distance, edges, shown)
    over = _over_steps(distance, shown)
    chart = alt.hconcat(plane, over, spacing=24).add_params(chosen, steps)
    shows = "The walk of Algorithm 1 around the boundary of a linear classifier, and its signed "
    shows += "distance to it over the steps; gamma and the number of steps are chosen."
    return finished(chart, shows, walk=rows, boundary=edges, nowhere=[{}])


def _edges(
    weight: np.ndarray, bias: float, start: np.ndarray, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, float]]:
    """The two ends of the boundary, as far as the walks and a unit beyond."""
    length = np.linalg.norm(weight)
    foot = start - (weight @ start + bias) / length**2 * weight
    along = np.array([-weight[1], weight[0]]) / length
    return [dict(zip(("x1", "x2"), (foot + t * along).tolist(), strict=True)) for t in (-1.6, 1.6)]


def _plane(
    weight: np.ndarray, distance: float, edges: list[dict[str, float]], shown: alt.Chart
) -> Chart:
    """Boundary, band B (dashed: where one factor decides the side), walk and start."""
    length = float(np.linalg.norm(weight))
    x = alt.X("x1:Q", title="x1", scale=alt.Scale(zero=False))
    y = alt.Y("x2:Q", title="x2", scale=alt.Scale(zero=False))
    line = alt.Chart(data("boundary"))
    layers = [line.mark_line(color=INK, strokeWidth=2).encode(x, y)]
    for sign in ("+", "-"):
        moved = line.transform_calculate(
            a=f"datum.x1 {sign} gamma * {distance * weight[0] / length}",
            b=f"datum.x2 {sign} gamma * {distance * weight[1] / length}",
        )
        dashed = moved.mark_line(color=GREY, strokeDash=[4, 3])
        layers.append(dashed.encode(alt.X("a:Q"), alt.Y("b:Q")))
    tips = [alt.Tooltip("k:Q", title="step"), alt.Tooltip("signed:Q", title="distance")]
    walk = shown.mark_line(color=_ALGORITHM, point={"color": _ALGORITHM, "size": 34})
    layers.append(walk.encode(x, y, order="k:Q", tooltip=tips))
    first = shown.transform_filter("datum.k == 0").mark_circle(color=_START, size=120, opacity=1)
    layers.append(first.encode(x, y))
    return alt.layer(*layers).properties(width=_WIDTH, height=_WIDTH, title="the plane")


def _over_steps(distance: float, shown: alt.Chart) -> Chart:
    band = alt.Chart(data("nowhere")).transform_calculate(
        low=f"-gamma * {distance}", high=f"gamma * {distance}"
    )
    grey = band.mark_rect(color=GREY, opacity=0.2).encode(y="low:Q", y2="high:Q")
    zero = band.transform_calculate(zero="0").mark_rule(color=INK, strokeWidth=2)
    zero = zero.encode(y="zero:Q")
    tips = [alt.Tooltip("k:Q", title="step"), alt.Tooltip("signed:Q", title="distance")]
    walk = shown.mark_line(color=_ALGORITHM, point={"color": _ALGORITHM, "size": 34})
    walk = walk.encode(
        x=alt.X("k:Q", title="step", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("signed:Q", title="signed distance to the boundary (below 0: misclassified)"),
        tooltip=tips,
    )
    layers = alt.layer(grey, zero, walk)
    return layers.properties(width=_WIDTH, height=_WIDTH, title="distance over the steps")
