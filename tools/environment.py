"""Write environment.yml from uv.lock: `python tools/environment.py` (needs uv).

conda-forge supplies Python and pip alone. Everything else is pinned for pip, so that conda, pip
and uv users run the same builds.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPORT = [
    "export",
    "--locked",
    "--all-extras",
    "--all-groups",
    "--no-hashes",
    "--no-emit-project",
    "--no-annotate",
    "--no-header",
    "--format",
    "requirements-txt",
]
HEAD = """\
# Generated from uv.lock by tools/environment.py: change pyproject.toml, run `uv lock`, then that.
# Use it as `conda env create -f environment.yml`.
name: ldat
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""
TAIL = """\
    # The project itself, from the folder of this file.
    - -e .
"""


def pinned_requirements() -> list[str]:
    """The closure of all extras and groups as `name==version ; marker` lines."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        sys.exit("environment.py: uv is not installed; install it with `pip install uv`")
    done = subprocess.run([uv, *EXPORT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("environment.py: uv.lock does not fit pyproject.toml; run `uv lock` first")
    return [line for line in done.stdout.splitlines() if "==" in line]


def main() -> None:
    # Markers hold single quotes alone, so double quotes make any of them one YAML string.
    lines = [f'    - "{requirement}"\n' for requirement in pinned_requirements()]
    (ROOT / "environment.yml").write_text(HEAD + "".join(lines) + TAIL, encoding="utf-8")
    print(f"environment.yml: {len(lines)} pinned packages")


if __name__ == "__main__":
    main()
