"""The detector: Fig. 8, Fig. 9, what the widget shows at one threshold, the adaptive attack.

Blue is right, orange is wrong, grey is clean validation images, through all of them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ldatlib.evaluation import detection
from ldatlib.report import detector, glossary
from ldatlib.report.figures.look import colour, finished, legend_below, named, panels, say
from ldatlib.report.words import (
    NO_THRESHOLD,
    NORMS_IN_FIGURES,
    NOT_FROZEN,
    THRESHOLDS,
    set_title,
)
from ldatlib.study.records import Detection

RIGHT, WRONG, VALIDATION, CUT = "#0173b2", "#d55e00", "#b0b0b0", "#222222"
FIG8_SETS = ("clean", "linf_pgd", "linf_fab", "l2_pgd", "l2_cw", "l2_fab")
# A dot a threshold: none, the paper's, and the two frozen ones.
_DOTS: tuple[dict[str, Any], ...] = (
    {"marker": "o", "color": "0.55", "mfc": "white", "ms": 6},
    {"marker": "D", "color": "#222222", "ms": 5},
    {"marker": "o", "color": "#0173b2", "ms": 6},
    {"marker": "o", "color": "#56b4e9", "ms": 4.5},
)


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

    Orange: the network is wrong; each title says how many the attack made so, the others were it
    without one. Blue: it is right. Lines: the paper's 0.6, on the posterior alone, and the frozen
    threshold. Raises ``UserError`` for a model without a likelihood.
    """
    names = [name for name in FIG8_SETS if name in detector.attacked_sets(record)]
    for score in detection.SCORES:
        detector.scored(record, score, "clean")
    rows, share = len(detection.SCORES), {"sharex": "row", "sharey": "row"}
    figure, axes = panels(rows, len(names), 1.85 * len(names), 5.0, **share)
    said = []
    for row, score in zip(axes, detection.SCORES, strict=True):
        low, high = _limits(record, score, names)
        for axis, name in zip(row, names, strict=True):
            scores, right = detector.scored(record, score, name)
            _stacked(axis, scores, right, low, high, bins)
            for cut, look in _cuts(record, score):
                axis.axvline(cut, color=CUT, lw=1.2, **look)
            title = _wrong(record, score, name)
            axis.set_title(f"{set_title(name)}\n{title}", fontsize=8.5)
            axis.set(xlim=(low, high), xlabel=glossary.title(score))
            axis.xaxis.label.set_size(8)
            if score == "posterior":
                said.append(f"{set_title(name)} {title}")
                axis.set_xticks([0, 0.5, 1])
        row[0].set_ylabel("images (%)")
    legend_below(figure, axes[0][0])
    about = f"{record.images} test images"
    figure.suptitle(f"{named(record.defence)}, {about}")
    sets = "; ".join(text.replace("\n", ", ") for text in said)
    shows = f"Histograms of posterior and log-likelihood, right and wrong images apart: {sets}. "
    return finished(figure, f"{shows}{glossary.defence(record.defence)}, {about}.")


def _wrong(record: Detection, score: str, name: str) -> str:
    """How many images of a set are wrong, and how many of them by the attack."""
    _, right = detector.scored(record, score, name)
    wrong = f"{float((~right).double().mean()):.0%} wrong"
    if name == "clean":
        return f"{wrong}, no attack"
    _, before = detector.scored(record, score, "clean")
    return f"{wrong}, {float((before & ~right).double().mean()):.0%} by attack"


def _cuts(record: Detection, score: str) -> list[tuple[float, dict[str, Any]]]:
    """The thresholds to draw, with their lines and labels."""
    drawn = []
    for title, cut in detector.thresholds(record, score).items():
        if cut is not None and title != THRESHOLDS["accept_99"]:
            dash = "--" if title == THRESHOLDS["paper"] else "-"
            drawn.append((cut, {"ls": dash, "label": f"threshold {title}"}))
    return drawn


def defence_success(records: Mapping[str, Detection], own: str | None = None) -> Figure:
    """Fig. 9: clean rejection and robust error under rejection, of LDAT and two rivals.

    A panel a score, a dot a threshold; below clean rejection the images that are accepted and
    wrong under each attack, and in the worst case of a norm. ``own``: the defence whose scores
    stand first, else the first with a likelihood. The rivals: the two of the others of which most
    attacks miss least at the frozen threshold. (The paper's rate, defence success, rises by
    rejecting everything; it stands in ``tables.outcome_rows``, as do all networks.)
    """
    own = own or next((n for n, r in records.items() if len(r.scores) > 1), next(iter(records)))
    rivals = sorted(
        (n for n in records if n not in (own, "natural")), key=lambda n: _miss(records[n])
    )
    shown = [(name, score) for name in [own, *rivals[:2]] for score in records[name].scores][:4]
    sets = list(dict.fromkeys(key for name, _ in shown for key in _rows(records[name])))
    figure, grid = panels(1, len(shown), 2.9 * len(shown) + 1.4, 0.3 * len(sets) + 1.9, sharey=True)
    said = []
    for axis, (defence, score) in zip(grid[0], shown, strict=True):
        said.append(_success_panel(axis, records[defence], score, sets))
        title = f"{named(defence)}\n{glossary.title(score)}"
        axis.set_title(title, fontsize=9, color=colour(defence))
    first = grid[0][0]
    titles = ["clean, REJECTED", *(set_title(name) for name in sets[1:])]
    first.set_yticks(range(len(sets)), titles, fontsize=8)
    for text, name in zip(first.get_yticklabels(), sets, strict=True):
        text.set_fontweight("bold" if name in ("clean", *detector.NORMS) else "normal")
    marks = [
        Line2D([], [], ls="", label=slot, **look)
        for slot, look in zip((NO_THRESHOLD, *THRESHOLDS.values()), _DOTS, strict=True)
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize=8.5)
    return finished(figure, f"Clean rejection and robust error under rejection: {'; '.join(said)}.")


def _miss(record: Detection) -> float:
    """What the attacks of both norms get accepted and wrong at the frozen threshold."""
    cut = detector.frozen_threshold(record, "posterior")
    return sum(share.value for share in detector.missed_at_worst(record, "posterior", cut).values())


def _rows(record: Detection) -> list[str]:
    """Clean images, then each norm's attacks with the worst case of them all last."""
    names = detector.attacked_sets(record)
    rows = ["clean"]
    for norm in detector.NORMS:
        of_norm = [name for name in names if name.startswith(f"{norm}_")]
        rows += [*of_norm, norm] if of_norm else []
    return rows


def _success_panel(axis: Axes, record: Detection, score: str, sets: list[str]) -> str:
    """Draws one panel; what it shows at the frozen threshold, in words."""
    thresholds = detector.thresholds(record, score)
    said = f"{glossary.defence(record.defence)}, {glossary.title(score)}"
    slots = (NO_THRESHOLD, *THRESHOLDS.values())
    for slot, look in zip(slots, _DOTS, strict=True):
        if slot not in thresholds:
            continue
        found = detector.outcomes(record, score, thresholds[slot])
        shares = {name: each.robust_error_under_rejection for name, each in found.items()}
        shares |= detector.missed_at_worst(record, score, thresholds[slot])
        shares["clean"] = found["clean"].rejection
        places = [k for k, name in enumerate(sets) if name in shares]
        axis.plot([100 * shares[sets[k]].value for k in places], places, ls="", **look)
        if slot == THRESHOLDS["accept_95"]:
            worst = [f"{set_title(n)} {shares[n].value:.0%}" for n in detector.NORMS if n in shares]
            said += f": clean rejected {shares['clean'].value:.0%}, missed {', '.join(worst)}"
    axis.set(xlim=(-3, 103), ylim=(len(sets) - 0.4, -0.6), xlabel="of all images (%)")
    axis.axhline(0.5, color="0.3", lw=0.8)
    axis.grid(axis="y", color="0.9")
    axis.tick_params(axis="y", length=0)
    if detector.frozen_threshold(record, score) is None:
        say(axis, f"frozen: {NOT_FROZEN}")
    if score != "posterior":
        axis.set_xlabel("of all images (%)\n0.6, a probability, has no meaning here")
    return said


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
    """Wrong and accepted images: the strongest ordinary attack and the adaptive one; the cost.

    ``frame``: ``tables.adaptive_rows``. A row of panels a norm, two panels a threshold: what is
    missed, and beside it the share of clean images that are rejected, without which it says
    nothing.
    """
    frame = frame[frame.score == score]
    norms = list(dict.fromkeys(frame.norm))
    thresholds = list(dict.fromkeys(frame.threshold))
    defences = list(dict.fromkeys(frame.defence))
    size = 3.5 * len(thresholds) + 1.0, (0.3 * len(defences) + 1.3) * len(norms) + 0.5
    ratios: dict[str, Any] = {"width_ratios": (2, 1) * len(thresholds), "sharey": True}
    figure, axes = panels(len(norms), 2 * len(thresholds), *size, **ratios)
    for row, norm in zip(axes, norms, strict=True):
        for number, threshold in enumerate(thresholds):
            missed, clean = row[2 * number : 2 * number + 2]
            shown = frame[(frame.norm == norm) & (frame.threshold == threshold)]
            for _, entry in shown.iterrows():
                at, shade = defences.index(entry.defence), colour(entry.defence)
                missed.plot([entry.ordinary, entry.union], [at, at], color=shade, lw=2, alpha=0.5)
                missed.plot(entry.ordinary, at, "o", color=shade, mfc="white", ms=6)
                ends = [[entry.union - entry.union_low], [entry.union_high - entry.union]]
                look = {"fmt": "o", "color": shade, "ms": 6, "lw": 0.8, "capsize": 2}
                missed.errorbar([entry.union], [at], xerr=ends, **look)
                clean.barh(at, entry.clean_rejection, 0.6, color="0.7")
                text = f"{entry.clean_rejection:.0f}"
                inside = entry.clean_rejection > 60
                place = entry.clean_rejection + (-4 if inside else 4)
                clean.text(
                    place, at, text, va="center", ha="right" if inside else "left", fontsize=8
                )
            missed.set_title(f"{NORMS_IN_FIGURES[norm]}, {threshold}: missed", fontsize=9)
            clean.set_title("clean rejected", fontsize=9)
            for axis in (missed, clean):
                axis.set(xlim=(-3, 103), ylim=(len(defences) - 0.4, -0.6))
                axis.set_xticks([0, 50, 100])
                axis.set_xlabel("images (%)", fontsize=8)
                axis.tick_params(axis="y", length=0)
                axis.grid(axis="x", color="0.92")
        row[0].set_yticks(range(len(defences)), [named(name) for name in defences])
        for text, name in zip(row[0].get_yticklabels(), defences, strict=True):
            text.set_color(colour(name))
    marks = [
        Line2D(
            [], [], marker="o", ls="", color="0.3", mfc="white", label="strongest ordinary attack"
        ),
        Line2D(
            [], [], marker="o", ls="", color="0.3", label="with the adaptive attack, 95% interval"
        ),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2, fontsize=8.5)
    titles = ", ".join(map(glossary.defence, defences))
    shows = "Wrong and accepted images under the strongest ordinary and the adaptive attack, and "
    return finished(figure, f"{shows}clean images rejected, by threshold: {titles}.")
