"""What the threshold explorer shows, as HTML and SVG text: no figure library, no redrawing.

What does not move is drawn once a selection (``still``); a move of the threshold adds a line, a
point and the counts.
"""

from html import escape

from torch import Tensor

from ldatlib.evaluation import detection
from ldatlib.evaluation.detection import Counts
from ldatlib.report import glossary
from ldatlib.report.figures.detector import CUT, RIGHT, VALIDATION, WRONG

_BINS = 50
# Left, top, width, height of the histogram and of the ROC, in SVG units.
_HISTOGRAM, _ROC = (40, 14, 400, 190), (520, 14, 190, 190)
_Box = tuple[int, int, int, int]


def still(
    scored: tuple[Tensor, Tensor],
    validation: Tensor,
    groups: tuple[Tensor, Tensor],
    limits: tuple[float, float],
    score: str,
    unattacked: bool,
) -> str:
    """Histogram and ROC without a threshold.

    ``scored``: scores and right [N] of the set shown; ``validation``: scores of clean validation
    images; ``groups``: what the ROC tells apart; ``unattacked``: the set is of natural images.
    """
    histogram = _histogram_svg(*scored, validation, *limits, glossary.title(score))
    return histogram + _roc_svg(*groups, unattacked)


def with_threshold(
    drawn: str, groups: tuple[Tensor, Tensor], limits: tuple[float, float], cut: float
) -> str:
    """The picture: what ``still`` gave, the cut in the histogram and the point on the ROC."""
    low, high = limits
    left, top, width, height = _HISTOGRAM
    x = left + (cut - low) / ((high - low) or 1) * width
    moving = _line(x, top, x, top + height, f'class="ldat-cut" stroke="{CUT}"')
    false, true = detection.roc_point(*groups, cut)
    if false == false and true == true:  # a group may be empty
        left, top, width, height = _ROC
        place = f'cx="{left + false * width:.1f}" cy="{top + (1 - true) * height:.1f}"'
        moving += f'<circle class="ldat-roc-point" {place} r="5" fill="{CUT}"/>'
    return (
        '<svg class="ldat-threshold-picture" viewBox="0 0 730 250" width="730" height="250" '
        'style="background:white" font-family="sans-serif" font-size="11">'
        f"{drawn}{moving}</svg>"
    )


def numbers(counts: Counts, clean_rejection: float) -> str:
    """The four counts and the two rates."""

    def cell(name: str) -> str:
        style = 'style="text-align:right;padding:0 12px"'
        return f'<td class="ldat-{name.replace("_", "-")}" {style}>{getattr(counts, name)}</td>'

    rows = "".join(
        f"<tr><th>{fate}</th>{cell(f'{fate}_right')}{cell(f'{fate}_wrong')}</tr>"
        for fate in ("accepted", "rejected")
    )
    return (
        f"<table><tr><th></th><th>right</th><th>wrong</th></tr>{rows}</table>"
        f"<div>{glossary.title('defence_success')} "
        f'<b class="ldat-defence-success">{100 * counts.defence_success:.1f}%</b> of '
        f"{counts.total} images; {glossary.title('clean_rejection')} "
        f'<b class="ldat-clean-rejection">{100 * clean_rejection:.1f}%</b></div>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, more: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'


def _text(x: float, y: float, content: str, anchor: str = "middle", fill: str = "#222") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}">{escape(content)}</text>'


def _frame(box: _Box, low: str, high: str, label: str) -> str:
    left, top, width, height = box
    below = top + height
    axis = 'stroke="#222"'
    return (
        _line(left, below, left + width, below, axis)
        + _line(left, top, left, below, axis)
        + _text(left, below + 14, low)
        + _text(left + width, below + 14, high)
        + _text(left + width / 2, below + 28, label)
    )


def _steps(floor: Tensor, heights: Tensor, fill: str, opacity: float = 1.0) -> str:
    """Bars of the histogram as one shape, from ``floor`` up by ``heights`` (shares of the box)."""
    left, top, width, height = _HISTOGRAM
    pieces = []
    for index, (base, size) in enumerate(zip(floor.tolist(), heights.tolist(), strict=True)):
        if size:
            x, wide = left + index * width / len(heights), width / len(heights)
            y, tall = top + (1 - base - size) * height, size * height
            pieces.append(f"M{x:.1f} {y:.1f}h{wide:.1f}v{tall:.1f}h{-wide:.1f}z")
    return f'<path d="{"".join(pieces)}" fill="{fill}" fill-opacity="{opacity}"/>'


def _histogram_svg(
    values: Tensor, right: Tensor, val: Tensor, low: float, high: float, label: str
) -> str:
    """Shares of the set per bin, wrong stacked on right, clean validation images behind."""
    correct, wrong = detection.histogram(values, right, low, high, _BINS)
    behind, _ = detection.histogram(val, val == val, low, high, _BINS)
    correct, wrong, behind = correct / len(values), wrong / len(values), behind / len(val)
    largest = max(float((correct + wrong).max()), float(behind.max()))
    correct, wrong, behind = correct / largest, wrong / largest, behind / largest
    left, top, width, _ = _HISTOGRAM
    keys = (("right", RIGHT), ("wrong", WRONG), ("clean validation", "#777"))
    return (
        _steps(0 * behind, behind, VALIDATION, 0.5)
        + _steps(0 * correct, correct, RIGHT)
        + _steps(correct, wrong, WRONG)
        + _frame(_HISTOGRAM, f"{low:.4g}", f"{high:.4g}", label)
        + _text(left - 4, top + 4, f"{largest:.0%}", "end")
        + "".join(
            _text(left + 8, top + 10 + 14 * row, name, "start", fill)
            for row, (name, fill) in enumerate(keys)
        )
    )


def _roc_svg(good: Tensor, bad: Tensor, unattacked: bool) -> str:
    left, top, width, height = _ROC
    label = f"accepted of {'wrong' if unattacked else 'successful adversarial'}"
    frame = _frame(_ROC, "0", "1", label)
    frame += (
        f'<text transform="translate({left - 10} {top + height / 2}) rotate(-90)" '
        'text-anchor="middle" fill="#222">accepted of clean correct</text>'
    )
    curve = detection.roc(good, bad)
    if curve["auc"] is None:
        return frame + _text(left + width / 2, top + height / 2, "one of the groups is empty")
    pairs = list(zip(curve["false_acceptance"], curve["true_acceptance"], strict=True))
    kept = pairs[:: len(pairs) // 200 + 1] + pairs[-1:]
    points = " ".join(f"{left + f * width:.1f},{top + (1 - t) * height:.1f}" for f, t in kept)
    return (
        frame
        + _line(left, top + height, left + width, top, 'stroke="#bbb" stroke-dasharray="2 3"')
        + f'<polyline points="{points}" fill="none" stroke="{RIGHT}" stroke-width="2"/>'
        + _text(left + width - 4, top + height - 8, f"AUC {curve['auc']:.3f}", "end")
    )
