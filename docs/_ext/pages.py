"""What the sources lack to be pages: a table of contents, Python files as pages, an index.html."""

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
    """The first page under the name that a browser or a server asks for."""
    if failure is None and app.builder.name == "html":
        shutil.copyfile(app.outdir / f"{app.config.root_doc}.html", app.outdir / "index.html")


def setup(app) -> dict:
    app.connect("source-read", read)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
