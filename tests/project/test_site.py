"""The site: every page is in it, the reference is whole, it builds in silence and offline."""

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml
from tiny import PROJECT

import ldatlib

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
    found = {*DOCS.glob("*.md"), *REFERENCE.glob("*.rst"), *PROJECT.glob("notebooks/*.ipynb")}
    found |= {PROJECT / "CHANGELOG.md", PROJECT / "CONTRIBUTING.md"}
    found |= {PROJECT / folder / "README.md" for folder in ("benchmarks", "data")}
    found.add(PROJECT / "ldatlib" / "report" / "paper_tables" / "README.md")
    return {str(path.relative_to(PROJECT).with_suffix("")) for path in found - {CONTENTS}}


def test_every_page_and_notebook_is_in_the_contents_once():
    entries = listed()
    assert len(entries) == len(set(entries))
    assert set(entries) == pages()


def test_notebooks_keep_their_order():
    numbers = [entry for entry in listed() if entry.startswith("notebooks/")]
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
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "letter.html").touch()
    done = build(tmp_path)
    assert done.returncode == 1 and "no site that Sphinx built" in done.stderr
    assert (tmp_path / "html" / "letter.html").exists()


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


@pytest.mark.slow
def test_pages_and_formulas_draw_without_a_network(site, page):
    page.context.set_offline(True)
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in ("index", "docs/cifar10", "docs/reference/library", "notebooks/05_ablations"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.locator("h1").count() == 1
    page.wait_for_selector("mjx-container svg")
    formulas = page.locator(".math").count()
    assert formulas > 10 and page.locator("mjx-container").count() == formulas
    assert not errors
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]
