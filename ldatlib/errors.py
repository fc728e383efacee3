"""The one error that a user is meant to read, and what a command makes of it."""

import io
import sys
from collections.abc import Callable
from numbers import Integral

# Exit statuses of the commands beside 0 and 1: a time limit came first and the same command goes
# on; interrupted from the keyboard.
UNFINISHED, INTERRUPTED = 3, 130
# Characters of somebody else's message that are shown; of a line of ours, whatever was quoted.
_LONGEST, _LONGEST_LINE = 300, 1000


class UserError(ValueError):
    """Bad input: one line that names the thing and says the remedy.

    The runner, the command lines and the notebooks print its text alone and end with a non-zero
    status. Anything else that is raised is a defect of ours and keeps its traceback. Whatever it
    quotes, it stays one line: line ends become spaces, and of a very long one the middle is left
    out.
    """

    def __init__(self, text: str):
        line = " ".join(text.splitlines())
        if len(line) > _LONGEST_LINE:
            half = _LONGEST_LINE // 2
            line = f"{line[:half]} ... {line[-half:]}"
        super().__init__(line)


def one_line(said: BaseException | str) -> str:
    """What an error says, of whatever kind it is, on one line; its kind where it says nothing."""
    text = " ".join(str(said).split()) or type(said).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class MissingDataError(UserError):
    """Images that are not at hand; what needs none of them can still be done."""


class Unwritable(UserError):
    """A file or folder that cannot be written; what only saves time is done without."""


class OutOfTime(Exception):
    """The time limit was reached; everything so far is kept and goes on next time."""


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raises ``UserError`` where ``value``, called ``name``, is no whole number from ``least``."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}")


def check_deadline(deadline: object) -> None:
    """Raises ``UserError`` where ``deadline`` is neither None nor a time."""
    if deadline is None:
        return
    number = isinstance(deadline, int | float) and not isinstance(deadline, bool)
    if not number or deadline != deadline:
        raise UserError(
            f"deadline must be in seconds of time.time(), such as time.time() + 600, not "
            f"{deadline!r}"
        )


class Busy(UserError):
    """Another process is computing this."""


def exit_status(work: Callable[[], int]) -> int:
    """The exit status of ``work``, with one line for whatever a user is meant to read.

    What the terminal's encoding lacks, of a class's name say, is written as ``\\u732b``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return work()
    except OutOfTime as stop:
        print(f"{stop}; the same command goes on from there", flush=True)
        return UNFINISHED
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was computed stays and is used next time", file=sys.stderr)
        return INTERRUPTED
