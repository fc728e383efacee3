#!/usr/bin/env python3
"""Set the project up in an environment of its own, then use it; needs nothing but Python 3.11.

  python3 bootstrap.py run [ARGS...]   runner.py with these arguments
  python3 bootstrap.py test            unit tests, the demo, the notebooks
  python3 bootstrap.py lab [ARGS...]   JupyterLab on the notebooks

The environment is .venv, or the folder that the variable LDAT_VENV names. It gets the versions of
uv.lock, once: it is set up again only when uv.lock or pyproject.toml has changed.
"""

from __future__ import print_function

import hashlib
import os
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.abspath(__file__))
OLDEST_PYTHON = (3, 11)
STAMP = "ldat-set-up.sha256"
INTERRUPTED, TERMINATED = 130, 143


class BootstrapError(Exception):
    """A failure that its message explains in one line."""


def say(stage):
    print("bootstrap: " + stage, flush=True)


def call(command, cwd=None):
    """Run a command to its end and return its exit status."""
    process = subprocess.Popen(command, cwd=cwd)
    interrupted = False
    while True:
        try:
            status = process.wait()
            break
        except KeyboardInterrupt:
            # A terminal interrupts the command too, which may then still save or ask; without
            # one the signal came to this process alone.
            if not (interrupted or sys.stdin.isatty() or sys.stderr.isatty()):
                process.send_signal(signal.SIGINT)
            interrupted = True
        except SystemExit:
            process.terminate()
            process.wait()
            raise
    if interrupted:
        raise KeyboardInterrupt
    return status if status >= 0 else 128 - status


def environment_folder():
    chosen = os.environ.get("LDAT_VENV")
    return os.path.abspath(os.path.expanduser(chosen)) if chosen else os.path.join(ROOT, ".venv")


def environment_python(folder):
    parts = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return os.path.join(folder, *parts)


def read(name):
    path = os.path.join(ROOT, name)
    if not os.path.isfile(path):
        raise BootstrapError("%s is missing; start from a complete copy of the project" % path)
    with open(path, "rb") as file:
        return file.read()


def fingerprint():
    """What the environment was made from; the folder, as an editable install points to it."""
    digest = hashlib.sha256()
    for part in (read("uv.lock"), read("pyproject.toml"), ROOT.encode()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def constraints(lock):
    """The text of uv.lock as pip constraints, one line for each third-party version."""
    import tomllib

    packages = [p for p in tomllib.loads(lock)["package"] if "registry" in p["source"]]
    lines = []
    for package in packages:
        line = "%s==%s" % (package["name"], package["version"])
        # uv writes these markers where several versions of one package are locked.
        markers = package.get("resolution-markers")
        if markers:
            line += " ; " + " or ".join("(%s)" % marker for marker in markers)
        lines.append(line)
    return "\n".join(lines) + "\n"


def refuse_foreign(folder):
    """A system's own Python, or any folder in use, is nothing to install into."""
    marks = ("pyvenv.cfg", "conda-meta")
    if os.path.isdir(folder) and os.listdir(folder):
        if not any(os.path.exists(os.path.join(folder, mark)) for mark in marks):
            raise BootstrapError(
                "%s is not a virtual environment; let LDAT_VENV name another folder" % folder
            )


def has_pip(python):
    """Whether an environment is there and whole: one that was cut off has no pip."""
    if not os.path.exists(python):
        return False
    command = [python, "-m", "pip", "--version"]
    return not subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def create_environment(folder):
    from importlib.util import find_spec

    # Debian packs these two apart from Python itself.
    if not (find_spec("venv") and find_spec("ensurepip")):
        raise BootstrapError(
            "%s has no venv module to make an environment with; install it (Debian, Ubuntu: "
            "`apt install python%d.%d-venv`)" % ((sys.executable,) + sys.version_info[:2])
        )
    say("creating the environment in " + folder)
    if call([sys.executable, "-m", "venv", folder]):
        raise BootstrapError(
            "could not make %s (the reason stands above); "
            "delete what is left of it, or let LDAT_VENV name another folder" % folder
        )


def set_up(folder):
    """Make the environment and install the project into it, unless that has been done."""
    stamp, wanted = os.path.join(folder, STAMP), fingerprint()
    python = environment_python(folder)
    if os.path.exists(python) and os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == wanted:
                return
    refuse_foreign(folder)
    if os.path.exists(stamp):
        os.remove(stamp)
    if not has_pip(python):
        create_environment(folder)

    say("installing the packages of uv.lock (only this once; some minutes, some gigabytes)")
    handle, pins = tempfile.mkstemp(suffix=".txt", prefix="ldat-constraints-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(constraints(read("uv.lock").decode("utf-8")))
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        status = call(pip + ["-e", ".[notebooks,test]", "-c", pins], cwd=ROOT)
    finally:
        os.remove(pins)
    if status:
        raise BootstrapError(
            "pip could not install the packages (its reason stands above); "
            "check the network connection and the free disk space, then try again"
        )
    # Written last: an install that was cut off has no stamp and is done again.
    with open(stamp, "w") as file:
        file.write(wanted)


def run(python, args):
    return call([python, os.path.join(ROOT, "runner.py")] + args)


def test(python, _):
    pytest = [python, "-m", "pytest"]
    stages = (
        ("unit tests", pytest),
        ("the demo", [python, "runner.py"]),
        ("notebooks", pytest + ["--nbval-lax", "--nbval-current-env", "notebooks"]),
    )
    for stage, command in stages:
        say(stage)
        status = call(command, cwd=ROOT)
        if status:
            say("%s failed with exit status %d" % (stage, status))
            return status
    say("all passed")
    return 0


def lab(python, args):
    say("JupyterLab on notebooks/ (Ctrl-C ends it)")
    return call([python, "-m", "jupyterlab", "notebooks"] + args, cwd=ROOT)


COMMANDS = {"run": run, "test": test, "lab": lab}


def main(argv):
    if sys.version_info < OLDEST_PYTHON:
        found = "%d.%d" % sys.version_info[:2]
        sys.stderr.write("bootstrap: needs Python 3.11 or newer, this is %s; " % found)
        sys.stderr.write("call it with a newer one, as in `python3.12 bootstrap.py run`\n")
        return 2
    if argv and argv[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    if not argv or argv[0] not in COMMANDS:
        given = "unknown command '%s'" % argv[0] if argv else "no command given"
        print("bootstrap: %s; choose from: %s" % (given, ", ".join(COMMANDS)), file=sys.stderr)
        return 2
    if argv[0] == "test" and argv[1:]:
        print(
            "bootstrap: test takes no arguments; leave out: " + " ".join(argv[1:]), file=sys.stderr
        )
        return 2
    # Nothing that was started here outlives a terminated bootstrap.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        folder = environment_folder()
        set_up(folder)
        return COMMANDS[argv[0]](environment_python(folder), argv[1:])
    except (BootstrapError, OSError) as error:
        print("bootstrap: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bootstrap: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
