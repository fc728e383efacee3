"""Section 4.2.3: images crafted on a surrogate."""

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report import glossary
from ldatlib.report.claims import rules
from ldatlib.report.claims.contests import settle
from ldatlib.report.claims.evidence import Evidence
from ldatlib.report.claims.rules import Seen
from ldatlib.report.paired import MARGIN

SURROGATES = {"natural": "undefended", "standard": "defended"}
# The columns of Tables 4 and 5.
ATTACKS = ("linf_fgsm", "linf_mi_fgsm", "linf_pgd")


def best_in_the_black_box(evidence: Evidence) -> Seen:
    contests = []
    for surrogate, name in SURROGATES.items():
        for key in ATTACKS:
            ours = (surrogate, evidence.ldat, key)
            percent = {
                d: 100 * evidence.transferred(surrogate, d, key).value for d in evidence.compared
            }
            pairs = {d: evidence.transfer_pair(ours, (surrogate, d, key)) for d in evidence.others}
            what = f"{name} surrogate, {METHODS[key.partition('_')[2]].title}"
            contests.append(evidence.contest_of_pairs(percent, pairs, what))
    shown = [f"{name} surrogate, {METHODS['pgd'].title}" for name in SURROGATES.values()]
    return settle(evidence.title, contests, shown=shown)


def _working(evidence: Evidence) -> list[str]:
    """Those compared that do not guess: of a constant answer nothing is lost."""
    return [d for d in evidence.compared if not evidence.guesses(evidence.whitebox[d])]


def undefended_surrogate_is_weak(evidence: Evidence) -> Seen:
    lost, supports = {}, []
    for defence in _working(evidence):
        for key in ATTACKS:
            clean, attacked = ("natural", defence, "clean"), ("natural", defence, key)
            found = evidence.transfer_pair(clean, attacked)
            lost[defence, key] = 100 * found.difference
            supports.append(rules.at_most(found))
    if not supports:
        return Seen(None, "every network collapsed")
    (worst, key), most = max(lost.items(), key=lambda item: item[1])
    text = (
        f"up to {most:.1f} points below natural ({glossary.defence(worst)}, "
        f"{METHODS[key.partition('_')[2]].title}); margin {100 * MARGIN:g} points"
    )
    return Seen(rules.verdict(supports), text)


def defended_surrogate_is_strong(evidence: Evidence) -> Seen:
    """Far better: by more than the margin."""
    texts, supports = [], []
    for defence in _working(evidence):
        weak, strong = (("natural", defence, "linf_pgd"), ("standard", defence, "linf_pgd"))
        supports.append(rules.far_ahead(evidence.transfer_pair(weak, strong)))
        shares = [100 * evidence.transferred(*which).value for which in (weak, strong)]
        texts.append(f"{glossary.defence(defence)} {shares[0]:.0f}% to {shares[1]:.0f}%")
    if not supports:
        return Seen(None, "every network collapsed")
    doubts = rules.doubts(supports)
    told = [f"{t} (p={p:.2g})" for t, p in zip(texts, doubts, strict=True)]
    text = (
        f"PGD, undefended to defended surrogate, with the {rules.margin_p()}: {', '.join(told)}; "
        f"far: by more than {100 * MARGIN:g} points"
    )
    return Seen(rules.verdict(supports), text)
