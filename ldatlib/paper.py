"""The paper's own tables, as they stand in ``data/paper`` of the project."""

from pathlib import Path

import pandas as pd

from ldatlib.errors import UserError

FOLDER = Path(__file__).resolve().parent.parent / "data" / "paper"
TABLES = (1, 2, 3, 4, 5)


def table(number: int) -> pd.DataFrame:
    """Table 1 to 5 of the paper, accuracies in percent. Columns: ``data/paper/README.md``."""
    if number not in TABLES:
        raise UserError(f"the paper has tables 1 to 5, no table {number}")
    path = FOLDER / f"table{number}.csv"
    if not path.is_file():
        raise UserError(f"{path} is missing; run from a checkout of the project")
    return pd.read_csv(path)
