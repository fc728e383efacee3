import os
import shutil

import pytest
import torch

# Programs that tests start share the cores with the tests beside them: two threads each on two
# cores would be many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny networks gain nothing from threads, and sums come in one order."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


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
