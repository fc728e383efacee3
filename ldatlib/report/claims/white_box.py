"""Section 4.2.2 and 4.3: accuracies under attack, budgets, iterations."""

from torch import Tensor

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import glossary, oddity, paired
from ldatlib.report.claims import rules
from ldatlib.report.claims.contests import BESIDE, Contest, corrected, settle
from ldatlib.report.claims.evidence import Evidence, NoRecord
from ldatlib.report.claims.rules import Seen
from ldatlib.report.comparisons import survivors
from ldatlib.report.words import NORMS, column_title
from ldatlib.study.records.attacked import Point

# How far the budget grows in the claim about it: beyond Table 1's, where something is left.
GROWN = 1.5


def best_against_all_attacks(evidence: Evidence) -> Seen:
    keys = [key for key in evidence.whitebox[evidence.ldat].attacks if not key.endswith("ddn")]
    contests = [evidence.contest(key, column_title(key)) for key in keys]
    sides = [c.ahead(p) for c, p in zip(contests, corrected(contests), strict=True)]
    found = settle(
        evidence.title,
        contests,
        shown=[column_title(key) for key in ("linf_pgd", "l2_pgd")],
        of=evidence.speaks_of,
    )
    text = (
        f"ahead of everybody in {sides.count(1)} of {len(keys)} columns, behind somebody in "
        f"{sides.count(-1)}, not told apart in {sides.count(0)}; {found.text}"
    )
    return Seen(found.holds, text, found.scope, found.of)


def best_under_everything(evidence: Evidence) -> Seen:
    """The same claim under AutoAttack and all else that was run, norm by norm."""
    auto = {name: evidence.autoattack[name] for name in evidence.compared}
    searched = {name: evidence.search[name].norms for name in auto if name in evidence.search}
    norms = [
        norm
        for norm in NORMS
        if all(norm in {*auto[name].norms, *searched.get(name, ())} for name in auto)
    ]
    if not norms:
        raise NoRecord("a norm under which all were scrutinised")
    contests = []
    for norm in norms:
        left = {}
        for name, record in auto.items():
            kinds = (evidence.search, evidence.masking, evidence.adaptive)
            others = [records[name] for records in kinds if name in records]
            left[name] = survivors(evidence.whitebox[name], record, others, norm)["worst_case"]
        contests.append(evidence.contest_of(left, NORMS[norm]))
    return settle(evidence.title, contests, scope=only(norms))


def only(norms: list[str]) -> str:
    """The scope of what was tested under these norms: said where they are not all."""
    return "" if len(norms) == len(NORMS) else f"tested under {NORMS[norms[0]]} alone"


def highest_natural_accuracy(evidence: Evidence) -> Seen:
    return settle(evidence.title, [evidence.contest("natural")], of=evidence.speaks_of)


def advantage_against_deepfool(evidence: Evidence) -> Seen:
    keys = ("linf_deepfool", "l2_deepfool")
    contests = [evidence.contest(key, column_title(key)) for key in keys]
    return settle(evidence.title, contests, of=evidence.speaks_of)


def more_effective_under_l2(evidence: Evidence) -> Seen:
    """Plain training against PGD in L2 is what has to be beaten there."""
    if BESIDE not in evidence.whitebox:
        raise NoRecord(glossary.defence(BESIDE))
    contest = evidence.contest("l2", column_title("l2"))
    return settle(evidence.title, [contest], everybody=True, of=evidence.speaks_of)


def slower_decrease_over_budgets(evidence: Evidence) -> Seen:
    """Of the images that two networks have right without an attack: who loses fewer?

    On the same images, so that nobody falls less for having less to lose.
    """
    contests = []
    for norm in NORMS:
        left = {name: _at_budget(evidence, name, norm) for name in evidence.compared}
        clean = {n: evidence.right(n, "natural")[: len(images)] for n, images in left.items()}
        kept = {n: 100 * left[n][clean[n]].double().mean().item() for n in left}
        pairs = {}
        for name in evidence.others:
            both = clean[evidence.ldat] & clean[name]
            pairs[name] = paired.pair(left[evidence.ldat][both], left[name][both])
        of = f"of its right ones of {len(left[evidence.ldat])} images"
        what = f"{of} kept at {GROWN:g} budgets of {NORMS[norm]} PGD"
        contests.append(evidence.contest_of_pairs(kept, pairs, what))
    return settle(evidence.title, contests)


def _at_budget(evidence: Evidence, name: str, norm: str) -> Tensor:
    """Images right under PGD at the grown budget, bool [N]."""
    budget = evidence.whitebox[name].attacks[f"{norm}_pgd"].settings.eps
    for point in evidence.eps[name].points:
        if point.norm == norm and abs(point.eps / budget - GROWN) < 1e-6:
            return from_bits(point.right)
    raise NoRecord(f"a sweep with {GROWN:g} budgets")


def advantage_over_iterations(evidence: Evidence) -> Seen:
    contests: list[Contest] = []
    for method in ("pgd", "cw"):
        last = {name: _at_most_steps(evidence, name, method) for name in evidence.compared}
        steps = last[evidence.ldat].steps
        right = {name: from_bits(point.right) for name, point in last.items()}
        what = f"{METHODS[method].title}, {steps} iterations, {len(right[evidence.ldat])} images"
        contests.append(evidence.contest_of(right, what))
    return settle(evidence.title, contests)


def _at_most_steps(evidence: Evidence, name: str, method: str) -> Point:
    """The point of the sweep at the largest number of iterations that was tried."""
    points = [point for point in evidence.steps[name].points if point.method == method]
    if not points:
        raise NoRecord(f"a sweep of {method}")
    return max(points, key=lambda point: point.steps)


def apgd_above_pgd(evidence: Evidence) -> Seen:
    """The paper's oddity, in both norms; beside it APGD on the loss that PGD ascends."""
    auto = evidence.autoattack.get(evidence.ldat)
    found = oddity.measured(evidence.whitebox[evidence.ldat], auto)
    holds = rules.verdict([rules.ahead(one.pair) for one in found.values()])
    (said,) = oddity.sentences([(evidence.title, found)])
    return Seen(holds, said)
