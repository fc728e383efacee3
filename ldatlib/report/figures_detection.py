"""Figures of the detector: Fig. 8, Fig. 9, and what the widget shows, at one threshold.

Functions take records of kind "detection" and return a matplotlib Figure; ``figures.save`` writes
it. Blue is right, orange is wrong, grey is clean validation images, through all of them.
"""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ldatlib.defences import TITLES
from ldatlib.evaluation import detection
from ldatlib.evaluation.detection import SCORES
from ldatlib.report.tables import column_title

RIGHT, WRONG, VALIDATION, CUT = "#0173b2", "#d55e00", "#b0b0b0", "#222222"
FIG8_SETS = ("clean", "linf_pgd", "linf_fab", "l2_pgd", "l2_cw", "l2_fab")
_BARS = ("#c9c9c9", "#949494", "#56b4e9", "#0173b2")


def set_title(name: str) -> str:
    """``linf_pgd`` -> ``L-inf PGD``; the two sets without an attack have names of their own."""
    own = {"clean": "natural", "val": "natural, validation"}
    return own.get(name) or column_title(name)


def _limits(record: dict, score: str, names: list[str]) -> tuple[float, float]:
    if score == "posterior":
        return 0.0, 1.0
    values = np.concatenate([detection.scored(record, score, name)[0] for name in names])
    low, high = np.quantile(values, [0.002, 0.998])
    margin = 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _bars(axis, scores: Tensor, right: Tensor, low: float, high: float, bins: int) -> None:
    """Percent of the set per bin, wrong images stacked on right ones."""
    edges = np.linspace(low, high, bins + 1)
    counted = detection.histogram(scores, right, low, high, bins)
    shares = [100 * part.numpy() / len(scores) for part in counted]
    both = {"width": np.diff(edges), "align": "edge", "lw": 0}
    axis.bar(edges[:-1], shares[0], color=RIGHT, label="right", **both)
    axis.bar(edges[:-1], shares[1], bottom=shares[0], color=WRONG, label="wrong", **both)


def likelihood_histograms(record: dict, bins: int = 30) -> Figure:
    """Fig. 8: posterior (as the paper) and log-likelihood of natural and adversarial images.

    Orange: the network is wrong, so the attack succeeded (or, in the first panel, no attack was
    needed); blue: it is right. Raises ``UserError`` for a model without a likelihood.
    """
    names = [name for name in FIG8_SETS if name in detection.attacked_sets(record)]
    for score in SCORES:
        detection.scored(record, score, "clean")
    figure = Figure(figsize=(2.15 * len(names), 4.9), layout="constrained")
    axes = figure.subplots(len(SCORES), len(names), squeeze=False, sharex="row", sharey="row")
    for row, score in zip(axes, SCORES, strict=True):
        low, high = _limits(record, score, names)
        for axis, name in zip(row, names, strict=True):
            scores, right = detection.scored(record, score, name)
            _bars(axis, scores, right, low, high, bins)
            fooled = float((~right).double().mean())
            axis.set_title(f"{set_title(name)}\n{fooled:.0%} wrong", fontsize=9)
            axis.set(xlim=(low, high), xlabel=SCORES[score])
            axis.xaxis.label.set_size(8)
        row[0].set_ylabel("images (%)")
    _legend(figure, axes[0][0])
    title = record.get("title", record["defence"])
    figure.suptitle(f"{title}, {record['images']} test images; wrong = the attack succeeded")
    return figure


def _legend(figure: Figure, axis) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def defence_success(records: dict[str, dict]) -> Figure:
    """Fig. 9: (rejected and wrong + accepted and right) / N, a panel per defence and score."""
    panels = [(name, score) for name, record in records.items() for score in record["scores"]]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 2.5 * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axis, (defence, score) in zip(axes, panels, strict=False):
        _success_panel(axis, records[defence], score)
        axis.set_title(f"{TITLES[defence]}: {SCORES[score]}", fontsize=9)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    _legend(figure, figure.axes[0])
    return figure


def _success_panel(axis, record: dict, score: str) -> None:
    names = detection.attacked_sets(record)
    thresholds = detection.thresholds(record, score)
    slots = ("no threshold", "0.6 (paper)", "95% frozen", "99% frozen")
    for index, (slot, fill) in enumerate(zip(slots, _BARS, strict=True)):
        if slot not in thresholds:
            continue
        found = detection.outcomes(record, score, thresholds[slot])
        shares = [found[name]["defence_success"] for name in names]
        values = np.array([100 * share["value"] for share in shares])
        ends = np.array([[100 * share[end] for share in shares] for end in ("low", "high")])
        axis.bar(
            np.arange(len(names)) + 0.21 * (index - 1.5),
            values,
            0.2,
            color=fill,
            label=slot,
            yerr=np.abs(ends - values),
            error_kw={"lw": 0.6, "ecolor": "0.3"},
        )
    titles = [set_title(name).replace(" ", "\n", 1) for name in names]
    axis.set_xticks(range(len(names)), titles, fontsize=6)
    axis.set(ylim=(0, 102))
    axis.set_ylabel("defence success (%)", fontsize=8)


def threshold_static(record: dict, score: str, attack: str, threshold: float) -> Figure:
    """What the widget shows, at one threshold: histogram with the cut, ROC with its point.

    Raises ``UserError`` where the record lacks the score or the set, or for a threshold outside
    the score's range.
    """
    detection.check_threshold(record, score, threshold)
    scores, right = detection.scored(record, score, attack)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, middle = figure.subplots(1, 2, width_ratios=(1.6, 1))
    low, high = detection.score_range(record, score)
    _bars(left, scores, right, low, high, 50)
    val, _ = detection.scored(record, score, "val")
    weights = np.full(len(val), 100 / len(val))
    style = {"color": VALIDATION, "histtype": "stepfilled", "alpha": 0.45, "zorder": 0}
    left.hist(val, 50, (low, high), weights=weights, label="natural, validation", **style)
    left.axvline(threshold, color=CUT, lw=1.5, label=f"threshold {threshold:.3f}")
    left.set(xlabel=SCORES[score], ylabel="images (%)", xlim=(low, high))
    left.set_title(f"{record.get('title', record['defence'])}, {set_title(attack)}")
    left.legend(fontsize=7)
    good, bad = detection.groups(record, score, attack)
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
    return figure
