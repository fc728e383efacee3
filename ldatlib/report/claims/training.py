"""Section 3: what happens while LDAT is trained."""

from ldatlib.evaluation.robustness import wilson_interval
from ldatlib.report.claims.evidence import Evidence, Seen


def growing_perturbation(evidence: Evidence) -> Seen:
    log = evidence.logs[evidence.ldat]
    first, last = log[0]["attack_norm"], log[-1]["attack_norm"]
    return last > first, f"mean length {first:.2f} in the first epoch, {last:.2f} in the last"


def still_classifies(evidence: Evidence) -> Seen:
    log = evidence.logs[evidence.ldat]
    clean = [line["val_clean_accuracy"] for line in log if "val_clean_accuracy" in line]
    distances = [line["smallest_centroid_distance"] for line in log]
    count = evidence.training[evidence.ldat].val_images
    low, _ = wilson_interval(round(max(clean) * count), count)
    text = (
        f"validation clean accuracy {max(clean):.1%} at its best, {clean[-1]:.1%} at the end; "
        f"smallest centroid distance {max(distances):.2f} at most, {distances[-1]:.2f} at the end"
    )
    return clean[-1] >= low, text
