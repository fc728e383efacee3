"""The one error that a user is meant to read, and what a command makes of it."""

import io
import sys
from collections.abc import Callable

# Exit statuses of the commands beside 0 and 1: a time limit came first and the same command goes
# on; interrupted from the keyboard.
UNFINISHED, INTERRUPTED = 3, 130
# Characters of somebody else's message that are shown.
_LONGEST = 300


class UserError(ValueError):
    """Bad input: one line that names the thing and says the remedy.

    The runner, the command lines and the notebooks print its text alone and end with a non-zero
    status. Anything else that is raised is a defect of ours and keeps its traceback.
    """


def one_line(said: BaseException | str) -> str:
    """What an error says, of whatever kind it is, on one line; its kind where it says nothing."""
    text = " ".join(str(said).split()) or type(said).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class MissingDataError(UserError):
    """Images that are not at hand; what needs none of them can still be done."""


class OutOfTime(Exception):
    """The time limit was reached; everything so far is kept and goes on next time."""


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
