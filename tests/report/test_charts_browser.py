"""Charts in a real browser with the network cut: what is drawn, and what follows the slider.

Skipped with its reason where chromium or Playwright is missing, unless LDAT_REQUIRE_BROWSER=1.
"""

import re
from itertools import pairwise

import pytest
import torch
from charted import read_all
from helpers import synthetic_record, whitebox
from test_charts import counted

from ldatlib.report import charts, detector
from ldatlib.report.charts import cuts
from ldatlib.study.profiles import RESULTS
from ldatlib.study.records import read

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(page, tmp_path):
    """Opens charts as a page of a machine without network; whatever goes wrong is in ``seen``."""
    seen = []

    def spoken(message):
        if message.type in ("error", "warning"):
            seen.append(message.text)

    def asked(request):
        if not request.url.startswith(("file:", "data:")):
            seen.append(request.url)

    page.on("console", spoken)
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", asked)
    page.context.set_offline(True)

    def shown(made):
        (tmp_path / "charts.html").write_text(charts.html(made), encoding="utf-8")
        page.goto((tmp_path / "charts.html").as_uri())
        page.locator("html[data-charts-drawn]").wait_for()
        return page, seen

    return shown


def published(kind):
    """The first seed's published records, by defence."""
    found = {}
    for path in sorted((RESULTS / "cifar10-small" / "records").glob(f"{kind}-*.json")):
        record = read(path)
        found.setdefault(record.defence, record)
    assert found
    return found


def test_the_slider_counts_what_python_counts_without_a_network(opened):
    other = synthetic_record(likelihood=False, defence="standard", title="Standard", key="other")
    records = {"ldat": synthetic_record(), "standard": other}
    page, seen = opened({"explorer": charts.explorer(records, threshold=0.5)})
    chart = page.locator("#explorer")

    def said():
        return read_all(chart.locator("svg").first.evaluate("svg => svg.outerHTML"))

    assert said() == counted(records["ldat"], "posterior", "linf_pgd", 0.5)
    slider = chart.locator("input[name=place]")
    slider.focus()
    before = chart.locator("[class*=roc] path[aria-roledescription=circle]").first
    point = before.get_attribute("transform")
    for _ in range(20):
        slider.press("ArrowRight")
    expected = counted(records["ldat"], "posterior", "linf_pgd", 0.6)
    assert expected != counted(records["ldat"], "posterior", "linf_pgd", 0.5)
    page.wait_for_function("document.body.textContent.includes('threshold 0.6000')")
    assert said() == expected
    assert before.get_attribute("transform") != point
    chart.locator("select[name=attack]").select_option("l2_cw")
    assert said() == counted(records["ldat"], "posterior", "l2_cw", 0.6)
    chart.locator("select[name=score]").select_option("log_likelihood")
    place = int(slider.input_value())
    cut = float(cuts.grid(records["ldat"], "log_likelihood").cuts[place])
    assert said() == counted(records["ldat"], "log_likelihood", "l2_cw", cut)
    chart.locator("select[name=defence]").select_option("standard")
    cut = float(cuts.grid(records["standard"], "posterior").cuts[place])
    assert said() == counted(records["standard"], "posterior", "l2_cw", cut)
    chart.locator("select[name=split]").select_option("val")
    assert said() == counted(records["standard"], "posterior", "val", cut)
    assert seen == []


def test_every_chart_draws_without_a_network(opened):
    features = published("features")
    names = [f"</script>{k}" for k in range(10)]
    images = torch.rand(20, 3, 8, 8)
    attacked = {
        "ldat": whitebox("111", {"linf_pgd": "100", "l2_cw": "110"}),
        "standard": whitebox("101", {"linf_pgd": "100", "l2_cw": "001"}, defence="standard"),
    }
    saved = {"x": images[:3], "y": torch.arange(3), "linf_pgd": images[3:6], "l2_cw": images[6:9]}
    made = {
        "explorer": charts.explorer(published("detection")),
        "figure_3": charts.figure_3((0.1, 0.2), 12),
        "figure_4": charts.accuracy_by_eps(published("sweep_eps")),
        "figure_5": charts.accuracy_by_steps(published("sweep_steps")),
        "figure_7": charts.tsne({r.title: r for r in features.values()}, names, images),
        "gallery": charts.gallery(attacked, dict.fromkeys(attacked, saved), names),
    }
    page, seen = opened(made)
    for name in made:
        assert page.locator(f"#{name}").get_attribute("data-drawn") == "yes", name
        marks = page.locator(f"#{name} svg [class*=role-mark] > *").count()
        assert marks > 10, (name, marks)
    page.locator("#gallery select[name=attack]").select_option("l2_cw")
    fates = page.locator("#gallery svg [aria-label*=fate]").all_text_contents()
    assert fates == ["right", "right", "fooled"]
    point = page.locator("#figure_7 svg path[aria-roledescription=point]").first
    point.hover(force=True)
    assert page.locator("#vg-tooltip-element img").get_attribute("src").startswith("data:image/")
    page.locator("#figure_4 svg .role-legend-symbol path").first.click(force=True)
    opacities = page.locator("#figure_4 svg .mark-line path").evaluate_all(
        "lines => lines.map(line => line.getAttribute('opacity') ?? "
        "line.getAttribute('stroke-opacity'))"
    )
    assert len(set(opacities)) == 2, opacities
    assert seen == []


def test_the_attack_of_figure_3_is_chosen_by_keyboard(opened):
    """PGD crosses a boundary 1.48 away in steps of 0.4 and stops at 2.2, 0.72 behind it."""
    page, seen = opened({"figure_3": charts.figure_3((0.1, 0.2), 12)})
    chart = page.locator("#figure_3")
    assert "PGD" in chart.get_attribute("aria-label")

    def said(words):
        chart.locator("svg text", has_text=words).wait_for()

    said("Algorithm 1 in the plane")
    assert chart.locator("svg text", has_text="after step 10:").count() == 1
    chart.locator("select[name=attack]").focus()
    page.keyboard.press("ArrowDown")
    said("PGD in the plane")
    said("after step 10: 0.72 behind the boundary")
    steps = chart.locator("svg [aria-roledescription=point][aria-label^='step: ']")
    assert steps.count() == 11
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert chart.locator("select[name=gamma]").input_value() == "0.1" and steps.count() == 11
    page.keyboard.press("Tab")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    said("after step 2: 0.68 before the boundary")
    chart.locator("select[name=attack]").focus()
    page.keyboard.press("ArrowDown")
    page.locator("#figure_3 input[name=steps]").focus()
    page.keyboard.press("End")
    said("after step 4: 0.12 behind the boundary")
    assert re.search("12", chart.locator(".vega-bindings").inner_text())
    assert seen == []


def test_panels_stand_below_each_other_on_a_phone(opened, page):
    page.set_viewport_size({"width": 380, "height": 800})
    record = synthetic_record()
    page, seen = opened({"explorer": charts.explorer({"ldat": record})})
    box = page.locator("#explorer svg").first.bounding_box()
    assert box["width"] <= 380 and box["height"] > 500
    threshold = detector.first_threshold(record, "posterior")
    svg = page.locator("#explorer svg").first.evaluate("svg => svg.outerHTML")
    assert read_all(svg) == counted(record, "posterior", "linf_pgd", threshold)
    assert seen == []


def test_images_of_the_gallery_stand_apart_on_a_phone(opened, page):
    """Six of them side by side: smaller, and none over its neighbour."""
    page.set_viewport_size({"width": 380, "height": 800})
    bits = "100100"
    record = whitebox("111111", {"linf_pgd": bits})
    images = torch.rand(6, 3, 8, 8)
    saved = {"ldat": {"x": images, "y": torch.arange(6), "linf_pgd": images}}
    made = charts.gallery({"ldat": record}, saved, [str(k) for k in range(6)])
    page, seen = opened({"gallery": made})
    boxes = page.locator("#gallery svg image").evaluate_all(
        "images => images.map(i => i.getBoundingClientRect()).map(b => [b.top, b.left, b.right])"
    )
    assert len(boxes) == 18 and max(right for *_, right in boxes) <= 380
    rows = {}
    for top, left, right in sorted(boxes):
        rows.setdefault(round(top), []).append((left, right))
    for row in rows.values():
        ordered = sorted(row)
        assert all(a[1] <= b[0] for a, b in pairwise(ordered))
    assert seen == []
