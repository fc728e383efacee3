"""Links of a built site: every one to its own pages leads to a file, and to a place in it."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The places of a page, and what it links or loads."""

    def __init__(self, text: str):
        super().__init__()
        self.places: set[str] = {"", "top"}
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.places |= {values[key] for key in ("id", "name") if values.get(key)}
        self.links |= {values[key] for key in ("href", "src") if values.get(key)}


def broken(site: Path) -> list[str]:
    """``PAGE: LINK`` for each link to nothing; what other servers have is not asked."""
    pages: dict[Path, Page] = {}

    def read(path: Path) -> Page:
        if path not in pages:
            pages[path] = Page(path.read_text(encoding="utf-8"))
        return pages[path]

    found, site = [], site.resolve()
    for path in sorted(site.rglob("*.html")):
        for link in sorted(read(path).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            there = target.is_file() and target.is_relative_to(site)
            if not there or (target.suffix == ".html" and place not in read(target).places):
                found.append(f"{path.relative_to(site)}: {link}")
    return found
