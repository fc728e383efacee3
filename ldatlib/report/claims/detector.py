"""Section 4.6: rejecting what the network is unsure of."""

from torch import Tensor

from ldatlib.evaluation import detection
from ldatlib.evaluation.robustness import wilson_interval
from ldatlib.report import detector, tables
from ldatlib.report.claims.evidence import Evidence, Seen, all_hold
from ldatlib.report.comparisons import share, survivors
from ldatlib.report.words import column_title


def _scored(evidence: Evidence, key: str) -> tuple[Tensor, Tensor]:
    return detector.scored(evidence.detection[evidence.ldat], "posterior", key)


def spares_natural_images(evidence: Evidence) -> Seen:
    counts = detection.count(*_scored(evidence, "clean"), detection.PAPER_THRESHOLD)
    rejected = counts.rejected_right + counts.rejected_wrong
    low, high = wilson_interval(rejected, counts.total)
    text = f"0.6 rejects {rejected / counts.total:.1%} [{low:.1%}, {high:.1%}] of clean images"
    return (True if high < 0.05 else False if low > 0.05 else None), text


def successes_have_low_confidence(evidence: Evidence) -> Seen:
    record = evidence.detection[evidence.ldat]
    aucs = {
        key: detection.roc(*detector.groups(record, "posterior", key))["auc"]
        for key in ("l2_cw", "l2_fab", "linf_fab")
    }
    if None in aucs.values():
        return None, "an attack without a success"
    text = "AUC of the posterior, clean against successful: " + ", ".join(
        f"{column_title(key)} {auc:.2f}" for key, auc in aucs.items()
    )
    return min(aucs.values()) > 0.9, text


def helps_against_the_near(evidence: Evidence) -> Seen:
    """Attacks that stop behind the boundary, against those that walk on."""
    gains = {}
    for key in ("linf_pgd", "l2_pgd", "l2_cw", "l2_fab", "linf_fab"):
        without, with_threshold = (
            detection.count(*_scored(evidence, key), threshold).defence_success
            for threshold in (float("-inf"), detection.PAPER_THRESHOLD)
        )
        gains[key] = 100 * (with_threshold - without)
    text = "gain of 0.6 in defence success: " + ", ".join(
        f"{column_title(key)} {gain:+.1f}" for key, gain in gains.items()
    )
    strong = max(gains["linf_pgd"], gains["l2_pgd"])
    return min(gains["l2_cw"], gains["l2_fab"], gains["linf_fab"]) > max(strong, 0), text


def helps_against_the_adaptive(evidence: Evidence) -> Seen:
    """Wrong and accepted under the attack that knows 0.6, against wrong without a threshold."""
    record, seen = evidence.adaptive[evidence.ldat], evidence.detection[evidence.ldat]
    white, auto = evidence.whitebox[evidence.ldat], evidence.autoattack[evidence.ldat]
    masking = evidence.masking[evidence.ldat]
    rows = tables.adaptive_rows([record], [seen])
    rows = rows[(rows.score == "posterior") & (rows.cut == detection.PAPER_THRESHOLD)]
    texts, verdicts = [], []
    for _, row in rows.iterrows():
        wrong = share(~survivors(white, auto, [record, masking], row.norm)["worst_case"])
        low, high = 100 * wrong.low, 100 * wrong.high
        verdicts.append(True if row.union_high < low else False if row.union_low > high else None)
        texts.append(
            f"{row.norm}: wrong without a threshold {100 * wrong.value:.0f}%, wrong and "
            f"accepted {row.adaptive:.0f}% (strongest ordinary attack {row.ordinary:.0f}%), clean "
            f"images rejected {row.clean_rejection:.0f}%"
        )
    return all_hold(verdicts), "; ".join(texts)
