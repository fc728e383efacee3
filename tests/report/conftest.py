import os
import shutil

import pytest

from ldatlib import open_run
from ldatlib.study.profiles import RESULTS
from ldatlib.study.records import read


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """What is published: records of every kind, without a second of training."""
    return open_run("cifar10-published", out=tmp_path_factory.mktemp("published"), jobs=1)


@pytest.fixture(scope="session")
def earlier(run):
    """Published records of an earlier numerics version: not of the run, but of its shape."""

    def records(kind, trainings):
        found = {}
        for path in sorted((RESULTS / "cifar10-small" / "records").glob(f"{kind}-*.json")):
            record = read(path)
            found.setdefault(record.defence, record)
        return [found[training.name] for training in trainings]

    return records


ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def missing(reason):
    if os.environ.get("LDAT_REQUIRE_BROWSER") == "1":
        pytest.fail(f"LDAT_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture
def page():
    """A page of Debian's chromium, headless; skipped where there is none."""
    chromium = shutil.which("chromium")
    if not chromium:
        missing("no chromium on the PATH (apt install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("the Python package playwright is not installed (extra: test)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        browser.close()
