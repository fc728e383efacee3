"""The documentation as a site: pages, notebooks as committed, and the reference of the library.

`python bootstrap.py docs` calls this; so can `uv run --group docs tools/docs.py`. A warning of
Sphinx, such as a link that leads nowhere, is an error.
"""

import argparse
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bootstrap import call  # noqa: E402


def main() -> int | str:
    parser = argparse.ArgumentParser(prog="bootstrap.py docs", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="a folder of its own")
    folder = parser.parse_args().out.expanduser().resolve()
    if not find_spec("sphinx"):
        return "docs: no Sphinx here; use `python3 bootstrap.py docs`, or install the group `docs`"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    html = folder / "html"
    if html.exists() and any(html.iterdir()):
        if not (html / ".buildinfo").is_file():
            return f"docs: {html} is no site that Sphinx built; name another folder with --out"
        # Its pages might be gone by now.
        shutil.rmtree(html)
    print("docs: building, a minute at most on two idle cores", flush=True)
    # Read anew, as Sphinx repeats no warning of a page that has not changed.
    strict = ["--quiet", "--fail-on-warning", "--keep-going", "--fresh-env", "--jobs", "auto"]
    paths = ["-c", "docs", "-d", str(folder / "doctrees"), ".", str(html)]
    status = call([sys.executable, "-m", "sphinx", *strict, *paths], cwd=ROOT)
    if status:
        print(f"docs: Sphinx ended with exit status {status} (see above)", flush=True)
        return status
    print(f"docs: {html / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
