"""Table 3 and Section 4.4: one thing of LDAT changed at a time."""

from ldatlib.report.claims.evidence import Evidence, NoRecord, Seen, all_hold
from ldatlib.report.comparisons import mcnemar
from ldatlib.report.words import column_title
from ldatlib.study.records import Basic


def beta_trades_off(evidence: Evidence) -> Seen:
    betas = sorted(evidence.betas)
    if not betas:
        raise NoRecord("betas")
    records = [evidence.betas[beta] for beta in betas]
    natural = [100 * record.clean_accuracy.value for record in records]
    robust = [_left(record, "linf_pgd") for record in records]
    text = "; ".join(
        f"beta {b:g}: natural {n:.1f}%, PGD {r:.1f}%"
        for b, n, r in zip(betas, natural, robust, strict=True)
    )
    less_natural = mcnemar(records[-1], records[0], "natural")[2] < 0.05
    more_robust = mcnemar(records[-1], records[0], "linf_pgd")[2] < 0.05
    if not (less_natural or more_robust):
        return None, text
    both = less_natural and more_robust
    return (both and natural[-1] < natural[0] and robust[-1] > robust[0]) or None, text


def beta_saturates(evidence: Evidence) -> Seen:
    half, one = evidence.betas[0.5], evidence.betas[1.0]
    p_value = mcnemar(one, half, "linf_pgd")[2]
    at_half, at_one = _left(half, "linf_pgd"), _left(one, "linf_pgd")
    text = f"PGD {at_half:.1f}% at beta 0.5, {at_one:.1f}% at 1 (p={p_value:.2g})"
    return p_value >= 0.05 or at_one <= at_half, text


def algorithm1_is_better(evidence: Evidence) -> Seen:
    texts, verdicts = [], []
    base = evidence.attacks["Algorithm 1"]
    for key in ("linf_pgd", "l2_pgd"):
        own, rows = _left(base, key), []
        for name, record in evidence.attacks.items():
            if name != "Algorithm 1":
                value, p_value = _left(record, key), mcnemar(base, record, key)[2]
                verdicts.append(None if p_value >= 0.05 else own > value)
                rows.append(f"{name} {value:.1f}%")
        texts.append(f"{column_title(key)}: Algorithm 1 {own:.1f}%, {', '.join(rows)}")
    return all_hold(verdicts), "; ".join(texts)


def _left(record: Basic, key: str) -> float:
    return 100 * record.attacks[key].robust_accuracy.value
