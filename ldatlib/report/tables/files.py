"""Where the tables of a run are kept."""

from pathlib import Path


def path(root: Path, name: str) -> Path:
    """``tables/NAME.csv`` of a run, its folder made."""
    folder = root / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.csv"
