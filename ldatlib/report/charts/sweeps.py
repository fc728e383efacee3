"""Fig. 4 and 5, alive: a point says its number, a click on the legend takes a defence away."""

from collections.abc import Callable, Mapping
from typing import Any

import altair as alt

from ldatlib.attacks import NORMS
from ldatlib.errors import UserError
from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report import glossary
from ldatlib.report.charts.look import Chart, data, defence_colours, drawn_up, finished
from ldatlib.report.words import NORMS as NORM_TITLES
from ldatlib.report.words import swept_images
from ldatlib.study.records import Sweep
from ldatlib.study.records.attacked import Point

_WIDTH, _HEIGHT = 330, 260


@drawn_up
def accuracy_by_eps(records: Mapping[str, Sweep]) -> Chart:
    """Fig. 4: robust accuracy against the budget of PGD, both norms. defence -> sweep record.

    Raises ``UserError`` for no records.
    """
    images = swept_images(records.values())
    panels = {norm: f"PGD, {NORM_TITLES[norm]}, {images}" for norm in NORMS}
    rows = _rows(records, lambda point: point.norm, lambda point: point.eps)
    shows = f"Robust accuracy under PGD against the budget, both norms, {images}"
    return _chart(rows, panels, "budget (pixel units)", shows, list(records))


@drawn_up
def accuracy_by_steps(records: Mapping[str, Sweep]) -> Chart:
    """Fig. 5: robust accuracy against iterations, PGD L-inf and C&W L2. defence -> record.

    Raises ``UserError`` for no records.
    """
    images, shown = swept_images(records.values()), (("pgd", "linf"), ("cw", "l2"))
    panels = {
        method: f"{METHODS[method].title}, {NORM_TITLES[norm]}, {images}" for method, norm in shown
    }
    rows = _rows(records, lambda point: point.method, lambda point: point.steps)
    shows = f"Robust accuracy against the iterations of PGD (L-inf) and of C&W (L2), {images}"
    return _chart(rows, panels, "iterations", shows, list(records))


def _rows(
    records: Mapping[str, Sweep], panel: Callable[[Point], str], x: Callable[[Point], float]
) -> list[dict[str, Any]]:
    if not records:
        raise UserError("no sweeps to draw; compute them with run.records")
    return [
        {
            "panel": panel(point),
            "defence": glossary.defence(name),
            "x": x(point),
            "value": round(100 * point.robust_accuracy.value, 2),
            "low": round(100 * point.robust_accuracy.low, 2),
            "high": round(100 * point.robust_accuracy.high, 2),
        }
        for name, record in records.items()
        for point in record.points
    ]


def _chart(
    rows: list[dict[str, Any]], panels: dict[str, str], title: str, shows: str, defences: list[str]
) -> Chart:
    chosen = alt.selection_point(name="chosen", fields=["defence"], bind="legend")
    legend = alt.Legend(
        title="a click takes the others away", titleLimit=300, columns=4, orient="top"
    )
    shade = alt.Color("defence:N", scale=defence_colours(defences), legend=legend)
    faded = alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.08))
    tips = [
        alt.Tooltip("defence:N"),
        alt.Tooltip("x:Q", title=title),
        alt.Tooltip("value:Q", title="robust accuracy (%)", format=".1f"),
        alt.Tooltip("low:Q", title="95% from", format=".1f"),
        alt.Tooltip("high:Q", title="95% to", format=".1f"),
    ]
    y = alt.Y("value:Q", title="robust accuracy (%)", scale=alt.Scale(domain=[0, 100]))
    drawn: list[Chart] = []
    for key, name in panels.items():
        base = alt.Chart(data("points")).transform_filter(alt.datum.panel == key)
        far = max((row["x"] for row in rows if row["panel"] == key), default=1)
        # The first label is moved inwards: with more of them it touches the second.
        few = alt.Axis(tickCount=6)
        x = alt.X("x:Q", title=title, scale=alt.Scale(domain=[0, far], nice=False), axis=few)
        base = base.encode(x=x, color=shade, opacity=faded)
        lines = base.mark_line(strokeWidth=2).encode(y=y)
        # Intervals of all defences at once hide the lines: one is drawn where it is asked for.
        near = alt.selection_point(
            name=f"near_{key}", on="pointerover", nearest=True, empty=False, fields=["defence", "x"]
        )
        ends = base.transform_filter(near).mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q")
        # The legend is that of the first layer: it has the choice, and all follow it.
        asked = [near] if drawn else [near, chosen]
        dots = base.mark_circle(size=45).encode(y=y, tooltip=tips).add_params(*asked)
        panel = alt.layer(dots, ends, lines).properties(width=_WIDTH, height=_HEIGHT, title=name)
        drawn.append(panel)
    chart = alt.hconcat(*drawn, spacing=24)
    return finished(chart, f"{shows}: {', '.join(map(glossary.defence, defences))}.", points=rows)
