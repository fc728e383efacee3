"""One look for all charts: that of the figures, in Vega-Lite."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeAlias

import altair as alt
from altair.utils.schemapi import debug_mode

from ldatlib.report import glossary
from ldatlib.report.figures.look import colour

Chart: TypeAlias = (
    alt.Chart
    | alt.LayerChart
    | alt.ConcatChart
    | alt.HConcatChart
    | alt.VConcatChart
    | alt.FacetChart
)
Rows: TypeAlias = Sequence[dict[str, Any]]

P = ParamSpec("P")

INK, GREY, GRID = "#222222", "#767676", "#e6e6e6"


def drawn_up(function: Callable[P, Chart]) -> Callable[P, Chart]:
    """Altair checks what a chart function gives once, when it is written, not at every step."""

    @wraps(function)
    def unchecked(*arguments: P.args, **options: P.kwargs) -> Chart:
        with debug_mode(False):
            return function(*arguments, **options)

    return unchecked


class _Held:
    """Rows that Altair passes on as they are; it would look at every number, for seconds."""

    # What makes it one of Altair's own ("SchemaLike").
    _schema: ClassVar[dict[str, Any]] = {"type": "array"}

    def __init__(self, rows: Rows):
        self.rows = list(rows)

    def to_dict(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return self.rows


def data(name: str) -> alt.NamedData:
    """The rows that ``finished`` gives the chart under this name."""
    return alt.NamedData(name=name)


def finished(chart: Chart, said: str, whole: bool = False, **rows: Rows) -> Chart:
    """The chart with its data, the common look, and what it shows in words (``caption``).

    The last line of every chart's function; ``rows``: by the name that ``data`` was given. On a
    narrow screen panels are put below each other and made narrower; a ``whole`` chart, whose marks
    have sizes of their own, becomes smaller as a picture does.
    """
    chart = chart.properties(usermeta={"caption": said, "whole": whole}, padding=6)
    chart = chart.configure(font="system-ui, sans-serif", background="#ffffff")
    chart = chart.configure_view(stroke=None)
    axis: dict[str, Any] = {"labelColor": INK, "titleColor": INK, "domainColor": INK}
    axis |= {"tickColor": INK, "grid": False, "titleFontWeight": "normal"}
    chart = chart.configure_axis(labelFontSize=11, titleFontSize=12, **axis)
    chart = chart.configure_title(anchor="start", fontSize=12, fontWeight="normal", color=INK)
    chart = chart.configure_legend(labelFontSize=11, titleFontSize=11, labelLimit=220, orient="top")
    chart.datasets = {name: _Held(of_name) for name, of_name in rows.items()}
    return chart


def caption(chart: Chart) -> str:
    """What a chart shows, in words: for those who cannot see it."""
    return str(chart.usermeta["caption"])


def menu(name: str, label: str, choices: Sequence[tuple[str, str]], first: str) -> alt.Parameter:
    """A choice in the page; ``choices``: (value, title)."""
    values, titles = [value for value, _ in choices], [title for _, title in choices]
    bind = alt.binding_select(options=values, labels=titles, name=f"{label} ")
    return alt.param(name=name, value=first, bind=bind)


def defence_colours(defences: Iterable[str]) -> alt.Scale:
    """Title of each defence -> the colour that it has in every figure."""
    names = list(defences)
    return alt.Scale(domain=list(map(glossary.defence, names)), range=list(map(colour, names)))
