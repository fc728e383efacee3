"""The site: every page is in it, the reference is whole, it builds in silence and offline."""

import importlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml
from tiny import PROJECT

import ldatlib

sys.path.insert(0, str(PROJECT / "tools"))
import site_links  # noqa: E402
import site_notebooks  # noqa: E402
import site_sources  # noqa: E402

DOCS = PROJECT / "docs"
CONTENTS = DOCS / "index.md"
REFERENCE = DOCS / "reference"
WORKFLOWS = PROJECT / ".github" / "workflows"
# Packages whose ``__all__`` is for users.
PACKAGES = ("ldatlib.defences", "ldatlib.data", "ldatlib.study.records") + tuple(
    f"ldatlib.report.{name}"
    for name in ("tables", "figures", "charts", "claims", "conclusions", "document", "widgets")
)


def listed() -> list[str]:
    """The entries of the contents, without README itself, as paths of the project."""
    text = CONTENTS.read_text(encoding="utf-8")
    blocks = re.findall(r"^:::\{toctree\}\n(.*?)^:::$", text, re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^.+<(\S+)>$", "".join(blocks), re.MULTILINE)
    assert entries.count("self") == 1
    return [entry.removeprefix("/") for entry in entries if entry != "self"]


def pages() -> set[str]:
    """Whatever a reader may want: Markdown, the reference, notebooks, without their endings."""
    notebooks = set(PROJECT.glob("notebooks/*.ipynb"))
    found = {*DOCS.glob("*.md"), *REFERENCE.glob("*.rst"), *notebooks}
    found |= {PROJECT / "CHANGELOG.md", PROJECT / "CONTRIBUTING.md"}
    found |= {PROJECT / folder / "README.md" for folder in ("benchmarks", "data")}
    found.add(PROJECT / "ldatlib" / "report" / "paper_tables" / "README.md")
    found |= {PROJECT / site_sources.PROFILE / path.name for path in notebooks}
    # What tools/site_sources.py writes.
    found.add(PROJECT / "reports.md")
    return {str(path.relative_to(PROJECT).with_suffix("")) for path in found - {CONTENTS}}


def test_every_page_and_notebook_is_in_the_contents_once():
    entries = listed()
    assert len(entries) == len(set(entries))
    assert set(entries) == pages()


def test_notebooks_keep_their_order():
    for folder in ("notebooks/", f"{site_sources.PROFILE}/"):
        numbers = [entry for entry in listed() if entry.startswith(folder)]
        assert numbers == sorted(numbers)


# --- the reference -------------------------------------------------------------------------------


def described() -> dict[str, set[str]]:
    """Name of a directive of the reference -> what it is given."""
    found: dict[str, set[str]] = {}
    for page in REFERENCE.glob("*.rst"):
        for kind, name in re.findall(r"^\.\. (auto\w+):: (\S+)$", page.read_text(), re.MULTILINE):
            found.setdefault(kind, set()).add(name)
    return found


def test_every_public_name_is_described():
    kinds = described()
    names = kinds["autofunction"] | kinds["autoclass"] | kinds["autoexception"]
    assert set(ldatlib.__all__) <= names
    summary = re.search(
        r"autosummary::\n\n((?:   \w+\n)+)", (REFERENCE / "library.rst").read_text()
    )
    assert sorted(summary[1].split()) == ldatlib.__all__


def test_every_public_package_is_described_with_its_constants():
    kinds = described()
    assert kinds["automodule"] == set(PACKAGES)
    for package in PACKAGES:
        module = importlib.import_module(package)
        # autodoc takes what has a docstring of its own.
        bare = {name for name in module.__all__ if not hasattr(getattr(module, name), "__name__")}
        assert bare <= kinds["autodata"], package


# --- workflows -----------------------------------------------------------------------------------


def steps(name: str) -> dict[str, list[dict]]:
    jobs = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))["jobs"]
    return {job: content["steps"] for job, content in jobs.items()}


@pytest.mark.parametrize("name", ["tests.yml", "pages.yml"])
def test_a_workflow_can_be_read_and_calls_the_bootstrap(name):
    content = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    assert content["permissions"] == {"contents": "read"} and content[True]
    known = {"tests.yml": "python bootstrap.py test", "pages.yml": "python bootstrap.py docs"}
    commands = [step["run"] for job in steps(name).values() for step in job if "run" in step]
    assert commands[-1] == known[name]
    actions = [step["uses"] for job in steps(name).values() for step in job if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in actions)


def test_what_is_built_is_published_with_the_rights_that_takes():
    jobs = yaml.safe_load((WORKFLOWS / "pages.yml").read_text(encoding="utf-8"))["jobs"]
    upload = jobs["build"]["steps"][-1]
    assert upload["uses"].startswith("actions/upload-pages-artifact@")
    # Where tools/docs.py writes unless told otherwise.
    assert upload["with"]["path"] == "site/html"
    assert jobs["deploy"]["needs"] == "build"
    assert jobs["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert jobs["deploy"]["steps"][-1]["uses"].startswith("actions/deploy-pages@")


# --- what runs have made -------------------------------------------------------------------------


def cell(source, *tags, kind="code"):
    return {"cell_type": kind, "metadata": {"tags": list(tags)}, "source": source}


def notebook(*cells, **told):
    kernel = {"kernelspec": {"name": "python3"}, "language_info": {"name": "python"}}
    return {"cells": list(cells), "metadata": {**kernel, **told}, "nbformat": 4}


HEAD = cell("# 03. White box\n\n**The question.**", kind="markdown")
GIVEN = cell('profile = "demo"\nout = None', "parameters")
INJECTED = cell('profile = "cifar10-published"\nout = "/home/somebody/run"', "injected-parameters")
TOLD = {"exception": None, "parameters": {"profile": "cifar10-published", "overrides": {}}}


def executed(folder, ran, profile="cifar10-published"):
    original, path = folder / "original.ipynb", folder / "ran.ipynb"
    original.write_text(json.dumps(notebook(HEAD, GIVEN)), encoding="utf-8")
    path.write_text(json.dumps(ran), encoding="utf-8")
    return site_notebooks.executed(path, original, profile)


def test_a_notebook_of_a_run_is_taken_where_it_is_whole_and_of_today(tmp_path):
    ran = notebook(HEAD, GIVEN, INJECTED, papermill=TOLD)
    assert executed(tmp_path, ran) == ran
    assert executed(tmp_path, ran, "demo") is None
    for other in (
        {"exception": True},
        {"parameters": {**TOLD["parameters"], "overrides": {"a": 1}}},
    ):
        assert executed(tmp_path, {**ran, "metadata": {"papermill": {**TOLD, **other}}}) is None
    assert executed(tmp_path, notebook(HEAD, GIVEN, cell("1"), papermill=TOLD)) is None
    assert site_notebooks.executed(tmp_path / "none", tmp_path / "none", "demo") is None


def test_a_page_has_the_parameters_of_a_reader_and_no_folder_of_a_machine():
    ran = notebook(HEAD, GIVEN, INJECTED, papermill=TOLD)
    page = site_notebooks.shown(ran, "cifar10-published", " (CIFAR-10)", "*Here.*")
    assert "somebody" not in json.dumps(page) and "papermill" not in page["metadata"]
    first, parameters = (one["source"] for one in page["cells"])
    assert first == "# 03. White box (CIFAR-10)\n\n*Here.*\n\n**The question.**"
    assert parameters == 'profile = "cifar10-published"\nout = None'


def test_a_notebook_that_was_not_executed_says_which_results_are_missing():
    text = site_notebooks.absent(
        "# 05. Ablations", ["train b-s0", "train a-s0", "basic b-s0"], "Elsewhere."
    )
    assert "3 of its results are not published" in text
    assert "- `a-s0`: train\n- `b-s0`: train, basic\n" in text


def test_links_to_nothing_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here"></h1><a href="#here"></a><a href="b.html#there"></a><img src="https://x/y">',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>', encoding="utf-8")
    assert site_links.broken(tmp_path) == []
    (tmp_path / "b.html").write_text('<a href="c.csv"></a><a href="../x"></a>', encoding="utf-8")
    assert site_links.broken(tmp_path) == ["a.html: b.html#there", "b.html: ../x", "b.html: c.csv"]


# --- built ---------------------------------------------------------------------------------------


class Loaded(HTMLParser):
    """What a page asks for by itself: scripts, styles, pictures; not what a reader may click on."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        source = values.get("src") or (values.get("href") if tag == "link" else None)
        if source:
            self.found.append(source)


def build(folder) -> subprocess.CompletedProcess:
    pytest.importorskip("sphinx", reason="Sphinx is not installed (group docs)")
    command = [sys.executable, str(PROJECT / "tools" / "docs.py"), "--out", str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    for name in ("html", "sources"):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        (folder / "letter.html").touch()
        done = build(folder.parent)
        assert done.returncode == 1 and "no site that Sphinx built" in done.stderr
        assert (folder / "letter.html").exists()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"docs: {folder / 'html' / 'index.html'}"
    return folder / "html"


@pytest.mark.slow
def test_the_site_has_every_page_and_asks_nobody_for_anything(site):
    for page in [*listed(), "index", "docs/examples/label_smoothing"]:
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        outside = [source for source in Loaded(text).found if re.match(r"(\w+:)?//", source)]
        assert not outside, page
    # A notebook is shown with the pictures and tables that are committed with it.
    scrutiny = (site / "notebooks" / "09_scrutiny.html").read_text(encoding="utf-8")
    assert scrutiny.count("<img") >= 5 and "T_scrutiny" in scrutiny
    white_box = (site / site_sources.PROFILE / "03_white_box.html").read_text(encoding="utf-8")
    assert "CIFAR-10 (JPEG copy)" in white_box and white_box.count("<img") >= 2
    assert (site / "reports" / site_sources.PROFILE / "report.html").is_file()


@pytest.mark.slow
def test_pages_and_formulas_draw_without_a_network(site, page):
    page.context.set_offline(True)
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    report = f"reports/{site_sources.PROFILE}/report"
    page.goto((site / f"{report}.html").as_uri())
    for name in ("index", "docs/cifar10", "docs/reference/library", "notebooks/05_ablations"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.locator("h1").count() == 1
    page.wait_for_selector("mjx-container svg")
    formulas = page.locator(".math").count()
    assert formulas > 10 and page.locator("mjx-container").count() == formulas
    assert not errors
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]
