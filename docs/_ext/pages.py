"""What the sources lack to be pages: a table of contents, Python files as pages, an index.html."""

import re
import shutil
from pathlib import Path

CONTENTS = Path(__file__).resolve().parents[1] / "index.md"


def read(app, docname: str, source: list[str]) -> None:
    """README gets the contents below it; an example in Python becomes a page that shows it."""
    path = Path(app.env.doc2path(docname))
    if docname == app.config.root_doc:
        app.env.note_dependency(str(CONTENTS))
        source[0] += CONTENTS.read_text(encoding="utf-8")
    elif path.suffix == ".py":
        # Linked from the pages that speak of it; the contents would only repeat those.
        head = f"---\norphan: true\n---\n\n# {path.name}\n\n"
        source[0] = f"{head}`{docname}.py`\n\n````python\n{source[0]}````\n"


def finish(app, failure: Exception | None) -> None:
    """The first page under the name that a browser or a server asks for; links of the sources."""
    if failure is None and app.builder.name == "html":
        shutil.copyfile(app.outdir / f"{app.config.root_doc}.html", app.outdir / "index.html")
        for path in (app.outdir / "_modules").rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            path.write_text(mended(text, path), encoding="utf-8")


def mended(text: str, path: Path) -> str:
    """A page of sources whose links lead to where a name is described.

    ``viewcode`` names what ``ldatlib`` exports from a room after the room, and lists built-in types
    as a module without a page.
    """

    def back(match: re.Match) -> str:
        page, name = match["page"], match["name"]
        described = (path.parent / page).read_text(encoding="utf-8")
        parts = name.split(".")
        for left in (name, *(".".join(["ldatlib", *parts[i:]]) for i in range(2, len(parts)))):
            if f'id="{left}"' in described:
                return match[0].replace(f"#{name}", f"#{left}")
        return '<a class="viewcode-back">'

    text = re.sub(r'<li><a href="builtins.html">.*?</li>', "", text)
    pattern = r'<a class="viewcode-back" href="(?P<page>[^"#]+)#(?P<name>[^"]+)">'
    return re.sub(pattern, back, text)


def setup(app) -> dict:
    app.connect("source-read", read)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
