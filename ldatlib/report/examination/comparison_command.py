"""``ldat compare``: from two folders to a third with the comparison in it."""

import re
from pathlib import Path

from ldatlib.errors import UserError
from ldatlib.files import as_path, check_writable, home, read_json
from ldatlib.report.examination.announce import Say
from ldatlib.report.examination.compare import compare
from ldatlib.report.examination.comparison import PAGE, RECORD


def run(first: str, second: str, out: str | None, say: Say) -> int:
    """Compare what two folders, or files, hold; leaves record, page and tables. The exit status.

    Raises ``UserError`` where they cannot be compared, or the folder holds another comparison.
    """
    found = compare(first, second)
    folder = _default(first, second) if out is None else as_path(out, "--out")
    check_writable(folder / RECORD)
    models = [found.record.first.source, found.record.second.source]
    if (folder / RECORD).is_file() and _models(folder / RECORD) not in (None, models):
        raise UserError(f"{folder} holds another comparison; choose another folder with --out")
    found.save(folder)
    say(f"A: {models[0]}\nB: {models[1]}\n\n{found.verdict}\n\nthe page: {folder / PAGE}")
    return 0


def _models(path: Path) -> list[str] | None:
    """Whom a comparison is of; None where it is broken, or of another version: replaced."""
    try:
        known = read_json(path)
        return [known[side]["source"] for side in ("first", "second")]
    except (UserError, KeyError, TypeError):
        return None


def _default(first: str, second: str) -> Path:
    names = []
    for text in (first, second):
        path = Path(text)
        name = (path.parent if path.suffix == ".json" else path).resolve().name
        name = re.sub(r"[^\w.-]+", "-", name.removeprefix("examine-")).strip("-.")
        names.append(name or "examination")
    return home() / "runs" / f"compare-{'-'.join(names)}"
