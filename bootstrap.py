#!/usr/bin/env python3
"""Set the project up in an environment of its own, then use it; needs nothing but Python 3.11.

  python3 bootstrap.py run [ARGS...]   runner.py with these arguments
  python3 bootstrap.py lab [ARGS...]   JupyterLab on the notebooks
  python3 bootstrap.py test [--fast]   all checks; --fast: the static ones and the quick tests
  python3 bootstrap.py docs            the pages, notebooks and reference as a site

uv installs the versions of uv.lock into .venv, or the folder that the variable LDAT_VENV names.
Where there is no uv, pip puts one into .uv.
"""

import os
import re
import signal
import subprocess
import sys
from shutil import which

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.abspath(os.path.expanduser(os.environ.get("LDAT_VENV") or ROOT + "/.venv"))
SCRIPTS = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
COMMANDS = {
    "run": [ROOT + "/runner.py"],
    "lab": ["-m", "jupyterlab", ROOT + "/notebooks"],
    "test": [ROOT + "/tools/checks.py"],
    "docs": [ROOT + "/tools/docs.py"],
}
# Groups of pyproject.toml that a command needs beside what all need.
GROUPS = {"test": ["--group", "docs"], "docs": ["--group", "docs"]}


def call(command, **options):
    """The exit status of a command; a signal that comes meanwhile ends the command, then this."""
    process, ended = subprocess.Popen(command, **options), None
    while process.poll() is None:
        try:
            process.wait()
        except SystemExit as signalled:
            ended = signalled
            # A terminal itself sends its Ctrl-C to the command as well.
            if ended.code == 143 or not (os.isatty(0) or os.isatty(2)):
                process.send_signal(ended.code - 128)
    if ended:
        raise ended
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def set_up(groups):
    if os.path.isdir(VENV) and os.listdir(VENV) and not os.path.exists(VENV + "/pyvenv.cfg"):
        sys.exit("bootstrap: %s is no virtual environment; name another in LDAT_VENV" % VENV)
    os.environ.update(PATH=os.environ["PATH"] + os.pathsep + ROOT + "/.uv/bin")
    if not which("uv"):
        with open(ROOT + "/uv.lock", encoding="utf-8") as lock:
            uv = "uv==" + re.search('name = "uv"\nversion = "(.+)"', lock.read()).group(1)
        if call([sys.executable, "-m", "pip", "install", "-q", "--target", ROOT + "/.uv", uv]):
            sys.exit(
                "bootstrap: no uv (see above); check network, install uv or pip (apt: python3-pip)"
            )
    python = which("python", path=SCRIPTS) or sys.executable
    sync = ["uv", "sync", "--locked", "--inexact", "--no-python-downloads", "--python", python]
    sync += groups
    options = {"cwd": ROOT, "env": dict(os.environ, UV_PROJECT_ENVIRONMENT=VENV)}
    # First without the network: that is all it takes where nothing has changed.
    if call(sync + ["--offline"], stderr=subprocess.DEVNULL, **options):
        print("bootstrap: installing uv.lock into %s (minutes, gigabytes)" % VENV, flush=True)
        if call(sync, **options):
            sys.exit("bootstrap: uv failed (see above); check network and disk, or run `uv lock`")


def main(argv):
    if argv in (["-h"], ["--help"]):
        return print(__doc__.strip())
    if sys.version_info < (3, 11):
        return "bootstrap: needs Python 3.11 or newer, as in `python3.12 bootstrap.py run`"
    if not argv or argv[0] not in COMMANDS:
        return "bootstrap: no command %s; choose from %s" % (argv[:1], ", ".join(COMMANDS))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    set_up(GROUPS.get(argv[0], []))
    return call([os.path.join(SCRIPTS, "python")] + COMMANDS[argv[0]] + argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
