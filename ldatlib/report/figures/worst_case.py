"""What the search from larger balls, AutoAttack and everything else leaves."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ldatlib.report import glossary
from ldatlib.report.figures.look import bars, finished, legend_below, named, panels
from ldatlib.report.words import NORMS_IN_FIGURES

# From what the paper measures (grey) to everything that was run (dark): column, term, shade.
_SHADES = {
    "strongest": ("strongest", "#c9c9c9"),
    "table1_worst_case": ("table1_worst_case", "#8fbcd9"),
    "search": ("searched", "#0173b2"),
    "worst_case": ("all_worst_case", "#08304f"),
}


def scrutiny(frame: pd.DataFrame) -> Figure:
    """Accuracy left by Table 1's strongest attack, all of them, with the search, all attacks.

    ``frame``: ``tables.scrutiny``. A panel a norm; lines are 95% intervals.
    """
    frame = frame[frame.seed == frame.seed.min()]
    norms = list(dict.fromkeys(frame.norm))
    figure, axes = panels(len(norms), 1, 9, 3.1 * len(norms) + 0.4, sharex=True)
    for axis, norm in zip(axes[:, 0], norms, strict=True):
        of_norm = frame[frame.norm == norm]
        places = np.arange(len(of_norm))
        for index, (name, (title, shade)) in enumerate(_SHADES.items()):
            ends = np.array([of_norm[f"{name}_low"], of_norm[f"{name}_high"]])
            where = places + 0.2 * (index - 1.5)
            look = {"color": shade, "label": glossary.title(title)}
            bars(axis, where, of_norm[name], ends, 0.19, look)
        axis.set_xticks(places, [named(name) for name in of_norm.defence])
        axis.set(ylim=(0, 102), ylabel="accuracy (%), 95% interval")
        axis.set_title(f"{NORMS_IN_FIGURES[norm]}, {of_norm.images.iloc[0]} test images")
    legend_below(figure, axes[0][0])
    names = ", ".join(map(glossary.defence, dict.fromkeys(frame.defence)))
    shows = "Accuracy left by the strongest of Table 1's attacks, all of them, AutoAttack and all "
    return finished(figure, f"{shows}attacks: {names}.")
