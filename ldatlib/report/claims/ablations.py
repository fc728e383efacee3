"""Table 3 and Section 4.4: one thing of LDAT changed at a time."""

from ldatlib.report import paired
from ldatlib.report.claims import rules
from ldatlib.report.claims.evidence import Evidence, NoRecord
from ldatlib.report.claims.rules import Seen, Support
from ldatlib.report.comparisons import right_images
from ldatlib.report.paired import MARGIN, Pair
from ldatlib.report.words import column_title
from ldatlib.study.records import Basic


def _pair(first: Basic, second: Basic, key: str) -> Pair:
    return paired.pair(right_images(first, key), right_images(second, key))


def _ahead(evidence: Evidence, first: Basic, second: Basic, key: str) -> Support:
    if evidence.guesses(first) or evidence.guesses(second):
        return rules.NONE
    return rules.ahead(_pair(first, second, key))


def beta_trades_off(evidence: Evidence) -> Seen:
    """From the smallest to the largest beta: less natural, more robust accuracy."""
    betas = sorted(evidence.betas)
    if len(betas) < 2:
        raise NoRecord(f"two values of beta{evidence.instead}")
    records = [evidence.betas[beta] for beta in betas]
    first, last = records[0], records[-1]
    natural = _ahead(evidence, first, last, "natural")
    robust = _ahead(evidence, last, first, "linf_pgd")
    text = "; ".join(
        f"beta {b:g}: natural {100 * r.clean_accuracy.value:.1f}%, PGD {_left(r, 'linf_pgd'):.1f}%"
        for b, r in zip(betas, records, strict=True)
    )
    doubts = rules.doubts([natural, robust])
    text += f" (first to last: natural p={doubts[0]:.2g}, PGD p={doubts[1]:.2g})"
    return Seen(rules.verdict([natural, robust]), text)


def beta_saturates(evidence: Evidence) -> Seen:
    if not {0.5, 1.0} <= set(evidence.betas):
        raise NoRecord(f"beta 0.5 and 1{evidence.instead}")
    half, one = evidence.betas[0.5], evidence.betas[1.0]
    found = _pair(one, half, "linf_pgd")
    low, high = (100 * end for end in paired.interval(found))
    text = (
        f"PGD {_left(half, 'linf_pgd'):.1f}% at beta 0.5, {_left(one, 'linf_pgd'):.1f}% at 1: "
        f"{100 * found.difference:+.1f} points [{low:+.1f}, {high:+.1f}]; margin "
        f"{100 * MARGIN:g} points"
    )
    if evidence.guesses(half) or evidence.guesses(one):
        return Seen(None, f"collapsed; {text}")
    return Seen(rules.verdict([rules.at_most(found)]), text)


def algorithm1_is_better(evidence: Evidence) -> Seen:
    if "Algorithm 1" not in evidence.attacks:
        raise NoRecord(f"Algorithm 1 replaced{evidence.instead}")
    base = evidence.attacks["Algorithm 1"]
    others = {name: r for name, r in evidence.attacks.items() if name != "Algorithm 1"}
    supports = {
        (key, name): _ahead(evidence, base, record, key)
        for key in ("linf_pgd", "l2_pgd")
        for name, record in others.items()
    }
    doubts = dict(zip(supports, rules.doubts(list(supports.values())), strict=True))
    texts = [
        f"{column_title(key)}: Algorithm 1 {_left(base, key):.1f}%, "
        + ", ".join(
            f"{name} {_left(record, key):.1f}% (p={doubts[key, name]:.2g})"
            for name, record in others.items()
        )
        for key in ("linf_pgd", "l2_pgd")
    ]
    return Seen(rules.verdict(list(supports.values())), "; ".join(texts))


def _left(record: Basic, key: str) -> float:
    return 100 * record.attacks[key].robust_accuracy.value
