"""One look for all figures; colours follow the defence through all of them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from ldatlib.files import path_of, write_bytes
from ldatlib.report import fonts, glossary
from ldatlib.report.escape import class_key, in_figure
from ldatlib.report.page import DESCRIPTION
from ldatlib.study.records import Share

# Colour-blind safe; the undefended network recedes, LDAT stands out.
_COLOURS = {
    "natural": "#999999",
    "standard": "#0173b2",
    "l2_at": "#029e73",
    "l2_at_wide": "#75c9a8",
    "trades": "#de8f05",
    "mart": "#cc78bc",
    "lbgat": "#ca9161",
    "ldat": "#d62728",
    "ldat_chosen": "#7f2704",
}
_ANY_OTHER = "#56b4e9"
_STYLE = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
# To LaTeX far more characters mean something than names are escaped for.
_STYLE |= {"text.usetex": False}


def style() -> None:
    """The look; called by the notebooks' first cell."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.8, rc=_STYLE)
    # A dollar sign in a table is one.
    pd.set_option("display.html.use_mathjax", False)


def colour(defence: str) -> str:
    """The colour of a defence; one for all that are not of the paper."""
    return _COLOURS.get(defence, _ANY_OTHER)


def named(defence: str) -> str:
    """The title of a defence for a text of a figure."""
    return in_figure(glossary.defence(defence))


def finished(figure: Figure, shows: str, classes: Sequence[str] = ()) -> Figure:
    """The figure with a font for each of its texts, and with what it ``shows`` in words.

    The last line of every figure's function; ``classes``: the names of those that it labels.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if more := fonts.fallback(text.get_text()):
            text.set_fontfamily([*text.get_fontfamily(), *more])
    key = class_key(classes)
    figure.set_label(f"{shows} Classes: {key}." if key else shows)
    return figure


def caption(figure: Figure) -> str:
    """What a figure shows, in words: for those who cannot see it, and with the key to numbers."""
    return str(figure.get_label())


def save(figure: Figure, folder: Path, name: str) -> None:
    """``NAME.png`` and ``NAME.pdf``, free of dates so that the same figure gives the same file.

    Both carry the ``caption``.
    """
    folder, said = path_of(folder), caption(figure)
    kinds: dict[str, dict[str, Any]] = {
        "png": {"dpi": 150, "metadata": {"Software": None, DESCRIPTION: said}},
        "pdf": {"metadata": {"CreationDate": None, "Producer": None, "Subject": said}},
    }
    for kind, options in kinds.items():
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, **options)
        # The report takes what it finds: a picture is whole, or not there.
        write_bytes(folder / f"{name}.{kind}", drawn.getvalue())


def panels(
    rows: int, columns: int, width: float, height: float, **more: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of ``width`` x ``height`` inches and its axes [rows, columns]."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def say(axis: Axes, text: str) -> None:
    """A line in a panel, such as why something is not there."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=8)


def legend_below(figure: Figure, axis: Axes, columns: int | None = None) -> None:
    """One legend for all panels, from the entries of one of them."""
    handles, labels = axis.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns or len(labels))


def bars(
    axis: Axes,
    places: np.ndarray,
    values: np.ndarray | pd.Series,
    ends: np.ndarray,
    width: float,
    more: Mapping[str, Any],
    line: float = 0.7,
) -> None:
    """Bars with intervals; ``ends`` [2, N]: lower and upper."""
    error = {"yerr": np.abs(ends - np.asarray(values)), "error_kw": {"lw": line, "ecolor": "0.3"}}
    axis.bar(places, values, width, **error, **more)


def whiskers(axis: Axes, x: float, share: Share, shade: str, **more: Any) -> None:
    """A dot at a share, in percent, with its 95% interval."""
    value = 100 * share.value
    ends = [[value - 100 * share.low], [100 * share.high - value]]
    look: dict[str, Any] = {"fmt": "o", "ms": 5, "lw": 1.2, "capsize": 2, "zorder": 4} | more
    axis.errorbar([x], [value], yerr=ends, color=shade, **look)


def direct_labels(axis: Axes, entries: Sequence[tuple[float, str, str]], start: float) -> None:
    """Words right of a panel in the place of a legend, none on another.

    ``entries``: height in the data's units, text, colour. A thin line leads from each height at
    ``start`` on the horizontal axis, in the data's units, to its words.
    """
    if not entries:
        return
    low, high = axis.get_ylim()
    right = axis.get_xlim()[1]
    gap = 0.068 * (high - low)
    ordered = sorted(entries)
    for (at, text, shade), place in zip(
        ordered, spread([entry[0] for entry in ordered], gap, low, high), strict=True
    ):
        axis.annotate(
            text,
            (start, at),
            xytext=(1.02, (place - low) / (high - low)),
            textcoords="axes fraction",
            color=shade,
            va="center",
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "lw": 0.5, "alpha": 0.6, "shrinkB": 0}
            if start < right
            else None,
        )


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending heights moved as little as keeps them ``gap`` apart, between ``low`` and ``high``.

    Where they do not fit they share the room evenly.
    """
    count = len(heights)
    if (count - 1) * gap >= high - low:
        return list(np.linspace(low, high, count))
    # Groups that touch move as one: their mean place, the way isotonic regression pools.
    groups: list[tuple[float, int]] = []
    for number, height in enumerate(heights):
        wanted, size = height - gap * number, 1
        while groups and groups[-1][0] >= wanted:
            before, several = groups.pop()
            wanted, size = (before * several + wanted * size) / (several + size), several + size
        groups.append((wanted, size))
    level = [wanted for wanted, size in groups for _ in range(size)]
    level = [min(max(wanted, low), high - gap * (count - 1)) for wanted in level]
    return [wanted + gap * number for number, wanted in enumerate(level)]
