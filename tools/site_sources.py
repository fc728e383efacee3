"""The sources of the site: the pages of the checkout, and beside them what its runs have made.

The profile ``cifar10-published`` is run here, unless it has been on the same files; of the demo a
finished run in runs/demo is taken, and without one its notebooks as they are committed.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import site_notebooks

from bootstrap import call
from ldatlib.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PROFILE, DEMO = "cifar10-published", "demo"
# What is a page, or linked from one.
COPIED = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", "notebooks", "benchmarks"),
    *("data/README.md", "ldatlib/report/paper_tables"),
)
# What decides how a notebook of the published profile looks.
DECIDES = ("runner.py", "uv.lock", "ldatlib", "notebooks", "data/results/cifar10-small")
_IGNORED = shutil.ignore_patterns("__pycache__", ".*")
ON_CIFAR10 = f"*Executed on CIFAR-10, profile `{PROFILE}`; the same on [the demo's digits]({{}}).*"
ON_DIGITS = "*Executed on the digits of the demo; the same on [CIFAR-10]({}).*"
REPORTS = """\
# The live reports

A run leaves one page, `report.html`: findings, the claims of the paper with their verdicts, tables
that can be sorted and filtered, charts that answer to a pointer. It needs no network and no Python.

{}

![The beginning of a report: findings, verdicts, a figure](docs/images/report.png)
"""


def fingerprint() -> str:
    """Of all files that the notebooks of the published profile are made from."""
    found = hashlib.sha256()
    for name in DECIDES:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def run_published(folder: Path) -> int:
    """Execute the notebooks of what is published of CIFAR-10, into ``folder``; exit status."""
    made, own = folder / "made-of.txt", fingerprint()
    if made.is_file() and made.read_text(encoding="utf-8") == own:
        return 0
    if folder.exists():
        shutil.rmtree(folder)
    print(f"docs: executing the notebooks of {PROFILE}, some minutes", flush=True)
    command = [sys.executable, "runner.py", "--profile", PROFILE, "--out", str(folder)]
    status = call(command, cwd=ROOT)
    if not status:
        made.write_text(own, encoding="utf-8")
    return status


def missing(folder: Path) -> dict[str, list[str]]:
    """Number of a notebook -> the results that it needs and that are not published."""
    from ldatlib.study.notebooks import COMPUTES, plan
    from ldatlib.study.run import open_run

    run = open_run(PROFILE, out=folder, jobs=1)
    return {number: [job.name for job in plan(run, number) if not job.done] for number in COMPUTES}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def put_notebooks(folder: Path, published: Path, demo: Path) -> None:
    """Every notebook twice: of the demo in ``notebooks``, of CIFAR-10 in ``cifar10-published``."""
    lacking = missing(published)
    for original in sorted((ROOT / "notebooks").glob("*.ipynb")):
        name = original.name
        run = site_notebooks.executed(demo / "notebooks" / name, original, DEMO)
        committed = json.loads(original.read_text(encoding="utf-8"))
        found = site_notebooks.executed(published / "notebooks" / name, original, PROFILE)
        there = f"../{PROFILE}/{name if found else original.stem + '.md'}"
        page = site_notebooks.shown(run or committed, DEMO, "", ON_DIGITS.format(there))
        write(folder / "notebooks" / name, json.dumps(page))
        here = ON_CIFAR10.format(f"../notebooks/{name}")
        if found:
            page = site_notebooks.shown(found, PROFILE, " (CIFAR-10)", here)
            write(folder / PROFILE / name, json.dumps(page))
            continue
        if not lacking[name[:2]]:
            raise UserError(f"{published} lacks {name} although all its results are there")
        heading = "".join(committed["cells"][0]["source"]).partition("\n")[0]
        other = f"The same on [the demo's digits](../notebooks/{name})."
        text = site_notebooks.absent(f"{heading} (CIFAR-10)", lacking[name[:2]], other)
        write(folder / PROFILE / f"{original.stem}.md", text)


def put_reports(folder: Path, reports: Path, published: Path, demo: Path) -> None:
    """The page of the live reports, and the reports with the records that they link."""
    original = next((ROOT / "notebooks").glob("10_*.ipynb"))
    said = []
    for profile, run, what in (
        (PROFILE, published, "CIFAR-10, as measured here"),
        (DEMO, demo, "The demo's digits"),
    ):
        report = run / "report.html"
        whole = site_notebooks.executed(run / "notebooks" / original.name, original, profile)
        # The published one is always there: it was run for this.
        if profile == DEMO and (whole is None or not report.is_file()):
            said.append(
                f"- {what}: not here, as this site was built without a finished run of the demo. "
                "`python3 bootstrap.py run` makes `runs/demo/report.html`; its numbers stand in "
                "[the demo's digits](docs/demo.md)."
            )
            continue
        target = reports / profile
        target.mkdir(parents=True)
        shutil.copy(report, target)
        (target / "records").mkdir()
        for record in (run / "records").glob("*.json"):
            shutil.copy(record, target / "records")
        size = report.stat().st_size / 1e6
        link = f'<a href="reports/{profile}/report.html">open the report</a>'
        said.append(f"- {what} (profile `{profile}`): {link}, {size:.1f} MB.")
    write(folder / "reports.md", REPORTS.format("\n".join(said)))


def gather(folder: Path, reports: Path, published: Path) -> None:
    """All sources into ``folder``, and into ``reports`` what the site takes as it is."""
    for target in (folder, reports):
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_IGNORED)
        else:
            shutil.copy(source, target)
    demo = ROOT / "runs" / DEMO
    put_notebooks(folder, published, demo)
    put_reports(folder, reports, published, demo)
