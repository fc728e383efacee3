"""The one error that a user is meant to read."""


class UserError(ValueError):
    """Bad input: one line that names the thing and says the remedy.

    The runner, the command lines and the notebooks print its text alone and end with a non-zero
    status. Anything else that is raised is a defect of ours and keeps its traceback.
    """


class MissingDataError(UserError):
    """Images that are not at hand; what needs none of them can still be done."""


class OutOfTime(Exception):
    """The time limit was reached; everything so far is kept and goes on next time."""


class Busy(UserError):
    """Another process is computing this."""
