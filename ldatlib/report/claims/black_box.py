"""Section 4.2.3: images crafted on a surrogate."""

from ldatlib.report import glossary
from ldatlib.report.claims.evidence import Evidence, Seen, all_hold


def best_in_the_black_box(evidence: Evidence) -> Seen:
    texts, verdicts = [], []
    for surrogate, name in (("natural", "undefended"), ("standard", "defended")):
        shares = {
            defence: evidence.transferred(surrogate, defence, "linf_pgd")
            for defence in evidence.compared
        }
        rival = max(evidence.rivals, key=lambda defence: shares[defence].value)
        ours, theirs = shares[evidence.ldat], shares[rival]
        apart = ours.low > theirs.high or ours.high < theirs.low
        verdicts.append(ours.value > theirs.value if apart else None)
        texts.append(
            f"{name} surrogate, PGD: {evidence.title} {100 * ours.value:.1f}%, best rival "
            f"{glossary.defence(rival)} {100 * theirs.value:.1f}%"
        )
    return all_hold(verdicts), "; ".join(texts)


def undefended_surrogate_is_weak(evidence: Evidence) -> Seen:
    shown = evidence.compared
    shares = {d: evidence.transferred("natural", d, "linf_pgd") for d in shown}
    clean = {d: evidence.transferred("natural", d, "clean") for d in shown}
    lost = {d: 100 * (clean[d].value - shares[d].value) for d in shown}
    worst = max(lost, key=lost.__getitem__)
    text = f"at most {lost[worst]:.1f} points below natural ({glossary.defence(worst)})"
    return all(shares[d].high >= clean[d].low for d in shown), text


def defended_surrogate_is_strong(evidence: Evidence) -> Seen:
    texts, holds = [], []
    for defence in evidence.compared:
        weak = evidence.transferred("natural", defence, "linf_pgd")
        strong = evidence.transferred("standard", defence, "linf_pgd")
        holds.append(strong.high < weak.low)
        values = f"{100 * weak.value:.0f}% to {100 * strong.value:.0f}%"
        texts.append(f"{glossary.defence(defence)} {values}")
    text = "PGD, undefended to defended surrogate: " + ", ".join(texts)
    return True if all(holds) else (None if any(holds) else False), text
