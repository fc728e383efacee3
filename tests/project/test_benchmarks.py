"""What benchmarks/README.md says is what the scripts printed."""

import subprocess
import sys

import pytest
from tiny import PROJECT

sys.path.insert(0, str(PROJECT / "benchmarks"))
import collect  # noqa: E402

pytestmark = pytest.mark.slow


def test_the_page_holds_what_was_printed():
    text = (collect.HERE / "README.md").read_text()
    assert collect.page(text) == text
    for path in collect.RESULTS.glob("*.md"):
        device, _, letter = path.stem.partition("-")
        assert device in ("cpu", "cuda") and letter in collect.scripts()
        assert f"<!-- begin {path.stem} -->" in text
        # Date, device, versions and revision of every measurement.
        assert "revision" in path.read_text() and "torch" in path.read_text()


def test_what_is_not_measured_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "RESULTS", tmp_path)
    (tmp_path / "cpu-b.md").write_text("twice as fast\n")
    markers = "<!-- begin cpu-{0} -->\nold\n<!-- end cpu-{0} -->\n"
    page = collect.page(markers.format("a") + markers.format("b"))
    assert page.split("\n")[1::3][:2] == [collect.NOTHING, "twice as fast"]


@pytest.mark.parametrize("letter", sorted(collect.scripts()))
def test_every_benchmark_says_how_it_is_used(letter):
    command = [sys.executable, str(collect.scripts()[letter]), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"({letter})" in said and "--quick" in said
