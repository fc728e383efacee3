"""The threshold widget in a real JupyterLab in a real browser: Debian's chromium, headless.

Skipped with its reason where chromium or Playwright is missing, unless LDAT_REQUIRE_BROWSER=1.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import nbformat
import pytest
import torch
from charted import read_all
from helpers import synthetic_record
from nbformat.v4 import new_code_cell, new_notebook

from ldatlib.files import write_json
from ldatlib.report import detector
from ldatlib.study.records import content

pytestmark = pytest.mark.slow

CELL = """\
from pathlib import Path
from ldatlib.report.widgets import threshold_explorer
from ldatlib.study.records import read

path = Path("record.json")
threshold_explorer({"ldat": read(path)}, path, threshold=0.5)"""


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab of its own: address of the notebook, and its folder."""
    notebook = new_notebook(cells=[new_code_cell(CELL)])
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    folder = tmp_path / "work"
    folder.mkdir()
    nbformat.write(notebook, folder / "explore.ipynb")
    write_json(folder / "record.json", content(synthetic_record()))
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1"]
    command += ["--ServerApp.port=0", "--allow-root"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    own = {
        f"JUPYTER_{name}_DIR": str(tmp_path / name.lower())
        for name in ("CONFIG", "DATA", "RUNTIME")
    }
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}
    own |= {"IPYTHONDIR": str(tmp_path / "ipython")}
    with open(tmp_path / "lab.log", "wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **own}, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            base = _address(tmp_path / "runtime", process, tmp_path / "lab.log")
            yield f"{base}/lab/tree/explore.ipynb?token={token}", folder
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(runtime, process, log):
    """Of the server, which has chosen its port; it answers."""
    deadline = time.monotonic() + 90
    while True:
        for path in runtime.glob("jpserver-*.json"):
            with suppress(OSError, ValueError):
                server = json.loads(path.read_text())
                base = f"http://127.0.0.1:{server['port']}"
                address = f"{base}/api/status?token={server['token']}"
                urllib.request.urlopen(address, timeout=5).close()
                return base
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.3)


def numbers(page):
    """Kept, missed, lost and caught, as the chart has them."""
    svg = page.locator(".jp-OutputArea svg.marks").first.evaluate("svg => svg.outerHTML")
    (kept, lost, missed, caught), _ = read_all(svg)
    return [kept, missed, lost, caught]


def expected(threshold, attack="linf_pgd"):
    values, right = detector.scored(synthetic_record(), "posterior", attack)
    accepted = values >= threshold
    pairs = ((accepted, right), (accepted, ~right), (~accepted, right), (~accepted, ~right))
    return [int(torch.logical_and(*pair).sum()) for pair in pairs]


def test_the_slider_moves_the_counts_in_a_real_browser(page, lab):
    address, folder = lab
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").first.click()
    page.wait_for_function(
        "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"
    )
    page.keyboard.press("Control+Enter")
    # The kernel imports torch first, which takes a busy machine long.
    page.locator("[class*=rates_] text").first.wait_for(timeout=240_000)
    assert numbers(page) == expected(0.5)
    cut = page.locator(".threshold_marks text").text_content()

    handle = page.locator(".ldat-threshold-slider .noUi-handle")
    handle.focus()
    for _ in range(20):
        handle.press("ArrowRight")
    wanted = expected(0.6)
    assert wanted != expected(0.5)
    page.wait_for_function("document.body.textContent.includes('threshold 0.6000')")
    assert page.locator(".ldat-threshold-slider .widget-readout").inner_text() == "0.6000"
    assert numbers(page) == wanted
    assert page.locator(".threshold_marks text").text_content() != cut
    assert page.locator("[class*=roc] path[aria-roledescription=circle]").count() == 1

    page.get_by_role("button", name=re.compile("store this threshold")).click()
    page.locator(".ldat-threshold-status", has_text="stored 0.6000").wait_for()
    (entry,) = json.loads((folder / "record.json").read_text())["exploratory"]
    assert entry["threshold"] == pytest.approx(0.6) and entry["attack"] == "linf_pgd"
