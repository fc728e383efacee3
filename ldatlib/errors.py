"""The one error that a user is meant to read."""


class UserError(ValueError):
    """Bad input: one line that names the thing and says the remedy.

    The runner, the command lines and the notebooks print its text alone and end with a non-zero
    status. Anything else that is raised is a defect of ours and keeps its traceback.
    """
