"""bootstrap.py hands over to uv and to what it was asked for; nothing is downloaded here."""

import ast
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Stands in for uv: writes down how it was called, makes the environment, unless told to fail.
UV = """\
import json, os, pathlib, sys
log = pathlib.Path(__file__).parent / "calls.jsonl"
folder = os.environ["UV_PROJECT_ENVIRONMENT"]
with log.open("a") as file:
    file.write(json.dumps({"args": sys.argv[1:], "folder": folder, "cwd": os.getcwd()}) + "\\n")
if "--offline" in sys.argv and os.environ.get("UV_FAILS"):
    sys.exit("error: the network was disabled")
if os.environ.get("UV_FAILS") == "always":
    sys.exit("error: the reason")
scripts = pathlib.Path(folder, "bin")
if not scripts.exists():
    scripts.mkdir(parents=True)
    (scripts.parent / "pyvenv.cfg").touch()
    python = scripts / "python"
    python.write_text(f'#!/bin/sh\\nexec {sys.executable} "$@"\\n')
    python.chmod(0o755)
"""
# Stands in for pip, which the bootstrap calls where there is no uv.
PIP = """\
import os, pathlib, shutil, sys
if os.environ.get("PIP_FAILS"):
    sys.exit("ERROR: no network")
folder = pathlib.Path(sys.argv[sys.argv.index("--target") + 1], "bin")
folder.mkdir(parents=True)
shutil.copy(os.environ["FAKE_UV"], folder / "uv")
(folder / "version").write_text(sys.argv[-1])
"""
RUNNER = "import os, sys; print('runner', *sys.argv[1:], 'in', os.getcwd()); sys.exit(7)"
# Says that it got its signal, as a runner does that saves its work.
SLEEPER = """\
import pathlib, signal, sys, time
end = lambda *_: (pathlib.Path(__file__).with_name("ended").touch(), sys.exit(0))
signal.signal(signal.SIGINT, end), signal.signal(signal.SIGTERM, end)
print("started", flush=True)
time.sleep(60)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are scripts of Unix")


class Copy:
    """A copy of the bootstrap in a folder of its own, whose uv and runner are stand-ins."""

    def __init__(self, folder: Path, monkeypatch):
        self.root = folder / "a copy"
        self.venv = self.root / ".venv"
        self.programs = folder / "programs"
        (self.root / "tools").mkdir(parents=True)
        self.programs.mkdir()
        for name in ("bootstrap.py", "uv.lock", "tools/checks.py"):
            shutil.copy(ROOT / name, self.root / name)
        self.runner(RUNNER)
        uv = self.programs / "uv"
        uv.write_text(f"#!{sys.executable}\n{UV}")
        uv.chmod(0o755)
        for name in ("LDAT_VENV", "VIRTUAL_ENV", "UV_FAILS", "PIP_FAILS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", f"{self.programs}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def runner(self, text: str):
        (self.root / "runner.py").write_text(text)

    def checks(self, stages: dict[str, str]):
        path = self.root / "tools" / "checks.py"
        path.write_text(path.read_text().replace("else FULL", f"else {stages}"))

    def __call__(self, *args: str, **options) -> subprocess.CompletedProcess:
        command = [sys.executable, str(self.root / "bootstrap.py"), *args]
        return subprocess.run(command, capture_output=True, text=True, **options)

    def uv_calls(self, folder: Path | None = None) -> list[dict]:
        log = (folder or self.programs) / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Copy:
    return Copy(tmp_path, monkeypatch)


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_stays_short_and_parses_on_old_pythons():
    text = (ROOT / "bootstrap.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 85
    ast.parse(text, feature_version=(3, 6))


def test_an_old_python_is_told_which_one_it_takes(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert "needs Python 3.11 or newer" in load(ROOT / "bootstrap.py").main(["run"])


def test_uv_installs_the_lock_with_this_python(copy):
    copy("run")
    (call,) = copy.uv_calls()
    assert call["args"] == [
        *("sync", "--locked", "--inexact", "--no-python-downloads"),
        *("--python", sys.executable, "--offline"),
    ]
    assert (call["folder"], call["cwd"]) == (str(copy.venv), str(copy.root))


@pytest.mark.parametrize(
    ("command", "groups"), [("docs", ["docs"]), ("test", ["docs"]), ("lab", [])]
)
def test_the_site_s_packages_come_with_what_builds_it_alone(copy, command, groups):
    copy(command)
    args = copy.uv_calls()[0]["args"]
    assert [
        value for flag, value in zip(args, args[1:], strict=False) if flag == "--group"
    ] == groups


def test_an_environment_keeps_the_python_it_was_made_with(copy):
    copy("run")
    copy("run")
    args = copy.uv_calls()[1]["args"]
    assert args[args.index("--python") + 1] == str(copy.venv / "bin" / "python")


def test_the_network_is_asked_only_for_what_is_missing(copy, monkeypatch):
    monkeypatch.setenv("UV_FAILS", "offline")
    done = copy("run")
    offline, online = (call["args"] for call in copy.uv_calls())
    assert offline == [*online, "--offline"]
    assert f"installing uv.lock into {copy.venv}" in done.stdout
    assert "network was disabled" not in done.stderr


def test_a_failed_install_names_its_remedies(copy, monkeypatch):
    monkeypatch.setenv("UV_FAILS", "always")
    done = copy("run")
    assert done.returncode == 1 and "runner" not in done.stdout
    assert done.stderr.splitlines()[0] == "error: the reason"
    assert done.stderr.splitlines()[1].startswith("bootstrap: uv failed (see above); check network")


def test_arguments_and_exit_status_pass_through(copy, tmp_path):
    done = copy("run", "--seeds", "a b", cwd=tmp_path)
    assert done.stdout == f"runner --seeds a b in {tmp_path}\n"
    assert done.returncode == 7


def test_ldat_venv_names_another_folder(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("LDAT_VENV", str(tmp_path / "elsewhere"))
    copy("run")
    assert copy.uv_calls()[0]["folder"] == str(tmp_path / "elsewhere")
    assert not copy.venv.exists()


def test_a_folder_in_use_is_refused(copy, tmp_path, monkeypatch):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letters.txt").touch()
    for folder in (foreign, Path("/usr")):
        monkeypatch.setenv("LDAT_VENV", str(folder))
        done = copy("run")
        assert done.returncode == 1
        assert f"{folder} is no virtual environment; name another in LDAT_VENV" in done.stderr
    assert copy.uv_calls() == []


@pytest.mark.parametrize("args", [[], ["install"], ["--fast"]])
def test_an_unknown_command_is_told_the_known_ones(copy, args):
    done = copy(*args)
    assert done.returncode == 1
    assert done.stderr == f"bootstrap: no command {args}; choose from run, lab, test, docs\n"
    assert copy.uv_calls() == []


def test_help_needs_no_set_up(copy):
    done = copy("--help")
    assert done.returncode == 0 and "bootstrap.py test [--fast]" in done.stdout
    assert copy.uv_calls() == []


@pytest.fixture
def without_uv(copy, tmp_path, monkeypatch) -> Copy:
    packages = tmp_path / "packages"
    (packages / "pip").mkdir(parents=True)
    (packages / "pip" / "__init__.py").touch()
    (packages / "pip" / "__main__.py").write_text(PIP)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.setenv("FAKE_UV", str(copy.programs / "uv.hidden"))
    (copy.programs / "uv").rename(copy.programs / "uv.hidden")
    if shutil.which("uv"):
        pytest.skip("this system's own uv cannot be hidden")
    return copy


def test_pip_puts_a_missing_uv_into_the_project(without_uv):
    assert without_uv("run").returncode == 7
    own = without_uv.root / ".uv" / "bin"
    lock = (ROOT / "uv.lock").read_text()
    name, version = (own / "version").read_text().split("==")
    assert f'name = "{name}"\nversion = "{version}"' in lock
    # Found there the next time: a second install would fail on the folder that exists.
    assert without_uv("run").returncode == 7
    assert len(without_uv.uv_calls(own)) == 2


def test_no_uv_and_no_network_is_told(without_uv, monkeypatch):
    monkeypatch.setenv("PIP_FAILS", "1")
    done = without_uv("run")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1].startswith("bootstrap: no uv (see above); check")


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["run", "test"])
def test_a_signal_ends_what_was_started(copy, command, sent, status):
    copy.runner(SLEEPER)
    copy.checks({"the only one": "python runner.py"})
    process = subprocess.Popen(
        [sys.executable, str(copy.root / "bootstrap.py"), command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.stdout.readline() != "started\n":
        assert process.poll() is None
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode == status
    assert (copy.root / "ended").exists()


def test_checks_stop_at_the_first_that_fails(copy):
    copy.checks({"good": "python -c pass", "bad": "python runner.py", "after": "none"})
    done = copy("test")
    assert done.returncode == 7
    told = [line for line in done.stdout.splitlines() if line.startswith("checks: ")]
    assert told == [
        "checks: good (python -c pass)",
        "checks: bad (python runner.py)",
        "checks: bad failed with exit status 7",
    ]


def test_checks_say_that_all_passed(copy):
    copy.checks({"good": "python -c pass"})
    done = copy("test")
    assert done.returncode == 0
    assert done.stdout.endswith("checks: all passed\n")


def test_fast_checks_are_the_static_ones_and_the_quick_tests():
    found = load(ROOT / "tools" / "checks.py")
    assert list(found.FAST) == [*found.STATIC, "quick unit tests"]
    assert list(found.FULL) == [*found.STATIC, "unit tests", "demo", "notebooks"]


def test_checks_refuse_unknown_arguments(copy):
    done = copy("test", "--quick")
    assert done.returncode == 2 and "unrecognized arguments: --quick" in done.stderr
