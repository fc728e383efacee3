"""Notebook 06: can natural and adversarial features be told apart?"""

from collections.abc import Mapping

from ldatlib.report.tables import why_undefined
from ldatlib.study.records import Features


def probes(records: Mapping[str, Features]) -> list[str]:
    """What the probe says of each network; title -> record."""
    found = []
    for title, record in records.items():
        value, low, high = (
            getattr(record.numbers, name) for name in ("probe", "probe_low", "probe_high")
        )
        if low is None:
            found.append(f"{title}: no probe, {why_undefined(record, 'probe')}.")
            continue
        verdict = "not one distribution" if low > 0.5 else "not told apart by this probe"
        found.append(
            f"{title}: the probe is right in {value:.1%} [{low:.1%}, {high:.1%}] of cases: "
            f"{verdict}."
        )
    return found
