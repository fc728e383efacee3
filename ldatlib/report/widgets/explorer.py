"""The threshold explorer: its controls, and the button that stores a threshold."""

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import altair
import ipywidgets
import msgspec

from ldatlib.errors import UserError
from ldatlib.files import path_of, write_json
from ldatlib.report import charts, detector, glossary
from ldatlib.report.charts import cuts
from ldatlib.report.words import set_title
from ldatlib.study.records import Detection, Exploratory, content, read

# Milliseconds without a move before the browser tells Python what Python has told it: an earlier
# echo could overtake the next move.
_QUIET = 250


def threshold_explorer(
    records: Mapping[str, Detection],
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


def _checked(
    records: Mapping[str, Detection], path: Path | Mapping[str, Path] | None
) -> dict[str, Path]:
    detector.check_same_data(records)
    given = path if isinstance(path, Mapping) else dict.fromkeys(records, path)
    paths = {name: path_of(target) for name, target in given.items() if target is not None}
    for name, target in paths.items():
        if not target.is_file():
            raise UserError(f"no record {target} to store a threshold of {name} in")
    return paths


class ThresholdExplorer(ipywidgets.VBox):
    """See ``threshold_explorer``; its controls are attributes, so that code can move them too."""

    def __init__(
        self,
        records: Mapping[str, Detection],
        path: Path | Mapping[str, Path] | None,
        defence: str | None,
        score: str,
        threshold: float | None,
    ):
        self.paths, self.records = _checked(records, path), dict(records)
        defence = next(iter(records)) if defence is None else defence
        if defence not in records:
            raise UserError(f"no record of {defence!r}; known: {', '.join(records)}")
        if threshold is not None:
            detector.check_threshold(records[defence], score, threshold)
        detector.scored(records[defence], score, "val")
        choices = [(glossary.defence(name), name) for name in records]
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
        self.status = ipywidgets.HTML()
        self.status.add_class("ldat-threshold-status")
        self.threshold.add_class("ldat-threshold-slider")
        self.store = ipywidgets.Button(
            description="store this threshold (exploratory)", layout={"width": "280px"}
        )
        self.store.on_click(self._store)
        self._selecting = False
        self._offer(score)
        if threshold is None:
            threshold = detector.first_threshold(self.record, self.score.value)
        self.chart = self._chart(threshold)
        self._select(threshold)
        self.defence.observe(self._defence_chosen, "value")
        self.score.observe(lambda _: self._select(), "value")
        for control in (self.attack, self.split):
            control.observe(lambda _: self._select(self.threshold.value), "value")
        self.threshold.observe(self._moved, "value")
        first = ipywidgets.HBox([self.defence, self.score])
        second = ipywidgets.HBox([self.attack, self.split])
        last = ipywidgets.HBox([self.store, self.status])
        super().__init__([first, second, self.threshold, self.chart, last])

    def __repr__(self) -> str:
        # What a notebook shows where no kernel runs.
        return "the threshold explorer: run this cell, and move the threshold"

    @property
    def record(self) -> Detection:
        return self.records[self.defence.value]

    @property
    def shown(self) -> str:
        """The key of the set shown: an attack's, ``"clean"`` or ``"val"``."""
        return "val" if self.split.value == "val" else self.attack.value

    def move(self, threshold: float) -> None:
        """Move the threshold; ``UserError`` outside the score's range."""
        detector.check_threshold(self.record, self.score.value, threshold)
        self.threshold.value = threshold

    def _defence_chosen(self, _: Any) -> None:
        self._offer(self.score.value)
        self._select()

    def _offer(self, score: str) -> None:
        """The scores and sets of the chosen defence; the present choice stays where it can."""
        self._selecting = True
        try:
            scores = list(self.record.scores)
            self.score.options = [(glossary.title(name), name) for name in scores]
            self.score.value = score if score in scores else scores[0]
            before = self.attack.value
            names = detector.attacked_sets(self.record)
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
            low, high = detector.score_range(record, score)
            if threshold is None:
                threshold = detector.first_threshold(record, score)
            with self.threshold.hold_trait_notifications():
                self.threshold.min, self.threshold.max = low, high
                self.threshold.step = (high - low) / cuts.STEPS or 1e-3
                self.threshold.value = min(max(threshold, low), high)
        finally:
            self._selecting = False
        self.attack.disabled = self.split.value == "val"
        can_store = self.defence.value in self.paths
        self.store.disabled = not can_store
        self.status.value = "" if can_store else "no record to store a threshold in"
        self._draw()

    def _moved(self, _: Any) -> None:
        if not self._selecting:
            self.status.value = "" if not self.store.disabled else self.status.value
            self._draw()

    def _chart(self, threshold: float) -> altair.JupyterChart:
        """The chart of the page, without its inputs: the controls here move its parameters."""
        # No request: what draws it comes from Python.
        altair.JupyterChart.enable_offline()
        options = {"renderer": "svg", "actions": False}
        wait = {"debounce_wait": _QUIET, "max_wait": False}
        return altair.JupyterChart(self._drawn(threshold), embed_options=options, **wait)

    def _drawn(self, threshold: float) -> charts.Chart:
        self._exact = self.defence.value, self.score.value, threshold
        choice = {"defence": self.defence.value, "score": self.score.value, "attack": self.shown}
        return charts.explorer(self.records, threshold=threshold, controls=False, **choice)

    def _draw(self) -> None:
        defence, score, cut = self.defence.value, self.score.value, self.threshold.value
        also = self._exact[2] if self._exact[:2] == (defence, score) else None
        grid = cuts.grid(self.record, score, also)
        if not grid.has(cut):
            # Set by code, between two steps of the slider: a chart with one more cut.
            self.chart.chart = self._drawn(cut)
            grid = cuts.grid(self.record, score, cut)
        shown = {"defence": defence, "scored": score, "shown": self.shown}
        with self.chart.hold_sync():
            for name, value in (shown | {"place": grid.nearest(cut)}).items():
                setattr(self.chart.params, name, value)

    def _store(self, _: Any) -> None:
        entry = Exploratory(
            threshold=self.threshold.value,
            score=self.score.value,
            attack=self.shown,
            split=self.split.value,
            defence=self.defence.value,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            store(self.paths[self.defence.value], entry, self.records)
        except UserError as error:
            self.status.value = f"not stored: {escape(str(error))}"
            return
        self.status.value = (
            f"stored {entry.threshold:.4f} as exploratory: chosen by looking at these images, "
            "so no measurement"
        )


def store(path: Path, entry: Exploratory, records: Mapping[str, Detection]) -> None:
    """Append a threshold to a detection record's list ``exploratory``, atomically.

    ``records``: those explored; the file must hold one of them.
    """
    record = read(path)
    if not isinstance(record, Detection):
        raise UserError(f"{path} is not a detection record")
    if record.key not in [known.key for known in records.values()]:
        raise UserError(f"{path} is the record of another run")
    stored = msgspec.structs.replace(record, exploratory=[*record.exploratory, entry])
    write_json(path, content(stored))
