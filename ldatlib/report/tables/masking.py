"""The tests for gradient masking."""

from collections.abc import Sequence

import msgspec
import pandas as pd

from ldatlib.evaluation.masking.verdicts import tells
from ldatlib.report import words
from ldatlib.report.words import NORMS
from ldatlib.study.records import Masking, Share
from ldatlib.study.records.scrutiny import MaskingTest

# The verdict of a test that finds nothing, for reading.
SILENT = "-"


def masking_rows(records: Sequence[Masking]) -> pd.DataFrame:
    """A row a network, norm and test: verdict, reason, and the shares that it rests on."""
    rows = []
    for record in records:
        for norm, found in record.norms.items():
            for test in found.tests:
                row = {"defence": record.defence, "seed": record.seed, "norm": norm}
                said = ("test", "verdict", "misled", "overstated", "reason")
                row |= {name: getattr(test, name) for name in said}
                for name, value in msgspec.structs.asdict(test.numbers).items():
                    if isinstance(value, Share):
                        row |= words.columns(name, value)
                rows.append(row | {"images": found.images, "ok": record.ok})
    return pd.DataFrame(rows)


def masking_verdicts(records: Sequence[Masking], norm: str) -> pd.DataFrame:
    """Tests x networks: the verdicts in one norm, for reading."""
    columns = {}
    for record in records:
        if norm in record.norms:
            said = {}
            for test in record.norms[norm].tests:
                kinds = tells(test.test, test.misled, test.overstated)
                verdict = test.verdict.replace("no alarm", SILENT).upper()
                said[test.title] = verdict + (f" ({', '.join(kinds)})" if kinds else "")
            columns[words.network(record.defence, record.ok)] = said
    return pd.DataFrame(columns).rename_axis("test")


def alarms(records: Sequence[Masking]) -> pd.DataFrame:
    """A row a network and norm: the tests for masking that sound, what they tell, and why."""
    rows = {}
    for record in records:
        name = words.network(record.defence, record.ok)
        for norm, found in record.norms.items():
            loud = [test for test in found.tests if test.verdict == "alarm"]
            rows[name, NORMS[norm]] = {
                "alarms": "; ".join(map(_told, loud)) or "none",
                "why": "; ".join(test.reason for test in loud),
                "tests": sum(test.verdict != "skipped" for test in found.tests),
            }
    result = pd.DataFrame.from_dict(rows, orient="index")
    result.index = pd.MultiIndex.from_tuples(result.index, names=["defence", "norm"])
    return result


def _told(test: MaskingTest) -> str:
    return f"{test.title} ({', '.join(tells(test.test, test.misled, test.overstated))})"
