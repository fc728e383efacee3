"""The rooms: small modules, no circle at all, and a door that opens."""

from graphlib import TopologicalSorter

import grimp
import pytest
from tiny import PROJECT

import ldatlib

MODULES = sorted((PROJECT / "ldatlib").rglob("*.py"))
MOST_LINES = 400


def test_no_circle_of_imports():
    """Nor one through a room's own ``__init__``, which import-linter does not see."""
    graph = grimp.build_graph("ldatlib", cache_dir=None)
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(arrows).prepare()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_modules_are_small_and_say_what_they_are_for(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert text.startswith('"""')


def test_the_method_stands_at_the_top():
    assert {path.stem for path in (PROJECT / "ldatlib").glob("*.py")} == {
        *("__init__", "__main__"),
        *("gmm", "attacks", "models"),
        *("execution", "registry", "errors"),
    }


@pytest.mark.parametrize("name", ldatlib.__all__)
def test_public_names_are_there_and_documented(name):
    assert getattr(ldatlib, name).__doc__
