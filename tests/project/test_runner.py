import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import runner
from ldatlib.errors import UNFINISHED

pytestmark = pytest.mark.slow

PARAMETERS = 'profile = "demo"\noverrides = {}\nout = None\njobs = None'
TINY = ["--set", "depth=4", "--set", "stages=1", "--set", "width=4", "--set", "epochs=1"]


def notebook(folder, name, *cells, parameters=PARAMETERS):
    tagged = new_code_cell(parameters)
    tagged.metadata["tags"] = ["parameters"]
    contents = [new_markdown_cell(f"# {name}"), tagged, *map(new_code_cell, cells)]
    nb = new_notebook(cells=contents)
    nb.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(nb, folder / f"{name}.ipynb")


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(runner, "NOTEBOOKS", folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--profile", "dmeo"], "unknown profile 'dmeo'; known: demo, demo-full, cifar10"),
        (["--set", "epoch=3"], "did you mean epochs?"),
        (["--set", "epochs"], "--set takes name=value"),
        (["--set", "epochs=many"], "epochs must be a whole number, not 'many'"),
        (["--set", "eps_linf=-1"], "eps_linf must lie between 1e-06 and 1, not -1"),
        (["--set", "eps_linf=nan"], "eps_linf must be a number, not 'nan'"),
        (["--set", "defences=standard,ladt"], "unknown 'ladt'; known: natural"),
        (["--only", "77"], "no notebook '77'; known: 01"),
        (["--from", "x"], "no notebook 'x'; known: 01"),
        (["--seeds", "0"], "seeds must lie between 1 and 100"),
        (["--jobs", "two"], "--jobs must be a whole number"),
        (["--jobs", "0"], "jobs must be a whole number of at least 1"),
        (["--time-limit", "soon"], "a time limit is a number of s, m or h, such as 9m, not 'soon'"),
        (["--dry-run", "--rate", "0"], "--rate must be a positive number"),
        (["--workers", "2"], "--workers needs --dry-run and --rate"),
        (["--no-shared-folder"], "--no-shared-folder is about the workers of a --cluster"),
        (["--profile", "folder"], "--set data_root=PATH"),
        (["--profile", "folder", "--set", "data_root=/nowhere"], "no folder /nowhere"),
    ],
)
def test_bad_input_is_one_line_and_a_status(arguments, says, capsys, tmp_path):
    assert runner.main([*arguments, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and error.startswith("error: ")
    assert not any(tmp_path.iterdir())


def test_an_unknown_option_ends_with_a_status(capsys):
    with pytest.raises(SystemExit) as stop:
        runner.main(["--profil", "demo", "--colour"])
    assert stop.value.code == 2
    assert "--colour" in capsys.readouterr().err


def test_the_list_names_every_notebook(capsys):
    assert runner.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in lines] == [path.name[:2] for path in runner.notebooks()]
    assert lines[0].endswith("what Algorithm 1 looks for")


def test_a_dry_run_computes_and_writes_nothing(capsys, tmp_path):
    assert runner.main(["--dry-run", "--only", "02", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    for defence in ("natural", "standard", "l2_at", "trades", "mart", "lbgat", "ldat"):
        assert f"{defence}-s0" in out
    assert "missing in all" in out and not (tmp_path / "run").exists()


def test_parameters_reach_the_notebook_and_the_report_is_written(notebooks, tmp_path, capsys):
    notebook(notebooks, "91_first", "print(overrides['epochs'], jobs, profile)")
    notebook(notebooks, "10_report", "print('reported')")
    out = tmp_path / "run"
    assert runner.main([*TINY, "--out", str(out), "--jobs", "2"]) == 0
    executed = nbformat.read(out / "notebooks" / "91_first.ipynb", 4)
    assert executed.cells[-1].outputs[0].text == "1 2 demo\n"
    report = (out / "report.html").read_text()
    # Nothing was computed: what is missing is named, with the command that makes it.
    assert "0 of them attacked so far" in report and "Not made yet: runner.py --only 03" in report
    assert "needs records that this run does not have" in report
    assert "[2/2] 10_report.ipynb" in capsys.readouterr().out


def test_a_failing_notebook_ends_the_run(notebooks, tmp_path, capsys):
    notebook(notebooks, "91_first", "x = 1", "raise ValueError('the reason')")
    notebook(notebooks, "92_second", "print('never')")
    out = tmp_path / "run"
    assert runner.main(["--out", str(out), "--jobs", "1"]) == 1
    error = capsys.readouterr().err
    assert "91_first.ipynb failed in cell 4: ValueError: the reason" in error
    assert (out / "notebooks" / "91_first.ipynb").exists()
    assert not (out / "notebooks" / "92_second.ipynb").exists()
    # Of what was left before it there is a report, where one was asked for.
    assert not (out / "report.html").exists()
    notebook(notebooks, "10_report", "print('never')")
    assert runner.main([*TINY, "--out", str(out), "--jobs", "1"]) == 1
    assert f"as far as it went: {out / 'report.html'}" in capsys.readouterr().err
    assert "Not made yet" in (out / "report.html").read_text(encoding="utf-8")


def test_the_report_comes_after_all_others(notebooks, tmp_path):
    """Side by side: the report still sees what the slowest of them leaves."""
    slow = "import pathlib, time; time.sleep(1); pathlib.Path(out, 'left').write_text('seen')"
    notebook(notebooks, "91_slow", slow)
    notebook(notebooks, "92_quick", "x = 1")
    notebook(notebooks, "10_report", "import pathlib; print(pathlib.Path(out, 'left').read_text())")
    out = tmp_path / "run"
    assert runner.main(["--out", str(out), "--jobs", "3"]) == 0
    executed = nbformat.read(out / "notebooks" / "10_report.ipynb", 4)
    assert executed.cells[-1].outputs[0].text == "seen\n"


def test_a_time_limit_stops_in_good_order(notebooks, tmp_path, capsys):
    notebook(notebooks, "02_training")
    out = tmp_path / "run"
    arguments = ["--out", str(out), "--set", "defences=standard", "--set", "epochs=4000"]
    arguments += ["--set", "depth=4", "--set", "stages=1", "--set", "width=4", "--jobs", "1"]
    assert runner.main([*arguments, "--time-limit", "10s"]) == UNFINISHED
    assert "the same command goes on" in capsys.readouterr().out
    (state,) = out.glob("checkpoints/*.state.safetensors")
    assert not list(out.glob("records/*.json")) and state.stat().st_size
    assert not (out / "notebooks" / "02_training.ipynb").exists()


def test_two_runs_on_one_folder_are_refused(notebooks, tmp_path, capsys):
    notebook(notebooks, "91_first")
    from ldatlib.files.locks import alone

    with alone(tmp_path / "runner", "running"):
        assert runner.main(["--out", str(tmp_path)]) == 1
    assert "another process is running the notebooks of" in capsys.readouterr().err
    assert runner.main(["--out", str(tmp_path)]) == 0


@pytest.mark.parametrize("profile", ["cifar10", "cifar100"])
def test_a_dry_run_needs_no_images(profile, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("ldatlib.data.cifar.DOWNLOADS", tmp_path / "nothing")
    arguments = ["--dry-run", "--profile", profile, "--rate", "1e14", "--out", str(tmp_path / "r")]
    assert runner.main(arguments) == 0
    out = capsys.readouterr().out
    assert "the data is not at hand yet" in out and not (tmp_path / "nothing").exists()
    line = next(row for row in out.splitlines() if " ldat-s0 " in row and "train" in row).split()
    assert float(line[4]) == pytest.approx(float(line[2]) * 1e12 / 1e14 / 3600, abs=1e-3)
    missing = sum(float(r.split()[2]) for r in out.splitlines() if r.endswith("missing"))
    total = float(next(r for r in out.splitlines() if r.startswith("missing in all")).split()[3])
    assert total == pytest.approx(missing, rel=1e-6)


def test_a_dry_run_plays_the_schedule_through(capsys, tmp_path):
    arguments = ["--dry-run", "--rate", "1e7", "--workers", "1,2", "--out", str(tmp_path / "r")]
    assert runner.main([*arguments, "--only", "02", "--set", "defences=natural,standard"]) == 0
    lines = capsys.readouterr().out.splitlines()
    one, two = (float(row.split()[3]) for row in lines if row.startswith(("| 1 |", "| 2 |")))
    # The longer of two trainings that depend on nothing is all that two workers take.
    costs = [float(row.split()[4]) for row in lines if row.startswith("  train")]
    assert one == pytest.approx(sum(costs), abs=0.01)
    assert two == pytest.approx(max(costs), abs=0.01)


def test_a_notebook_without_a_parameter_is_refused(notebooks, tmp_path, capsys):
    notebook(notebooks, "91_first", parameters='profile = "demo"\noverrides = {}\nout = None')
    assert runner.main(["--out", str(tmp_path / "run")]) == 1
    assert "91_first.ipynb has no parameter 'jobs'" in capsys.readouterr().err


def test_from_and_only_choose(notebooks):
    for name in ("01_a", "02_b", "10_c"):
        notebook(notebooks, name)

    def chosen(*arguments):
        return [path.name[:2] for path in runner.select(runner.notebooks(), *arguments)]

    assert chosen(None, None) == ["01", "02", "10"]
    assert chosen(["02", "10"], None) == ["02", "10"]
    assert chosen(None, "02") == ["02", "10"]


def test_force_computes_anew(notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "execute", lambda *_: 0)
    notebook(notebooks, "02_training")
    record = tmp_path / "records"
    arguments = ["--out", str(tmp_path), "--only", "02", *TINY]
    from ldatlib.study.run import open_run

    overrides = runner_overrides(TINY)
    path = open_run("demo", overrides, tmp_path).plan("02")[0].path
    record.mkdir()
    path.write_text("{}")
    assert runner.main(arguments) == 0 and path.exists()
    assert runner.main([*arguments, "--force"]) == 0 and not path.exists()


def runner_overrides(arguments):
    return dict(a.split("=") for a in arguments if "=" in a)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupting_leaves_what_was_computed(jobs, tmp_path):
    """Ctrl-C in the middle of the trainings; the next run uses those that were finished."""
    out = tmp_path / "run"
    command = [sys.executable, str(runner.PROJECT / "runner.py"), "--only", "02", "--jobs", jobs]
    command += ["--out", str(out), *TINY, "--set", "defences=natural,standard,ldat"]
    command += ["--set", "epochs=15"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # A shell starts what runs in the background with the interrupt ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 900
        while not list(out.glob("records/train-*.json")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert b"Traceback" not in error and b"what was computed stays" in error
    finished = [json.loads(path.read_text()) for path in out.glob("records/*.json")]
    assert 1 <= len(finished) < 3 and all(record["last"]["epoch"] == 15 for record in finished)
    if jobs == "1":  # processes of jobs are killed, and leave what they were writing
        assert not list(out.rglob("*.tmp"))
