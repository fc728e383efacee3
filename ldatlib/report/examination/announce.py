"""What an examination says while it runs: findings, cost before it starts, then line by line."""

import time
from collections.abc import Callable

from ldatlib.evaluation.autoattack import TITLES
from ldatlib.evaluation.examination.effort import Planned
from ldatlib.evaluation.examination.examine import Progress
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


def plan_lines(said: list[dict[str, str]], planned: list[Planned]) -> list[str]:
    """What the gate has found, one line each; then the parts and their cost in forward passes."""
    lines = [f"{entry['severity']}: {entry['text']}" for entry in said]
    total = sum(part.total for part in planned)
    lines.append(
        f"at most {total:,} forward passes of one image (an image that has fallen meets no further "
        "attack):"
    )
    lines += [
        f"  {NORMS[part.norm]} {_PARTS[part.part]}: {part.images} images x {part.passes:,} passes"
        for part in planned
    ]
    return lines


class Announcer:
    """Says what is done, and how long the rest takes at most at the speed so far."""

    def __init__(self, say: Say):
        self.say, self.started, self.total = say, time.monotonic(), 0

    def plan(self, said: list[dict[str, str]], planned: list[Planned]) -> None:
        """Before the first attack."""
        self.total, self.started = sum(part.total for part in planned), time.monotonic()
        for line in plan_lines(said, planned):
            self.say(line)

    def done(self, progress: Progress) -> None:
        """After an attack."""
        name = progress.name
        known = name.startswith(f"{progress.norm}_")
        title = attack_title(name if known else f"_{name}") if known or name in TITLES else name
        left = "" if progress.left is None else f": {progress.left} left"
        self.say(f"{NORMS[progress.norm]} {title}{left}{self._rest(progress.passes_left)}")

    def _rest(self, passes_left: int) -> str:
        spent, done = time.monotonic() - self.started, self.total - passes_left
        if not passes_left or done <= 0:
            return ""
        seconds = spent * passes_left / done
        words = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        return f"; at most about {words} to go"
