"""Section 3: what happens while LDAT is trained."""

import numpy as np

from ldatlib.report import paired
from ldatlib.report.claims import rules
from ldatlib.report.claims.evidence import Evidence, NoRecord
from ldatlib.report.claims.rules import Seen
from ldatlib.report.comparisons import right_images
from ldatlib.report.paired import MARGIN
from ldatlib.study.records import Train

GROWING = ("grow", "grow_by_step", "grow_from_half")
WITHOUT = "lambda 0"
# Of a difference: what is beyond is rounding, and no order.
_DIGITS = 9


def growing_perturbation(evidence: Evidence) -> Seen:
    """From one validated epoch to the next: the change of its length with that of robust accuracy.

    Both have a trend over the epochs, as whatever is trained has; so their levels would go together
    whether one follows the other or not. Of images that are right, where the log tells them apart:
    around the others, which no training makes robust, Algorithm 1 only shrinks.
    """
    log = [line for line in evidence.logs[evidence.ldat] if "val_robust_accuracy" in line]
    apart = all("attack_norm_right" in line for line in log)
    key = "attack_norm_right" if apart else "attack_norm"
    lines = [line for line in log if key in line]
    if len(lines) < 2:
        raise NoRecord("a log with lengths and robust accuracies")
    lengths = [line[key] for line in lines]
    robust = [line["val_robust_accuracy"] for line in lines]
    support = rules.rises(*(np.diff(values).round(_DIGITS) for values in (lengths, robust)))
    around = " around right images" if apart else ""
    text = (
        f"mean length{around} {lengths[0]:.2f} in epoch {lines[0]['epoch']}, {lengths[-1]:.2f} in "
        f"epoch {lines[-1]['epoch']}; its changes with those of the validation robust accuracy "
        f"(Kendall, {len(lines) - 1} changes) p={rules.doubts([support])[0]:.2g}"
    )
    return Seen(rules.verdict([support]), text)


def still_classifies(evidence: Evidence) -> Seen:
    """Natural accuracy without the likelihood term less that with it, where both were trained.

    Without such a training nobody can tell: what is lost from the best epoch to the last may be
    anybody's.
    """
    trained = evidence.training[evidence.ldat]
    if not grows(trained):
        raise NoRecord("a training whose lambda grows")
    if evidence.at_chance:
        clean = evidence.whitebox[evidence.ldat].clean_accuracy
        return Seen(False, f"it collapses: natural accuracy {clean.value:.1%}, as by guessing")
    if WITHOUT in evidence.switched and evidence.ldat in evidence.whitebox:
        without = right_images(evidence.switched[WITHOUT], "natural")
        own = evidence.right(evidence.ldat, "natural")
        found = paired.pair(without, own)
        low, high = (-100 * end for end in reversed(paired.interval(found)))
        text = (
            f"natural accuracy {100 * own.double().mean().item():.1f}%, without the term "
            f"{100 * without.double().mean().item():.1f}%: {-100 * found.difference:+.1f} points "
            f"[{low:+.1f}, {high:+.1f}]; margin {100 * MARGIN:g} points"
        )
        return Seen(rules.verdict([rules.at_most(found)]), text)
    log = evidence.logs[evidence.ldat]
    clean_accuracies = [line["val_clean_accuracy"] for line in log if "val_clean_accuracy" in line]
    text = (
        f"validation clean accuracy {max(clean_accuracies):.1%} at its best, "
        f"{clean_accuracies[-1]:.1%} at the end; what the term costs takes the same training "
        f"without it ({WITHOUT}), which this run does not have"
    )
    return Seen(None, text)


def grows(trained: Train) -> bool:
    """Whether the weight of the likelihood term grows in a training."""
    defence = trained.config["defence"]
    return defence.get("lambda_schedule") in GROWING and defence.get("lambda_init", 0) > 0
