"""The report of published records: what is in it, and how it behaves where there is no network."""

import re
from html import unescape

import pytest
from hostile import Structure

from ldatlib import open_run
from ldatlib.report import claims, document

CLAIM = "LDAT has the highest natural accuracy"


@pytest.fixture(scope="module")
def written(run):
    return document.write(run)


@pytest.fixture(scope="module")
def report(written):
    return written.read_text(encoding="utf-8")


def test_the_first_screen_stands_before_everything_else(report):
    text = report[report.index("<main") :]
    order = ['class="lead"', 'class="findings"', "<b>Build on", 'class="counts"', 'id="claims"']
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    # One warning, and not one in each of the verdicts.
    assert text.count('role="note"') == 1 and "Not the paper's scale." in text.replace("&#39;", "'")


def test_verdicts_are_counted_as_they_are(report, run):
    judged = claims.judged(run)
    for outcome in claims.OUTCOMES:
        count = sum(one.outcome == outcome for one in judged)
        shown = re.search(rf'data-outcome="{outcome}" class="count[^>]*><b>(\d+)</b>', report)
        assert (int(shown[1]) if shown else 0) == count


def test_tests_for_masking_take_a_line_where_all_are_silent(report, run):
    records = run.records("masking", run.select_seed(run.trainings()))
    for norm, title in {"linf": "L-inf", "l2": "L2"}.items():
        tests = [test for record in records for test in record.norms[norm].tests]
        loud = any(test.verdict != "no alarm" or test.misled or test.overstated for test in tests)
        assert (f'id="masking-{norm}"' in report) == loud
        assert (f"Silent for every network under {title}: CE, restarts, " in report) != loud


def test_every_table_of_the_run_is_there_with_its_records(report, run):
    tables = set(re.findall(r'<figure class="table" id="([^"]+)"', report))
    wanted = {"table1-linf", "table1-l2", "table4-undefended", "table4-defended"}
    wanted |= {"scrutiny-linf", "scrutiny-l2", "transfer", "trainings", "feature-numbers"}
    assert wanted <= tables
    linked = set(re.findall(r'href="records/([^"]+)"', report))
    assert linked and all((run.root / "records" / name).is_file() for name in linked)
    names = re.findall(r' id="([^"]+)"', report)
    assert len(names) == len(set(names))


def test_what_is_missing_is_named(tmp_path):
    found = document.html(open_run("demo", out=tmp_path, jobs=1))
    for notebook in ("02", "03", "04", "05", "06", "08", "09"):
        assert f"runner.py --only {notebook}" in found
    assert "0 of them attacked so far" in found
    assert f"<b>{len(claims.CLAIMS)}</b> not run" in found
    ours = sum(claim.extension for claim in claims.CLAIMS)
    counted = f"{len(claims.CLAIMS) - ours} claims and {ours} extensions of ours"
    assert unescape(found).count(f"The paper's {counted}:") == 1
    assert Structure(found).alternatives == []


def test_a_file_that_is_no_whole_page_is_never_left(run, written, monkeypatch):
    before = written.read_bytes()
    monkeypatch.setattr("ldatlib.report.document.whole.html", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        document.write(run)
    assert written.read_bytes() == before and len(before) < 8_000_000


@pytest.fixture
def opened(page, written):
    """The report in a browser without a network; nothing may be asked for, or complained of."""
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.context.set_offline(True)
    address = written.as_uri()
    page.goto(address)
    yield page
    assert not complaints
    assert {url for url in asked if not url.startswith("data:")} == {address}


def shown(page):
    return page.locator("#claims-ldat tbody tr:visible").count()


@pytest.mark.slow
def test_in_a_browser_contents_tables_and_filters_work(opened):
    page, total = opened, len(claims.CLAIMS)
    link = page.locator(".contents a", has_text="White box")
    link.click()
    assert page.locator("#white-box").bounding_box()["y"] < 200
    page.wait_for_function("document.querySelector('.contents .here')?.hash === '#white-box'")
    # What is folded unfolds for whoever is led there, by keyboard, too.
    assert page.locator("#training").get_attribute("open") is None
    page.locator(".contents a", has_text="Training").focus()
    page.keyboard.press("Enter")
    assert page.locator("#training").get_attribute("open") is not None

    column = "#table1-linf tbody tr td:nth-of-type(2)"
    read = f"[...document.querySelectorAll('{column}')].map(cell => parseFloat(cell.innerText))"
    unsorted = page.evaluate(read)
    button = page.locator("#table1-linf thead button").nth(2)
    button.click()
    assert page.evaluate(read) == sorted(unsorted, reverse=True) != unsorted
    button.press("Enter")
    assert page.evaluate(read) == sorted(unsorted)
    assert page.locator("#table1-linf th[aria-sort=ascending]").count() == 1

    assert shown(page) == total
    cell = page.locator(".count").first
    cell.click()
    assert shown(page) == int(cell.locator("b").inner_text()) < total
    assert page.locator("#claims").bounding_box()["y"] < 200
    page.locator("#claims-ldat .by-outcome").select_option("")
    page.locator("#claims-ldat .by-section").select_option("4.6")
    wanted = sum(claim.section == "4.6" for claim in claims.CLAIMS)
    assert shown(page) == wanted
    assert page.locator("#claims-ldat .shown").inner_text() == f"{wanted} of {total} claims"
    page.locator("#claims-ldat .by-section").select_option("")
    page.locator("#claims-ldat .by-word").fill("natural accuracy")
    assert page.locator("#claims-ldat tbody th:visible", has_text=CLAIM).count() == 1
    with page.expect_download() as download:
        page.locator("#table1-linf .csv").click()
    assert download.value.suggested_filename == "table1-linf.csv"


@pytest.mark.slow
def test_a_newcomer_finds_a_verdict_with_one_click(opened):
    """Without scrolling: the claim and its verdict stand in the window."""
    opened.locator(".contents a", has_text="What the paper claims").click()
    row = opened.locator("#claims-ldat tr", has_text=CLAIM)
    for part in (row.locator("th"), row.locator(".pill")):
        box = part.bounding_box()
        assert 0 <= box["y"] and box["y"] + box["height"] <= opened.viewport_size["height"]


@pytest.mark.slow
def test_on_a_phone_and_on_paper(opened):
    page = opened
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("!document.querySelector('.contents details').open")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1200, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.section:not([open])").count() == 0
    assert (
        not page.locator(".contents").is_visible()
        and not page.locator(".filters").first.is_visible()
    )
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.section:not([open])").count() > 0


@pytest.mark.slow
def test_charts_of_the_report_are_drawn_and_move(opened):
    """Figure 4 on the first screen, and the explorer, whose slider moves the counts."""
    page = opened
    page.wait_for_function("document.documentElement.dataset.chartsDrawn === 'yes'")
    states = "[...document.querySelectorAll('.ldat-chart')].map(each => each.dataset.drawn)"
    assert set(page.evaluate(states)) == {"yes"}
    page.locator(".contents a", has_text="Rejecting").click()
    counts = page.locator("#threshold svg").first
    before = counts.inner_html()
    slider = page.locator("#threshold input[type=range]").first
    slider.focus()
    for _ in range(5):
        slider.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('#threshold svg').innerHTML !== before", arg=before
    )
