"""Section 4.2.2 and 4.3: accuracies under attack, budgets, iterations."""

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report import glossary
from ldatlib.report.claims.evidence import Evidence, NoRecord, Seen, all_hold
from ldatlib.report.comparisons import survivors
from ldatlib.report.words import NORMS, column_title


def best_against_all_attacks(evidence: Evidence) -> Seen:
    keys = [key for key in evidence.whitebox[evidence.ldat].attacks if not key.endswith("ddn")]
    leads = {key: evidence.lead(key) for key in keys}
    ahead = sum(lead.ahead is True for lead in leads.values())
    behind = sum(lead.ahead is False for lead in leads.values())
    text = (
        f"ahead of the best rival in {ahead} of {len(keys)} columns, behind in {behind}, no "
        f"significant difference in {len(keys) - ahead - behind}; "
        f"L-inf PGD: {leads['linf_pgd']}; L2 PGD: {leads['l2_pgd']}"
    )
    return (False if behind else True if ahead == len(keys) else None), text


def best_under_everything(evidence: Evidence) -> Seen:
    """The same claim under AutoAttack and all else that was run, norm by norm."""
    texts, verdicts = [], []
    for norm in evidence.autoattack[evidence.ldat].norms:
        left = {}
        for name in evidence.compared:
            kinds = (evidence.masking, evidence.adaptive)
            others = [records[name] for records in kinds if name in records]
            white, auto = evidence.whitebox[name], evidence.autoattack[name]
            left[name] = survivors(white, auto, others, norm)["worst_case"]
        lead = evidence.lead_of(left)
        verdicts.append(lead.ahead)
        texts.append(f"{norm}: {lead}")
    return all_hold(verdicts), "; ".join(texts)


def highest_natural_accuracy(evidence: Evidence) -> Seen:
    lead = evidence.lead("natural")
    return lead.ahead, str(lead)


def advantage_against_deepfool(evidence: Evidence) -> Seen:
    leads = {key: evidence.lead(key) for key in ("linf_deepfool", "l2_deepfool")}
    text = "; ".join(f"{column_title(key)}: {lead}" for key, lead in leads.items())
    return all_hold(lead.ahead for lead in leads.values()), text


def more_effective_under_l2(evidence: Evidence) -> Seen:
    if "l2_at" not in evidence.whitebox:
        return None, "no L2-AT in this run"
    without, among = evidence.lead("l2"), evidence.lead("l2", [*evidence.rivals, "l2_at"])
    text = f"worst case of L2, the paper's rivals: {without}; with L2-AT among them: {among}"
    return among.ahead, text


def slower_decrease_over_budgets(evidence: Evidence) -> Seen:
    texts, holds = [], []
    for norm in NORMS:
        kept = {}
        for name in evidence.compared:
            budget = evidence.whitebox[name].attacks[f"{norm}_pgd"].settings.eps
            at = {
                round(point.eps / budget, 6): point.robust_accuracy.value
                for point in evidence.eps[name].points
                if point.norm == norm
            }
            if not at.get(1.0) or 1.5 not in at:
                return None, "the sweep has no points at 1 and 1.5 budgets"
            kept[name] = 100 * at[1.5] / at[1.0]
        rival = max(evidence.rivals, key=kept.__getitem__)
        holds.append(kept[evidence.ldat] > kept[rival])
        texts.append(
            f"{norm}: from 1 to 1.5 budgets {evidence.title} keeps {kept[evidence.ldat]:.0f}% of "
            f"its robust accuracy, best rival {glossary.defence(rival)} {kept[rival]:.0f}%"
        )
    return all(holds), "; ".join(texts)


def advantage_over_iterations(evidence: Evidence) -> Seen:
    texts, holds = [], []
    for method in ("pgd", "cw"):
        final = {name: _at_most_steps(evidence, name, method) for name in evidence.compared}
        rival = max(evidence.rivals, key=final.__getitem__)
        holds.append(final[evidence.ldat] > final[rival])
        texts.append(
            f"{METHODS[method].title} at most iterations: {evidence.title} "
            f"{final[evidence.ldat]:.0f}%, best rival {glossary.defence(rival)} {final[rival]:.0f}%"
        )
    return all(holds), "; ".join(texts)


def _at_most_steps(evidence: Evidence, name: str, method: str) -> float:
    """Robust accuracy in percent at the largest number of iterations that was tried."""
    points = [point for point in evidence.steps[name].points if point.method == method]
    if not points:
        raise NoRecord(f"a sweep of {method}")
    return 100 * max(points, key=lambda point: point.steps).robust_accuracy.value


def apgd_above_pgd(evidence: Evidence) -> Seen:
    gaps = {
        norm: evidence.accuracy(evidence.ldat, f"{norm}_apgd")
        - evidence.accuracy(evidence.ldat, f"{norm}_pgd")
        for norm in NORMS
    }
    text = ", ".join(f"{norm} {gap:+.1f} points" for norm, gap in gaps.items())
    return all(gap > 0 for gap in gaps.values()), f"APGD minus PGD, {evidence.title}: {text}"
