"""A run that is killed ends as one that is not; and what compares the two sees what differs."""

import json
import shutil
import subprocess
import sys

import pytest
from tiny import PROJECT

sys.path.insert(0, str(PROJECT / "tools"))
import compare_runs  # noqa: E402
import storm  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stormed(tmp_path_factory):
    """Some kills of trainings and evaluations, what it printed, and the unbroken run."""
    folder = tmp_path_factory.mktemp("storm")
    command = [sys.executable, str(PROJECT / "tools" / "storm.py"), "--only", "03", "--kills", "3"]
    # Nothing is mounted by a test.
    command += ["--faults", "--no-mount", "--side-by-side", "1", "--keep", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :]), folder / "unbroken"


def test_a_killed_run_loses_nothing(stormed):
    found, _ = stormed
    assert found["kills"] == 3 and found["losses"] == []
    # And those that ended before their kill came.
    assert found["starts"] >= found["kills"] + found["rounds"]
    # Two trainings of three epochs, and the records of two networks.
    assert found["finished_pieces"] >= found["rounds"] * (2 * 3 + 2 * 4)


@pytest.fixture
def copied(stormed, tmp_path):
    return shutil.copytree(stormed[1], tmp_path / "copy")


def test_a_copy_is_no_different(stormed, copied):
    assert compare_runs.differences(stormed[1], copied) == []
    (copied / "records" / ".x.json.7.tmp").write_bytes(b"cut")
    assert compare_runs.differences(stormed[1], copied) == []
    assert compare_runs.leftovers(copied) == ["records/.x.json.7.tmp"]


@pytest.mark.parametrize("kind", ["checkpoints", "adversarial", "records"])
def test_what_is_cut_or_gone_or_more_is_named(kind, stormed, copied):
    first, second, *_ = sorted((copied / kind).iterdir())
    first.write_bytes(first.read_bytes()[:-40])
    second.unlink()
    (copied / kind / f"more{first.suffix}").write_bytes(b"")
    said = compare_runs.differences(stormed[1], copied)
    assert len(said) == 3
    assert f"{kind}/{second.name} is missing" in said
    assert f"{kind}/more{first.suffix} is superfluous" in said
    assert any(line.startswith(f"{kind}/{first.name} is not whole: ") for line in said)


def test_one_other_bit_is_named(stormed, copied):
    from ldatlib.files import load_tensors, save_tensors

    path = sorted((copied / "checkpoints").glob("*.safetensors"))[0]
    tensors, header = load_tensors(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] += 1e-6 * tensors[name].view(-1)[0].abs() + 1e-9
    save_tensors(path, tensors, header)
    assert compare_runs.differences(stormed[1], copied) == [f"checkpoints/{path.name} differs"]


def test_what_is_computed_again_is_found(stormed, copied):
    before = compare_runs.finished(copied)
    path = sorted((copied / "records").glob("whitebox-*.json"))[0]
    from ldatlib.files import read_json, write_json

    write_json(path, read_json(path) | {"seconds": 1e6})
    after = compare_runs.finished(copied)
    name = f"records/{path.name}"
    assert compare_runs.lost(before, after, copied) == [f"{name} was computed again"]
    path.unlink()
    after = compare_runs.finished(copied)
    assert compare_runs.lost(before, after, copied) == [f"{name} is gone"]


def test_the_page_says_what_was_measured():
    text = storm.PAGE.read_text(encoding="utf-8")
    assert storm.page(text) == text
    assert "| **losses** | **0** |" in text or not storm.RESULT.exists()
