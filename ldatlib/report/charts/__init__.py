"""Charts that are alive in a plain page, without Python: Vega-Lite, made by Altair.

Functions take records and files of a run, and return an Altair chart, whose colours and words are
those of the static figures; ``html`` makes a page of charts; for a page of one's own ``script``
stands in it once, ``STYLE`` in its head, and an ``element`` where a chart belongs.
"""

from ldatlib.report.charts.explorer import explorer
from ldatlib.report.charts.features import tsne
from ldatlib.report.charts.gallery import gallery
from ldatlib.report.charts.look import Chart, caption
from ldatlib.report.charts.page import STYLE, element, html, script
from ldatlib.report.charts.plane import figure_3, toy_trajectories
from ldatlib.report.charts.sweeps import accuracy_by_eps, accuracy_by_steps

__all__ = [
    "STYLE",
    "Chart",
    "accuracy_by_eps",
    "accuracy_by_steps",
    "caption",
    "element",
    "explorer",
    "figure_3",
    "gallery",
    "html",
    "script",
    "toy_trajectories",
    "tsne",
]
