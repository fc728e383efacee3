"""The threshold explorer of notebook 08: move the rejection threshold, see what it does.

Plain ipywidgets (extra ``notebooks``), no figure library: what does not move is drawn once per
selection as SVG text, and a move of the slider adds a line, a point and the counts to it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import ipywidgets
from torch import Tensor

from ldatlib.defences import TITLES
from ldatlib.errors import UserError
from ldatlib.evaluation import detection
from ldatlib.evaluation.detection import SCORES, Counts
from ldatlib.files import read_json, write_json
from ldatlib.report.figures_detection import CUT, RIGHT, VALIDATION, WRONG, set_title

_BINS, _STEPS = 50, 200
# Left, top, width, height of the histogram and of the ROC, in SVG units.
_HISTOGRAM, _ROC = (40, 14, 400, 190), (520, 14, 190, 190)


def threshold_explorer(
    records: Mapping[str, dict],
    path: Path | Mapping[str, Path] | None = None,
    *,
    defence: str | None = None,
    score: str = "posterior",
    threshold: float | None = None,
) -> "ThresholdExplorer":
    """A widget that shows what a rejection threshold does to right and wrong images.

    Parameters
    ----------
    records : defence name -> its record of kind "detection"; all of the same data.
    path : where the button stores a threshold: a detection record's JSON, or one per defence.
        None leaves the button out of use.
    defence, score, threshold : what is shown first; the frozen 95% threshold unless said.

    Raises
    ------
    UserError : no records, records of another kind or of different data, a score that the defence
        lacks, a threshold outside the score's range, a path that holds another record.
    """
    return ThresholdExplorer(records, path, defence, score, threshold)


def _checked(records: Mapping[str, dict], path) -> dict[str, Path]:
    if not isinstance(records, Mapping) or not records:
        raise UserError("no detection records to explore; compute them with run.detection")
    for name, record in records.items():
        for kept in ("val", "clean"):
            detection.scored(record, "posterior", kept)
        first = next(iter(records.values()))
        if record.get("fingerprint") != first.get("fingerprint"):
            raise UserError(f"the record of {name} is of other data than the first; recompute it")
    paths = path if isinstance(path, Mapping) else dict.fromkeys(records, path)
    for name, target in paths.items():
        if target is not None and not Path(target).is_file():
            raise UserError(f"no record {target} to store a threshold of {name} in")
    return {name: Path(target) for name, target in paths.items() if target is not None}


class ThresholdExplorer(ipywidgets.VBox):
    """See ``threshold_explorer``; its controls are attributes, so that code can move them too."""

    def __init__(self, records, path, defence, score, threshold):
        self.paths, self.records = _checked(records, path), dict(records)
        defence = next(iter(records)) if defence is None else defence
        if defence not in records:
            raise UserError(f"no record of {defence!r}; known: {', '.join(records)}")
        if threshold is not None:
            detection.check_threshold(records[defence], score, threshold)
        detection.scored(records[defence], score, "val")
        choices = [(TITLES.get(name, name), name) for name in records]
        self.defence = ipywidgets.Dropdown(options=choices, value=defence, description="defence")
        self.score = ipywidgets.Dropdown(description="score")
        self.attack = ipywidgets.Dropdown(description="attack")
        splits = [("test images", "test"), ("validation images (clean)", "val")]
        self.split = ipywidgets.Dropdown(options=splits, description="split")
        self.threshold = ipywidgets.FloatSlider(
            description="threshold",
            readout_format=".4f",
            layout={"width": "640px"},
        )
        self.picture, self.numbers, self.status = (ipywidgets.HTML() for _ in range(3))
        self.numbers.add_class("ldat-threshold-numbers")
        self.status.add_class("ldat-threshold-status")
        self.threshold.add_class("ldat-threshold-slider")
        self.store = ipywidgets.Button(
            description="store this threshold (exploratory)", layout={"width": "280px"}
        )
        self.store.on_click(self._store)
        self._selecting = False
        self._offer(score)
        self._select(threshold)
        self.defence.observe(self._defence_chosen, "value")
        self.score.observe(lambda _: self._select(), "value")
        for control in (self.attack, self.split):
            control.observe(lambda _: self._select(self.threshold.value), "value")
        self.threshold.observe(self._moved, "value")
        first = ipywidgets.HBox([self.defence, self.score])
        second = ipywidgets.HBox([self.attack, self.split])
        last = ipywidgets.HBox([self.store, self.status])
        super().__init__([first, second, self.threshold, self.picture, self.numbers, last])

    @property
    def record(self) -> dict:
        return self.records[self.defence.value]

    @property
    def shown(self) -> str:
        """The key of the set shown: an attack's, ``"clean"`` or ``"val"``."""
        return "val" if self.split.value == "val" else self.attack.value

    def move(self, threshold: float) -> None:
        """Move the threshold; ``UserError`` outside the score's range."""
        detection.check_threshold(self.record, self.score.value, threshold)
        self.threshold.value = threshold

    def _defence_chosen(self, _) -> None:
        self._offer(self.score.value)
        self._select()

    def _offer(self, score: str) -> None:
        """The scores and sets of the chosen defence; the present choice stays where it can."""
        self._selecting = True
        try:
            scores = list(self.record["scores"])
            self.score.options = [(SCORES[name], name) for name in scores]
            self.score.value = score if score in scores else scores[0]
            before = self.attack.value
            names = detection.attacked_sets(self.record)
            self.attack.options = [(set_title(name), name) for name in names]
            attacked = [name for name in names if name != "clean"] or names
            self.attack.value = before if before in names else attacked[0]
        finally:
            self._selecting = False

    def _select(self, threshold: float | None = None) -> None:
        """Draw everything that a move of the threshold leaves alone, then the threshold."""
        if self._selecting:
            return
        self._selecting = True
        try:
            record, score = self.record, self.score.value
            low, high = detection.score_range(record, score)
            if threshold is None:
                threshold = record["scores"][score]["thresholds"]["accept_95"]
            with self.threshold.hold_trait_notifications():
                self.threshold.min, self.threshold.max = low, high
                self.threshold.step = (high - low) / _STEPS or 1e-3
                self.threshold.value = min(max(threshold, low), high)
        finally:
            self._selecting = False
        self.attack.disabled = self.split.value == "val"
        can_store = self.defence.value in self.paths
        self.store.disabled = not can_store
        self.status.value = "" if can_store else "no record to store a threshold in"
        self._values, self._right = detection.scored(record, score, self.shown)
        self._clean, _ = detection.scored(record, score, "val" if self.shown == "val" else "clean")
        self._groups = detection.groups(record, score, self.shown)
        val, _ = detection.scored(record, score, "val")
        self._still = _histogram_svg(self._values, self._right, val, low, high, SCORES[score])
        self._still += _roc_svg(*self._groups, self.shown in ("clean", "val"))
        self._draw()

    def _moved(self, _) -> None:
        if not self._selecting:
            self.status.value = "" if not self.store.disabled else self.status.value
            self._draw()

    def _draw(self) -> None:
        cut = self.threshold.value
        where = (cut - self.threshold.min) / ((self.threshold.max - self.threshold.min) or 1)
        left, top, width, height = _HISTOGRAM
        x = left + where * width
        moving = _line(x, top, x, top + height, f'class="ldat-cut" stroke="{CUT}"')
        false, true = detection.roc_point(*self._groups, cut)
        if false == false and true == true:
            left, top, width, height = _ROC
            place = f'cx="{left + false * width:.1f}" cy="{top + (1 - true) * height:.1f}"'
            moving += f'<circle class="ldat-roc-point" {place} r="5" fill="{CUT}"/>'
        self.picture.value = (
            '<svg class="ldat-threshold-picture" viewBox="0 0 730 250" width="730" height="250" '
            'style="background:white" font-family="sans-serif" font-size="11">'
            f"{self._still}{moving}</svg>"
        )
        counts = detection.count(self._values, self._right, cut)
        self.numbers.value = _numbers(counts, float((self._clean < cut).double().mean()))

    def _store(self, _) -> None:
        entry = {
            "threshold": self.threshold.value,
            "score": self.score.value,
            "attack": self.shown,
            "split": self.split.value,
            "defence": self.defence.value,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            store(self.paths[self.defence.value], entry, self.records)
        except UserError as error:
            self.status.value = f"not stored: {escape(str(error))}"
            return
        self.status.value = (
            f"stored {entry['threshold']:.4f} as exploratory: chosen by looking at these images, "
            "so no measurement"
        )


def store(path: Path, entry: dict, records: Mapping[str, dict]) -> None:
    """Append a threshold to a detection record's list ``exploratory``, atomically.

    ``records``: those explored; the file must hold one of them.
    """
    content = read_json(path)
    if content.get("kind") != "detection":
        raise UserError(f"{path} is not a detection record")
    if content.get("key") not in [record.get("key") for record in records.values()]:
        raise UserError(f"{path} is the record of another run")
    write_json(path, {**content, "exploratory": [*content.get("exploratory", []), entry]})


def _numbers(counts: Counts, clean_rejection: float) -> str:
    def cell(name: str) -> str:
        style = 'style="text-align:right;padding:0 12px"'
        return f'<td class="ldat-{name.replace("_", "-")}" {style}>{getattr(counts, name)}</td>'

    rows = "".join(
        f"<tr><th>{fate}</th>{cell(f'{fate}_right')}{cell(f'{fate}_wrong')}</tr>"
        for fate in ("accepted", "rejected")
    )
    return (
        f"<table><tr><th></th><th>right</th><th>wrong</th></tr>{rows}</table>"
        "<div>defence success "
        f'<b class="ldat-defence-success">{100 * counts.defence_success:.1f}%</b> of '
        f"{counts.total} images; clean rejection "
        f'<b class="ldat-clean-rejection">{100 * clean_rejection:.1f}%</b></div>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, more: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'


def _text(x: float, y: float, content: str, anchor: str = "middle", fill: str = "#222") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}">{escape(content)}</text>'


def _frame(box: tuple, low: str, high: str, label: str) -> str:
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
