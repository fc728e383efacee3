"""Notebooks 06 and 01: are natural and adversarial features told apart, and under which attack?"""

from collections.abc import Mapping, Sequence

from ldatlib.report import paired
from ldatlib.report.claims import rules
from ldatlib.report.tables import why_undefined
from ldatlib.report.words import budget, trained_against
from ldatlib.study.records import Features
from ldatlib.study.trainings import Training

RIVAL = "trades"


def one_attack(trainings: Sequence[Training], norm: str, eps: float) -> str:
    """How far it reaches that features are attacked by PGD in one ball alone."""
    against = ", ".join(
        f"{training.title} {trained_against(training.config.defence.adversary.as_dict())}"
        for training in trainings
    )
    return (
        f"All of this is under PGD within {budget(norm, eps)} alone. Trained against: {against}. "
        "Who trained in another norm may fare otherwise under an attack in that one."
    )


def probes(records: Mapping[str, Features]) -> list[str]:
    """What the probe says of each network, and beside TRADES's; title -> record."""
    rival = next((title for title, record in records.items() if record.defence == RIVAL), None)
    found = []
    for title, record in records.items():
        value, low, high = (
            getattr(record.numbers, name) for name in ("probe", "probe_low", "probe_high")
        )
        if low is None:
            found.append(f"{title}: no probe, {why_undefined(record, 'probe')}.")
            continue
        verdict = "not one distribution" if low > 0.5 else "not told apart by this probe"
        beside = "" if rival in (None, title) else _beside(record, records[rival], rival)
        found.append(
            f"{title}: the probe is right in {value:.1%} [{low:.1%}, {high:.1%}] of cases: "
            f"{verdict}{beside}."
        )
    return found


def _beside(record: Features, rival: Features, title: str) -> str:
    """Whether one network's features are told apart more or less than another's."""
    if record.probe_hits is None or rival.probe_hits is None:
        return ""
    less, more = rules.larger(rival.probe_hits, record.probe_hits)
    p_value = float(min(less, more))
    if p_value >= paired.ALPHA:
        return f"; neither more nor less than {title}'s (p={p_value:.2g})"
    return f"; {'less' if less < more else 'more'} than {title}'s (p={p_value:.2g})"
