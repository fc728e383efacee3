"""Where the tables of a run are kept."""

from pathlib import Path

from ldatlib.files import path_of


def path(root: Path, name: str) -> Path:
    """``tables/NAME.csv`` of a run, its folder made."""
    folder = path_of(root) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.csv"
