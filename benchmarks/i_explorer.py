"""(i) The threshold explorer: from a key press on its slider to changed numbers in the page.

In chromium, of seven networks with eleven sets of images each. Arrow keys move the slider; the
clock runs in the page, from the keydown to the change of the text in the document.
"""

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from side_by_side import begin, parser

from ldatlib.report import charts
from ldatlib.study.records import convert

WATCH = """() => {
  window.milliseconds = [];
  let pressed = null;
  document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
  const place = document.querySelector("#explorer .threshold_marks");
  new MutationObserver(() => {
    if (pressed !== null) window.milliseconds.push(performance.now() - pressed);
    pressed = null;
  }).observe(place, {subtree: true, childList: true, characterData: true, attributes: true});
}"""
METHODS = ("pgd", "apgd", "fab", "deepfool")
SETS = ["val", "clean", *(f"{n}_{m}" for n in ("linf", "l2") for m in METHODS), "l2_cw", "l2_ddn"]


def record(defence: str, images: int):
    """A detection record of invented scores; every network has the same data."""
    generator = torch.Generator().manual_seed(0)

    def entry() -> dict:
        scores = torch.rand(images, generator=generator, dtype=torch.float64)
        bits = torch.rand(images, generator=generator) < 0.5
        return {"score": scores.tolist(), "right": "".join("01"[int(bit)] for bit in bits)}

    score = {
        "thresholds": {"paper": 0.6, "accept_95": 0.5712, "accept_99": 0.3684},
        "sets": {name: entry() for name in SETS},
    }
    source: dict[str, Any] = {
        "revision": None,
        "python": "",
        "libraries": {},
        "device": "cpu",
        "threads": 1,
    }
    fields = {"profile": "demo", "title": defence, "seed": 0, "key": "", "training_key": ""}
    fields |= {"dataset": "", "fingerprint": "", "config": {}, "settings": {}, "seconds": 0.0}
    fields |= {"numerics": {}, "made_from": {}, "provenance": source, "images": images}
    return convert(
        "detection",
        {"kind": "detection", "defence": defence, "scores": {"posterior": score}, **fields},
    )


def main() -> None:
    options = parser(__doc__).parse_args()
    begin(options)
    from playwright.sync_api import sync_playwright

    defences = ("natural", "standard", "l2_at", "trades", "mart", "lbgat", "ldat")
    images, turns = (50, 20) if options.quick else (300, 60 * options.rounds)
    chart = charts.explorer({name: record(name, images) for name in defences})
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder) / "explorer.html"
        path.write_text(charts.html({"explorer": chart}), encoding="utf-8")
        chromium = shutil.which("chromium")
        if chromium is None:
            raise SystemExit("no chromium on the PATH (apt install chromium)")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.context.set_offline(True)
        page.goto(path.as_uri())
        page.locator("html[data-charts-drawn]").wait_for()
        page.evaluate(WATCH)
        page.locator("#explorer input[name=place]").focus()
        for turn in range(turns):
            page.keyboard.press("ArrowRight" if turn % 60 < 30 else "ArrowLeft")
            page.wait_for_timeout(30)
        found = page.evaluate("window.milliseconds")
        browser.close()
    if len(found) < 0.9 * turns:
        raise SystemExit(f"of {turns} key presses {len(found)} changed the numbers")
    size = len(charts.html({"explorer": chart})) / 1e6
    print(f"{len(defences)} networks, {images} images a set, a page of {size:.2f} MB\n")
    print("| from key press to changed numbers | ms |\n| --- | ---: |")
    print(f"| median of {len(found)} | {statistics.median(found):.1f} |")
    print(f"| nine of ten within | {statistics.quantiles(found, n=10)[-1]:.1f} |")


if __name__ == "__main__":
    main()
