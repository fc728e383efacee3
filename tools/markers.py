"""Words of pages, and what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``."""

import re
import textwrap
from collections.abc import Iterable

# Markers that another tool fills: tools/storm.py.
ELSEWHERE = ("storm",)
# Lines of a page.
WIDTH = 100


def markdown(frame, left: int = 1) -> str:
    """A frame as a Markdown table without its index; the first ``left`` columns are text."""
    rows = [list(map(str, frame.columns))]
    rows.append(["---"] * left + ["---:"] * (len(frame.columns) - left))
    rows += [["" if v != v else str(v) for v in row] for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row).replace("\n", " ") + " |" for row in rows)


def fill(text: str, rendered: dict[str, str]) -> str:
    """The page with everything between its markers replaced; an unknown marker is a KeyError."""

    def replaced(match: re.Match) -> str:
        name = match["name"]
        if name in ELSEWHERE:
            return match[0]
        return f"<!-- begin {name} -->\n{rendered[name]}\n<!-- end {name} -->"

    pattern = r"<!-- begin (?P<name>[\w-]+) -->\n.*?<!-- end (?P=name) -->"
    return re.sub(pattern, replaced, text, flags=re.DOTALL)


def bullets(said: Iterable[str]) -> str:
    """Sentences as a Markdown list."""
    return "\n".join(
        textwrap.fill(
            one, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
        )
        for one in said
    )


def paragraph(*said: str) -> str:
    return textwrap.fill(" ".join(said), WIDTH, break_long_words=False, break_on_hyphens=False)


def percent(value: float) -> str:
    return f"{value:.1f}%"


def title(name: str) -> str:
    from ldatlib.report import glossary

    return glossary.defence(name)
