"""A wheel works alone: data inside, results in the caller's folder, the command at hand."""

import os
import subprocess
import sys
import zipfile

import pytest
from tiny import PROJECT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    # A copy of what is tracked, since a build leaves its own folders beside the sources.
    source = out / "source"
    source.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, stdout=subprocess.PIPE)
    names = [n for n in tracked.stdout.decode().split("\0") if n.startswith("ldatlib/")]
    for name in [*names, "pyproject.toml", "README.md", "LICENSE"]:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PROJECT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel's content, first on the path, and a caller's folder far from any checkout."""
    site, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    zipfile.ZipFile(wheel).extractall(site)

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(site)}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run, site, work


def test_everything_that_is_read_lies_inside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "ldatlib/py.typed" in names
    assert {f"ldatlib/report/paper_tables/table{n}.csv" for n in range(1, 6)} <= set(names)
    templates = {path.name for path in (PROJECT / "ldatlib" / "report" / "templates").iterdir()}
    assert {f"ldatlib/report/templates/{name}" for name in templates} <= set(names)
    modules = {
        f"ldatlib/{p.relative_to(PROJECT / 'ldatlib')}" for p in (PROJECT / "ldatlib").rglob("*.py")
    }
    assert modules == {name for name in names if name.endswith(".py")}
    assert any(name.endswith("entry_points.txt") for name in names)


def test_the_papers_tables_are_read(installed):
    run, site, _ = installed
    program = "import ldatlib; from ldatlib.report import paper; print(ldatlib.__file__)"
    said = run("-c", program + "; print(len(paper.table(1)))").split()
    assert said[0].startswith(str(site)) and said[1] == "5"


def test_results_go_to_the_callers_folder(installed):
    run, _, work = installed
    assert run("-c", "import ldatlib; print(ldatlib.open_run('demo').root)").strip() == str(
        work / "runs" / "demo"
    )


def test_the_command_runs(installed):
    run, _, work = installed
    assert run("-m", "ldatlib", "--version").startswith("ldat ")
    settings = ["depth=4", "stages=1", "width=4", "epochs=1", "attack_steps=1"]
    options = [word for setting in settings for word in ("--set", setting)]
    said = run("-m", "ldatlib", "train", "--profile", "demo", "--training", "natural", *options)
    assert "trained natural-s0" in said
    assert list((work / "runs" / "demo" / "checkpoints").glob("natural-s0-*.safetensors"))
