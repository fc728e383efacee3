"""One look for all figures; colours follow the defence through all of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def style() -> None:
    """The look; called by the notebooks' first cell."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.8, rc=_STYLE)


def colour(defence: str) -> str:
    """The colour of a defence; one for all that are not of the paper."""
    return _COLOURS.get(defence, _ANY_OTHER)


def save(figure: Figure, folder: Path, name: str) -> None:
    """``NAME.png`` and ``NAME.pdf``, free of dates so that the same figure gives the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Producer": None})


def panels(
    rows: int, columns: int, width: float, height: float, **more: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of ``width`` x ``height`` inches and its axes [rows, columns]."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def legend_below(figure: Figure, axis: Axes, columns: int | None = None) -> None:
    """One legend for all panels, from the entries of one of them."""
    handles, labels = axis.get_legend_handles_labels()
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
