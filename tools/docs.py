"""The documentation as a site: pages, notebooks as executed, live reports, the reference.

`python bootstrap.py docs` calls this; so can `uv run --group docs tools/docs.py`. A warning of
Sphinx is an error, and so is a link of any page that leads nowhere.
"""

import argparse
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import site_links  # noqa: E402
import site_sources  # noqa: E402

from bootstrap import call  # noqa: E402
from ldatlib.errors import UserError  # noqa: E402


def main() -> int | str:
    parser = argparse.ArgumentParser(prog="bootstrap.py docs", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="a folder of its own")
    folder = parser.parse_args().out.expanduser().resolve()
    if not find_spec("sphinx"):
        return "docs: no Sphinx here; use `python3 bootstrap.py docs`, or install the group `docs`"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    html, ours = folder / "html", folder / ".ldat-docs"
    # What lies there is replaced.
    known = not folder.exists() or not any(folder.iterdir()) or ours.is_file()
    if not known and not (html / ".buildinfo").is_file():
        return f"docs: {folder} is no site that Sphinx built; name another folder with --out"
    folder.mkdir(parents=True, exist_ok=True)
    ours.touch()
    # Its pages might be gone by now.
    shutil.rmtree(html, ignore_errors=True)
    sources, published = folder / "sources", folder / site_sources.PROFILE
    if status := site_sources.run_published(published):
        print(f"docs: the runner ended with exit status {status} (see above)", flush=True)
        return status
    try:
        site_sources.gather(sources, folder / "reports", published)
    except UserError as error:
        return f"docs: {error}"
    print("docs: building, a minute at most on two idle cores", flush=True)
    # Read anew, as Sphinx repeats no warning of a page that has not changed.
    strict = ["--quiet", "--fail-on-warning", "--keep-going", "--fresh-env", "--jobs", "auto"]
    paths = ["-c", "docs", "-d", str(folder / "doctrees"), str(sources), str(html)]
    status = call([sys.executable, "-m", "sphinx", *strict, *paths], cwd=ROOT)
    if status:
        print(f"docs: Sphinx ended with exit status {status} (see above)", flush=True)
        return status
    shutil.copytree(folder / "reports", html / "reports")
    if broken := site_links.broken(html):
        return "docs: links that lead nowhere:\n" + "\n".join(broken)
    print(f"docs: {html / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
