"""The pages say what is there: links, names, commands and Python blocks are tried.

Python blocks are run as they are printed, in the order of their page and in one namespace. So that
this takes seconds, what they ask for is made small: the profile ``demo`` is the tests' tiny one,
``train`` trains a single epoch, and a few small pictures stand in the current folder. A block after
``<!-- test: skip, REASON -->`` is left out.
"""

import contextlib
import importlib
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import PROJECT, TINY

import ldatlib
from ldatlib import __main__ as ldat
from ldatlib.errors import UserError
from ldatlib.study import plugins, profiles, run
from ldatlib.study.kinds import KINDS
from ldatlib.study.settings import parse_assignments

sys.path.insert(0, str(PROJECT))
import runner  # noqa: E402

PAGES = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "CHANGELOG.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
    PROJECT / "data" / "README.md",
    PROJECT / "benchmarks" / "README.md",
    PROJECT / "ldatlib" / "report" / "paper_tables" / "README.md",
]
README, MAP, CHANGELOG = PAGES[0], PROJECT / "docs" / "map.md", PAGES[2]
# Written by a run, fetched, or made by an environment: not part of the project.
ELSEWHERE = ("runs/", "data/downloads", ".venv")
SKIP = "<!-- test: skip, "


@pytest.fixture(autouse=True)
def unloaded():
    """What a page loads, other tests do not see."""
    yield
    plugins.forget()


def named(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(PROJECT)))


def blocks(text: str) -> list[tuple[str, str, bool]]:
    """Fenced blocks of a page: language, content, and whether a comment leaves it out."""
    pattern = rf"(?P<skip>{re.escape(SKIP)}[^\n]+ -->\n)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$"
    found = re.finditer(pattern, text, re.MULTILINE | re.DOTALL)
    return [(match["kind"], match["body"], bool(match["skip"])) for match in found]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """What stands in backticks, over the end of a line too, and every line of every block."""
    inline = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(text))]
    lines = [line for _, body, _ in blocks(text) for line in body.splitlines()]
    return inline + lines


# --- links ---------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub's anchors."""
    found, seen = set(), {}
    for heading in re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


@named(PAGES)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page.read_text()))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            broken.append(target)
        elif anchor and anchor not in anchors(file):
            broken.append(f"{target}: no such heading")
    assert not broken


# --- names ---------------------------------------------------------------------------------------


def resolve(name: str) -> object:
    """What a dotted name stands for; an ``ImportError`` or ``AttributeError`` where nothing is."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = ".".join(parts[:count])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            # A module that is there and lacks something of its own is no other name.
            if not error.name or not (module + ".").startswith(error.name + "."):
                raise
            continue
        for part in parts[count:]:
            # A dataclass's field without a default is no attribute of the class.
            found = getattr(found, "__dataclass_fields__", {}).get(part) or getattr(found, part)
        return found
    raise ImportError(name)


def dead(names) -> list[str]:
    found = []
    for name in sorted(set(names)):
        try:
            resolve(name)
        except (ImportError, AttributeError) as error:
            found.append(f"{name}: {error}")
    return found


def present(page: Path) -> str:
    """What a page says of today: of the changelog's tables, which name what is gone, "now"."""
    text = page.read_text(encoding="utf-8")
    if page != CHANGELOG:
        return text
    cells = [row.rsplit("|", 2)[1] for row in text.splitlines() if row.startswith("|")]
    return "\n\n".join(cells)


@named(PAGES)
def test_dotted_names_exist(page):
    names = [
        name
        for span in spans(present(page))
        for name in re.findall(r"(?<![\w/.-])ldatlib(?:\.[A-Za-z_]\w*)+", span)
    ]
    assert not dead(names)


@named(PAGES)
def test_paths_exist(page):
    folders = "ldatlib|tests|tools|benchmarks|notebooks|docs|data"
    missing = []
    for span in spans(present(page)):
        for path in re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./*-]*", span):
            path = path.rstrip(".")
            if path.startswith(ELSEWHERE) or "NN_" in path:
                continue
            # A page of docs or data may also speak of its neighbours.
            if not any(list(folder.glob(path)) for folder in (PROJECT, page.parent)):
                missing.append(path)
    assert not missing


@named(PAGES)
def test_no_file_is_named_by_its_key(page):
    """A key changes with whatever it stands for: pages go through a run instead."""
    assert not re.findall(r"\w+-s\d+-[0-9a-f]{10}\b", page.read_text())


@named(PAGES)
def test_notebooks_exist(page):
    known = {path.name[:2] for path in runner.notebooks()}
    listed = re.findall(r"[Nn]otebooks? ((?:`\d\d`(?:,| and)? ?)+)", prose(page.read_text()))
    numbers = {number for found in listed for number in re.findall(r"\d\d", found)}
    assert numbers <= known


def test_readme_lists_every_notebook():
    numbers = re.findall(r"^\| `(\d\d)` \|", README.read_text(), re.MULTILINE)
    assert numbers == [path.name[:2] for path in runner.notebooks()]


def test_readme_lists_every_defence():
    from ldatlib.defences import TITLES

    rows = re.findall(r"^\| `([a-z]\w+)` \| ([^|]+) \|", README.read_text(), re.MULTILINE)
    assert {name for name in profiles.PROFILES["cifar10-small"].defences} == {n for n, _ in rows}
    assert all(TITLES[name] == title for name, title in rows)


def map_rows() -> list[list[str]]:
    text = MAP.read_text().partition("## One thing, one name")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if set(row[0].strip()) - set("-: ")]


def test_the_map_names_functions_that_exist():
    column = {4: 2, 2: 1}
    names = [
        f"ldatlib.{name.partition('(')[0]}"
        for row in map_rows()
        for name in re.findall(r"`([a-z]\w*\.[\w.]+(?:\([^`]*\))?)`", row[column[len(row)]])
    ]
    assert len(names) > 50
    assert not dead(names)


def test_the_map_names_notebooks_that_exist():
    known = {path.name[:2] for path in runner.notebooks()}
    numbers = {n for row in map_rows() if len(row) == 4 for n in re.findall(r"\d\d", row[3])}
    assert numbers and numbers <= known


# --- README --------------------------------------------------------------------------------------


def test_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert not [line for line in lines if len(line) > 100]


def test_readme_quotes_pages_of_results():
    """A percentage of README stands on a page of results, which is rebuilt from records."""
    pages = "".join((PROJECT / "docs" / f"{name}.md").read_text() for name in ("cifar10", "demo"))
    quoted = re.findall(r"(\d+\.\d)%", README.read_text())
    assert quoted
    assert not [number for number in quoted if not re.search(rf"\b{number}\b", pages)]


# --- commands ------------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    """The commands of a page as lists of words; continued lines joined, comments dropped."""
    lines = [
        line
        for kind, body, _ in blocks(text)
        if kind in ("", "sh", "bash")
        for line in body.replace("\\\n", " ").splitlines()
    ]
    lines += [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(text))]
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # an apostrophe: not a command
            found += [shlex.split(part, comments=True) for part in line.split(" && ")]
    return [words for words in found if len(words) > 1]


def arguments_after(words: list[str], *starts: str) -> list[str] | None:
    for start in starts:
        head = start.split()
        if words[: len(head)] == head:
            return words[len(head) :]
    return None


def placeholder(words: list[str]) -> bool:
    """``--profile NAME``: a line that explains, not one to type."""
    return any(word in ("NAME", "OPTIONS", "NN", "NAME=VALUE", "...") for word in words)


def parsed(parse, words):
    try:
        return parse(words)
    except SystemExit as stop:
        raise AssertionError(f"the parser refuses: {' '.join(words)}") from stop


def check_settings(options) -> None:
    """The profile, every setting and every plug-in that the command names are there."""
    overrides = dict(parse_assignments(options.assignments))
    if options.plugins:
        overrides["plugins"] = [str(PROJECT / path) for path in options.plugins]
    try:
        profiles.load_profile(options.profile, overrides)
    except UserError as error:
        if "needs its data" not in str(error):
            raise


@named(PAGES)
def test_commands_of_the_runner_parse(page):
    starts = ("python runner.py", "uv run runner.py", "python3 bootstrap.py run")
    for words in commands(present(page)):
        rest = arguments_after(words, *starts)
        if rest is None or placeholder(rest):
            continue
        options = parsed(runner.arguments, rest)
        check_settings(options)
        runner.select(runner.notebooks(), options.only, options.first)


# A command's name in a sentence.
_ALONE = (["train"], ["evaluate"], ["clean"], ["examine"], ["compare"])


@named(PAGES)
def test_commands_of_ldat_parse(page):
    for words in commands(present(page)):
        rest = arguments_after(words, "ldat", "python -m ldatlib")
        if not rest or placeholder(rest) or rest in _ALONE:
            continue
        options = parsed(ldat.parser().parse_args, rest)
        if options.command not in ("examine", "compare"):
            check_settings(options)
        assert set(getattr(options, "kinds", "whitebox").split(",")) <= set(KINDS)


@named(PAGES)
def test_commands_of_bootstrap_exist(page):
    known = {("run",), ("lab",), ("test",), ("test", "--fast"), ("docs",)}
    for words in commands(present(page)):
        rest = arguments_after(words, "python3 bootstrap.py")
        if rest is not None and rest[0] != "run":
            assert tuple(rest) in known
    assert all(f"bootstrap.py {use[0]}" in (PROJECT / "bootstrap.py").read_text() for use in known)


@named(PAGES)
def test_scripts_of_commands_exist(page):
    for words in commands(present(page)):
        for word in words:
            if re.fullmatch(r"(tools|benchmarks)/\w+\.py", word):
                assert (PROJECT / word).is_file(), " ".join(words)


# --- Python --------------------------------------------------------------------------------------


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """The current folder is an empty one with small pictures; demo and trainings are tiny."""
    from torchvision.utils import save_image

    torch.manual_seed(0)
    for split, count in (("train", 12), ("test", 3)):
        for label in ("a", "b"):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                save_image(torch.rand(3, 32, 32), folder / f"{index}.png")
    (tmp_path / "docs").symlink_to(PROJECT / "docs")
    monkeypatch.chdir(tmp_path)
    demo = replace(profiles.PROFILES["demo"], **TINY | {"test_size": 20, "depth": 4, "width": 4})
    monkeypatch.setitem(profiles.PROFILES, "demo", demo)
    monkeypatch.setattr(run, "home", lambda: tmp_path)

    true_train, true_load = ldatlib.train, ldatlib.load_dataset

    def train(config, data, *arguments, **options):
        return true_train(replace(config, epochs=1, val_limit=4), data, *arguments, **options)

    def load_dataset(*arguments, **options):
        return true_load(*arguments, **{**options, "val_size": min(options["val_size"], 8)})

    monkeypatch.setattr(ldatlib, "train", train)
    monkeypatch.setattr(ldatlib, "load_dataset", load_dataset)
    monkeypatch.setattr(run.schedule, "default_processes", lambda: 1)


WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text()]


def test_the_pages_with_python_are_found():
    assert {"README.md", "library.md", "plugins.md"} <= {page.name for page in WITH_PYTHON}


@pytest.mark.slow
@named(WITH_PYTHON)
def test_python_blocks_run(page, small_world):
    text, namespace = page.read_text(), {}
    for kind, body, skipped in blocks(text):
        if kind != "python" or skipped:
            continue
        line = text[: text.index(body)].count("\n")
        # Errors name the page and its line.
        exec(compile("\n" * line + body, str(page), "exec"), namespace)


def test_few_blocks_are_left_out():
    left_out = [page.name for page in PAGES for *_, skipped in blocks(page.read_text()) if skipped]
    assert left_out == ["evaluation.md"]
