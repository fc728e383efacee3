"""What an examination says while it runs: findings, cost before it starts, then line by line."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ldatlib.evaluation.autoattack import TITLES
from ldatlib.evaluation.examination.effort import Planned
from ldatlib.evaluation.examination.progress import Progress
from ldatlib.report.examination.verdict import attack_title
from ldatlib.report.words import NORMS

Say = Callable[[str], None]
_PARTS = {
    "attacks": "Table 1's attacks",
    "search": "search from larger balls",
    "autoattack": "AutoAttack",
    "masking": "tests for masking",
    "detector": "attack on the detector",
}
_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed} passed{postfix}"


def plan_lines(said: list[dict[str, str]], planned: list[Planned]) -> list[str]:
    """What the gate has found, one line each; then the parts and their cost in forward passes."""
    lines = [f"{entry['severity']}: {entry['text']}" for entry in said]
    total = sum(part.total for part in planned)
    lines.append(
        f"at most {total:,} forward passes of one image (an image that has fallen meets no further "
        "attack):"
    )
    lines += [
        f"  {_title(part.norm, part.part)}: {part.images} images x {part.passes:,} passes"
        for part in planned
    ]
    return lines


class Announcer:
    """Says what is done, and how long the rest takes at most at the speed so far.

    ``say`` is called with a line at a time. ``bar``: a bar of forward passes on stderr, in a
    notebook a widget, with the time that passed and that is left. Used as a context.
    """

    def __init__(self, say: Say | None, bar: bool):
        self.say: Say = say or _nobody
        self.spent, self.passes, self.total, self.last = 0.0, 0, 0, time.monotonic()
        # At most so many seconds to go, as it was after the last attack.
        self.rest: float | None = None
        self.has_bar = bar
        self.bar: Any = None
        self.stopped = threading.Event()
        self.clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Announcer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        if self.bar is not None:
            self.clock.join()
            self.bar.close()

    def plan(self, said: list[dict[str, str]], planned: list[Planned]) -> None:
        """Before the first attack."""
        for line in plan_lines(said, planned):
            self._line(line)
        self.total, self.last = sum(part.total for part in planned), time.monotonic()
        if self.has_bar and planned:
            self.bar = _new_bar(self.total, _title(planned[0].norm, planned[0].part))
            self.clock.start()

    def done(self, progress: Progress) -> None:
        """After an attack."""
        now = time.monotonic()
        self.spent, self.passes = self.spent + now - self.last, self.passes + progress.passes
        self.last = now
        self.rest = None
        if progress.passes_left and self.passes:
            self.rest = self.spent * progress.passes_left / self.passes
        name = progress.name
        title = _PARTS.get(name) or attack_title(f"_{name}" if name in TITLES else name)
        left = "" if progress.left is None else f": {progress.left} left"
        to_go = "" if self.rest is None or self.bar is not None else f"; {_words(self.rest)} to go"
        self._line(f"{NORMS[progress.norm]} {title}{left}{to_go}")
        if self.bar is not None:
            coming = progress.coming
            self.bar.set_description_str(_title(*coming) if coming else "done", refresh=False)
            self._show_rest()
            self.bar.update(self.total - progress.passes_left - self.bar.n)
            self.bar.refresh()

    def _line(self, text: str) -> None:
        """Above the bar, which is drawn again below it."""
        with nullcontext() if self.bar is None else self.bar.external_write_mode():
            self.say(text)

    def _show_rest(self) -> None:
        left = None if self.rest is None else self.rest - (time.monotonic() - self.last)
        said = "" if left is None else f"{_words(max(left, 0))} left"
        self.bar.set_postfix_str(said, refresh=False)

    def _tick(self) -> None:
        while not self.stopped.wait(1):
            self._show_rest()
            self.bar.refresh()


def _nobody(text: str) -> None:
    """Nobody listens."""


def _new_bar(total: int, title: str) -> Any:
    if sys.stderr.isatty():
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm(total=total, bar_format=_BAR, desc=title, leave=False, dynamic_ncols=True)


def _title(norm: str, part: str) -> str:
    return f"{NORMS[norm]} {_PARTS[part]}"


def _words(seconds: float) -> str:
    return (
        f"at most about {seconds:.0f} s"
        if seconds < 120
        else f"at most about {seconds / 60:.0f} min"
    )
