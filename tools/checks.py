"""Every check of the project, one after another, until one fails.

`python bootstrap.py test` calls this; so can `uv run tools/checks.py`.
"""

import argparse
import shlex
import signal
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bootstrap import call  # noqa: E402

SCRIPTS = Path(sysconfig.get_path("scripts"))
STATIC = {
    "style": "ruff check",
    "format": "ruff format --check",
    "imports": "lint-imports",
    "types": "mypy",
}
# A file of tests stays in one process: its fixtures, trainings among them, are made once.
FULL = STATIC | {
    "unit tests": "python -m pytest -n 2 --dist loadfile",
    "demo": "python runner.py",
    "notebooks": "python -m pytest --nbval-lax --nbval-current-env notebooks",
}
FAST = STATIC | {"quick unit tests": "python -m pytest -n 2 --dist loadfile -m 'not slow'"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bootstrap.py test", description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="the static checks and quick tests")
    stages = FAST if parser.parse_args().fast else FULL
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    for stage, command in stages.items():
        print(f"checks: {stage} ({command})", flush=True)
        program, *arguments = shlex.split(command)
        status = call([str(SCRIPTS / program), *arguments], cwd=ROOT)
        if status:
            print(f"checks: {stage} failed with exit status {status}", flush=True)
            return status
    print("checks: all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
