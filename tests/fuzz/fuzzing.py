"""How a generated call may end: it succeeds, or is refused in one line that names the thing.

Everything else is a finding: another exception, several lines, a line that names nothing, warning
after warning, seconds for a small thing, or a wrong result, which the calls themselves assert.
"""

import contextlib
import io
import os
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ldatlib.errors import UserError

# Of the processor; a whole one on a busy machine would say nothing.
MOST_SECONDS = 5.0
# Of the clock, after which a call is broken off.
BROKEN_OFF = 300
MOST_CHARACTERS, MOST_WARNINGS, MOST_LINES = 1500, 5, 10
SLOW = "slow:"
SUCCESS, REFUSAL, FINDING = "success", "refusal", "finding"


@dataclass(frozen=True)
class Target:
    """One kind of call. ``call(case, folder)`` ends in a folder of its own, or raises.

    ``names`` are the words of which a refusal must say one; ``share`` is its part of all calls.
    """

    name: str
    about: str
    cases: SearchStrategy
    call: Callable[[Any, Path], None]
    names: Callable[[Any], Iterable[str]]
    share: float


def mostly(good: SearchStrategy, *bad: SearchStrategy, of: int = 8) -> SearchStrategy:
    """One of ``bad`` in one case of so many: a call in which all is wrong ends at the first."""
    rest = st.one_of(*bad)
    return st.integers(1, of).flatmap(lambda n: rest if n == of else good)


@dataclass
class Tally:
    """What came of the calls of a target."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class BrokenOff(BaseException):
    """A call took longer than anybody waits."""


def _break_off(*_):
    raise BrokenOff


@contextlib.contextmanager
def _clocked():
    before = signal.signal(signal.SIGALRM, _break_off)
    signal.alarm(BROKEN_OFF)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(target: Target, case: Any) -> tuple[str, str]:
    """How the call ends, and what is said: a refusal's line, or what is wrong."""
    ending, said = _attempt(target, case)
    # The first of its kind has imported something.
    return _attempt(target, case) if said.startswith(SLOW) else (ending, said)


def _attempt(target: Target, case: Any) -> tuple[str, str]:
    said, printed = "", io.StringIO()
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, contextlib.ExitStack() as stack:
        stack.enter_context(_clocked())
        warned = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("default")
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        started = time.process_time()
        try:
            target.call(case, Path(name))
            ending = SUCCESS
        except UserError as error:
            ending, said = REFUSAL, str(error)
        except KeyboardInterrupt:
            raise
        except BrokenOff as error:
            return FINDING, f"{SLOW} {_of(error)}"
        except BaseException as error:
            return FINDING, _of(error)
        finally:
            os.chdir(here)
        took = time.process_time() - started
    wrong = _wrong(ending, said, took, warned, printed.getvalue(), list(target.names(case)))
    return (FINDING, wrong) if wrong else (ending, said)


def _of(error: BaseException) -> str:
    """The kind of an exception, its text, and the innermost line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/ldatlib/" in f.filename or f.filename.endswith("runner.py")]
    last = (ours or frames)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {error}"[:600]


def _wrong(
    ending: str, said: str, took: float, warned: list, printed: str, names: list[str]
) -> str | None:
    if took > MOST_SECONDS:
        return f"{SLOW} it took {took:.1f} s"
    texts = {str(warning.message) for warning in warned}
    if len(texts) > MOST_WARNINGS or len(printed.splitlines()) > MOST_LINES:
        return f"a wall of words: {sorted(texts)[:2]}, {printed[:200]!r}"
    if ending == REFUSAL:
        if len(said.splitlines()) != 1 or not said.strip():
            return f"not one line: {said!r}"
        if len(said) > MOST_CHARACTERS:
            return f"a line of {len(said)} characters: {said[:300]}"
        if names and not any(name in said for name in names):
            return f"it names none of {names[:5]}: {said}"
    return None


def run(target: Target, examples: int, of: int | None = None) -> Tally:
    """So many calls of a target; the seed ``of``, or the same ones every time."""
    tally = Tally()

    def one(case):
        ending, said = attempt(target, case)
        tally.counts[ending] += 1
        if ending == FINDING:
            tally.findings.setdefault(kind_of(said), f"{said}\n    case: {case!r:.1500}")

    check = given(target.cases)(one)
    check = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=of is None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(check)
    started = time.perf_counter()
    (check if of is None else seed(of)(check))()
    tally.seconds = time.perf_counter() - started
    return tally


def kind_of(finding: str) -> str:
    """Findings of one kind begin alike; one of each is kept."""
    return finding[:60]
