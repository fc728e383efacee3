"""Every target with a few hundred generated calls, always the same; ``tools/fuzz.py`` makes more.

What was found once stands in ``test_found.py``, beside a plain call.
"""

import sys

import pytest
from fuzzing import FINDING, run
from targets import TARGETS
from tiny import PROJECT

from ldatlib.files import read_json

sys.path.insert(0, str(PROJECT / "tools"))
import published_tables  # noqa: E402

EXAMPLES = 1000


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_generated_call_succeeds_or_is_refused_in_a_line(target):
    tally = run(target, round(EXAMPLES * target.share))
    assert not tally.counts[FINDING], "\n".join(tally.findings.values())
    # A target whose calls all end alike tests little.
    assert min(tally.counts["success"], tally.counts["refusal"]) > 0.05 * tally.counts.total()


def test_the_page_has_the_figures_of_the_last_full_run():
    page = (PROJECT / "docs" / "reliability.md").read_text(encoding="utf-8")
    marked = "<!-- begin reliability-fuzz -->\n{}\n<!-- end reliability-fuzz -->"
    assert marked.format(published_tables.fuzz()) in page
    rows = read_json(published_tables.FUZZ)["targets"]
    assert [(r["target"], r["about"]) for r in rows] == [(t.name, t.about) for t in TARGETS]
    assert sum(row["calls"] for row in rows) >= 10_000
    assert not any(row["findings"] for row in rows)
