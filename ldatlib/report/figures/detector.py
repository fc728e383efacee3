"""The detector: Fig. 8, Fig. 9, what the widget shows at one threshold, the adaptive attack.

Blue is right, orange is wrong, grey is clean validation images, through all of them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ldatlib.evaluation import detection
from ldatlib.report import detector, glossary
from ldatlib.report.figures.look import bars, finished, legend_below, named, panels, say
from ldatlib.report.words import (
    NO_THRESHOLD,
    NORMS_IN_FIGURES,
    NOT_FROZEN,
    THRESHOLDS,
    set_title,
)
from ldatlib.study.records import Detection

RIGHT, WRONG, VALIDATION, CUT = "#0173b2", "#d55e00", "#b0b0b0", "#222222"
ORDINARY, ADAPTIVE = "#8fbcd9", "#d55e00"
FIG8_SETS = ("clean", "linf_pgd", "linf_fab", "l2_pgd", "l2_cw", "l2_fab")
_BARS = ("#c9c9c9", "#949494", "#56b4e9", "#0173b2")


def _limits(record: Detection, score: str, names: list[str]) -> tuple[float, float]:
    if score == "posterior":
        return 0.0, 1.0
    values = np.concatenate([detector.scored(record, score, name)[0] for name in names])
    low, high = np.quantile(values, [0.002, 0.998])
    margin = 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _stacked(axis: Axes, scores: Tensor, right: Tensor, low: float, high: float, bins: int) -> None:
    """Percent of the set per bin, wrong images stacked on right ones."""
    edges = np.linspace(low, high, bins + 1)
    counted = detection.histogram(scores, right, low, high, bins)
    shares = [100 * part.numpy() / len(scores) for part in counted]
    both: dict[str, Any] = {"width": np.diff(edges), "align": "edge", "lw": 0}
    axis.bar(edges[:-1], shares[0], color=RIGHT, label="right", **both)
    axis.bar(edges[:-1], shares[1], bottom=shares[0], color=WRONG, label="wrong", **both)


def likelihood_histograms(record: Detection, bins: int = 30) -> Figure:
    """Fig. 8: posterior (as the paper) and log-likelihood of natural and adversarial images.

    Orange: the network is wrong, so the attack succeeded (or, in the first panel, no attack was
    needed); blue: it is right. Raises ``UserError`` for a model without a likelihood.
    """
    names = [name for name in FIG8_SETS if name in detector.attacked_sets(record)]
    for score in detection.SCORES:
        detector.scored(record, score, "clean")
    rows, share = len(detection.SCORES), {"sharex": "row", "sharey": "row"}
    figure, axes = panels(rows, len(names), 2.15 * len(names), 4.9, **share)
    for row, score in zip(axes, detection.SCORES, strict=True):
        low, high = _limits(record, score, names)
        for axis, name in zip(row, names, strict=True):
            scores, right = detector.scored(record, score, name)
            _stacked(axis, scores, right, low, high, bins)
            fooled = float((~right).double().mean())
            axis.set_title(f"{set_title(name)}\n{fooled:.0%} wrong", fontsize=9)
            axis.set(xlim=(low, high), xlabel=glossary.title(score))
            axis.xaxis.label.set_size(8)
        row[0].set_ylabel("images (%)")
    legend_below(figure, axes[0][0])
    about = f"{record.images} test images; wrong = the attack succeeded"
    figure.suptitle(f"{named(record.defence)}, {about}")
    sets = ", ".join(map(set_title, names))
    shows = f"Histograms of posterior and log-likelihood, right and wrong images apart: {sets}. "
    return finished(figure, f"{shows}{glossary.defence(record.defence)}, {about}.")


def defence_success(records: Mapping[str, Detection]) -> Figure:
    """Fig. 9: (rejected and wrong + accepted and right) / N, a panel per defence and score."""
    shown = [(name, score) for name, record in records.items() for score in record.scores]
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = panels(rows, columns, 6 * columns, 2.5 * rows + 0.5, sharey=True)
    axes = list(grid.flat)
    for axis, (defence, score) in zip(axes, shown, strict=False):
        _success_panel(axis, records[defence], score)
        axis.set_title(f"{named(defence)}: {glossary.title(score)}", fontsize=9)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    legend_below(figure, max(axes, key=lambda axis: len(axis.get_legend_handles_labels()[1])))
    names = ", ".join(map(glossary.defence, records))
    return finished(
        figure, f"Defence success by attack and threshold, a panel a score of: {names}."
    )


def _success_panel(axis: Axes, record: Detection, score: str) -> None:
    names = detector.attacked_sets(record)
    thresholds = detector.thresholds(record, score)
    slots = (NO_THRESHOLD, *THRESHOLDS.values())
    for index, (slot, fill) in enumerate(zip(slots, _BARS, strict=True)):
        if slot not in thresholds:
            continue
        found = detector.outcomes(record, score, thresholds[slot])
        shares = [found[name].defence_success for name in names]
        values = np.array([100 * share.value for share in shares])
        ends = np.array([[100 * s.low for s in shares], [100 * s.high for s in shares]])
        where = np.arange(len(names)) + 0.21 * (index - 1.5)
        bars(axis, where, values, ends, 0.2, {"color": fill, "label": slot}, line=0.6)
    titles = [set_title(name).replace(" ", "\n", 1) for name in names]
    axis.set_xticks(range(len(names)), titles, fontsize=6)
    axis.set(ylim=(0, 102))
    axis.set_ylabel(f"{glossary.title('defence_success')} (%)", fontsize=8)
    if detector.frozen_threshold(record, score) is None:
        say(axis, f"frozen: {NOT_FROZEN}")


def threshold_static(record: Detection, score: str, attack: str, threshold: float) -> Figure:
    """What the widget shows, at one threshold: histogram with the cut, ROC with its point.

    Raises ``UserError`` where the record lacks the score or the set, or for a threshold outside
    the score's range.
    """
    detector.check_threshold(record, score, threshold)
    scores, right = detector.scored(record, score, attack)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, middle = figure.subplots(1, 2, width_ratios=(1.6, 1))
    low, high = detector.score_range(record, score)
    _stacked(left, scores, right, low, high, 50)
    val, _ = detector.scored(record, score, "val")
    weights = np.full(len(val), 100 / len(val))
    style: dict[str, Any] = {"color": VALIDATION, "histtype": "stepfilled", "alpha": 0.45}
    style |= {"zorder": 0, "range": (low, high), "weights": weights}
    left.hist(val, 50, label="natural, validation", **style)
    left.axvline(threshold, color=CUT, lw=1.5, label=f"threshold {threshold:.3f}")
    left.set(xlabel=glossary.title(score), ylabel="images (%)", xlim=(low, high))
    left.set_title(f"{named(record.defence)}, {set_title(attack)}")
    left.legend(fontsize=7)
    good, bad = detector.groups(record, score, attack)
    curve = detection.roc(good, bad)
    middle.plot([0, 1], [0, 1], ":", color="0.7", lw=1)
    if curve["auc"] is None:
        middle.text(0.5, 0.5, "one of the groups is empty", ha="center")
    else:
        middle.plot(curve["false_acceptance"], curve["true_acceptance"], color=RIGHT)
        middle.plot(*detection.roc_point(good, bad, threshold), "o", color=CUT, ms=8)
        middle.set_title(f"ROC, AUC {curve['auc']:.3f}")
    wrong = "wrong" if attack in ("clean", "val") else "successful adversarial"
    middle.set(xlabel=f"accepted of {wrong}", ylabel="accepted of clean correct")
    middle.set_aspect("equal")
    shows = (
        f"Histogram of the {glossary.title(score)} with the threshold {threshold:.3f}, and ROC: "
    )
    return finished(figure, f"{shows}{glossary.defence(record.defence)}, {set_title(attack)}.")


def adaptive(frame: pd.DataFrame, score: str = "posterior") -> Figure:
    """Wrong and accepted images: the strongest ordinary attack beside all and the adaptive one.

    ``frame``: ``tables.adaptive_rows``. A row of panels a norm, a panel a threshold.
    """
    frame = frame[frame.score == score]
    norms = list(dict.fromkeys(frame.norm))
    thresholds = list(dict.fromkeys(frame.threshold))
    figure, axes = panels(
        len(norms), len(thresholds), 3.7 * len(thresholds), 2.7 * len(norms) + 0.4, sharey=True
    )
    for row, norm in zip(axes, norms, strict=True):
        for axis, threshold in zip(row, thresholds, strict=True):
            shown = frame[(frame.norm == norm) & (frame.threshold == threshold)]
            places = np.arange(len(shown))
            bar = (("ordinary", "ordinary", ORDINARY), ("union", "adaptive", ADAPTIVE))
            for shift, (name, title, fill) in zip((-0.2, 0.2), bar, strict=True):
                ends = np.array([shown[f"{name}_low"], shown[f"{name}_high"]])
                look = {"color": fill, "label": title}
                bars(axis, places + shift, shown[name], ends, 0.38, look)
            names = [named(name) for name in shown.defence]
            axis.set_xticks(places, names, rotation=35, ha="right", fontsize=8)
            axis.set_title(f"{NORMS_IN_FIGURES[norm]}, threshold {threshold}", fontsize=9)
            axis.set(ylim=(0, 102))
        row[0].set_ylabel("wrong and accepted (%)")
    legend_below(figure, axes[0][0])
    titles = ", ".join(map(glossary.defence, dict.fromkeys(frame.defence)))
    shows = "Wrong and accepted images under the strongest ordinary and the adaptive attack, by "
    return finished(figure, f"{shows}threshold: {titles}.")
