"""The pages that are made from the code say what the code says."""

import re
import subprocess
import sys

import pytest
from tiny import PROJECT

from ldatlib.report import glossary

DOCS = PROJECT / "docs"


@pytest.mark.slow
def test_pages_equal_the_code():
    command = [sys.executable, str(PROJECT / "tools" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_kind_and_part_has_a_section_and_every_link_leads_to_one():
    from ldatlib.study.records import RECORDS, schema

    page = (DOCS / "records.md").read_text()
    headings = re.findall(r"^##+ (.+)$", page, flags=re.M)
    kinds = {kind for heading in headings for kind in re.findall(r"`(\w+)`", heading)}
    assert kinds == set(RECORDS)
    anchors = {heading.lower() for heading in headings}
    assert {link for link in re.findall(r"\]\(#([^)]+)\)", page)} <= anchors
    assert {name for name in schema()["$defs"]} - {r.__name__ for r in RECORDS.values()} <= {
        heading for heading in headings
    }


def test_terms_are_there_once_and_explained():
    titles = [term.title for term in glossary.TERMS.values()]
    assert len(titles) == len(set(titles)) == sum(map(len, glossary.SECTIONS.values()))
    assert all(
        term.meaning.endswith((".", '".')) or '"' in term.meaning[-2:]
        for term in glossary.TERMS.values()
    )
