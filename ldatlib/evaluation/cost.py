"""What attacks cost, in forward passes of one image that never falls.

An input gradient counts as one more pass.
"""

from collections.abc import Sequence

from ldatlib.evaluation.adaptive import CONFIDENCES, TARGETS, number_of_searches
from ldatlib.evaluation.detection import Score
from ldatlib.evaluation.gate.wrappers import AveragedScore
from ldatlib.evaluation.masking import ball, landscape
from ldatlib.evaluation.masking.bench import Effort
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.rejection import FRACTIONS
from ldatlib.evaluation.search import RADII

# Forward passes a step, an input gradient counted as one more; those not named take two. FAB and
# DeepFool ask for a gradient a class, C&W searches nine times for its constant.
_PER_STEP = {"cw": 18, "square": 1}
# One step whatever is said, and DeepFool, which stops when its whole batch is fooled.
_MOST_STEPS = {"fgsm": 1, "deepfool": 8}


def forward_equivalents(attack: Attack, classes: int) -> int:
    """What an attack costs an image that never falls, in forward passes."""
    if attack.method == "margin":
        # One look more at the start of every ball.
        return 2 * (attack.steps + len(attack.radii)) * attack.restarts
    if attack.method == "fab":
        # Targeted: one gradient, of a margin, for each target.
        a_step = 3 * attack.targets if attack.targets else 2 + classes
    elif attack.method == "deepfool":
        a_step = 2 * classes
    else:
        a_step = _PER_STEP.get(attack.method, 2)
    return a_step * min(attack.steps, _MOST_STEPS.get(attack.method, attack.steps))


# Of AutoAttack's four: passes, and passes for each target. FAB asks for two gradients of single
# logits a step.
_ENSEMBLE = {"apgd-ce": (200, 0), "apgd-t": (0, 200), "fab-t": (0, 300), "square": (5000, 0)}


def of_autoattack(attacks: Sequence[str], targets: int) -> int:
    """These attacks of AutoAttack's standard ensemble, at so many wrong classes."""
    return sum(_ENSEMBLE[name][0] + _ENSEMBLE[name][1] * targets for name in attacks)


def of_masking(effort: Effort, classes: int, siblings: int = 0) -> int:
    """All tests for gradient masking, with so many networks that images are carried over from."""
    # CE and DLR by APGD; the margin, the cross-entropy and the margin in the ball alone.
    searches = 1 + 5 * effort.restarts + (classes - 1) + len(ball.STEP_SIZES) + 10
    searches += siblings + 5
    searches += len(landscape.SCALES) + 2 * len(landscape.FAR_SCALES)
    # One look more at the start of every ball of a search from larger ones, and three at what each
    # search has found.
    looks = 2 * len(RADII) * (2 * effort.restarts + classes + 2) + 3 * searches
    return 2 * effort.steps * searches + looks + effort.queries + 2 * len(landscape.SURFACE)


def of_detector(
    score: Score,
    thresholds: int,
    classes: int,
    steps: int,
    restarts: int,
    queries: int | None = None,
) -> int:
    """All attacks on a score, at so many thresholds; ``queries`` where it has no gradient.

    Beside the thresholds the highest score, and the lowest of each fraction of the budget, in
    three and four searches. Without a gradient Square climbs, in one fewer each, from images of
    greatest margin, which has one; of a mean over looks from those of single classes, too. A look
    counts as one pass, whatever the score does in it.
    """
    a_search = 2 * (steps + len(RADII))
    looks = getattr(score, "looks", 1)
    if queries is None:
        searches = 3 + 4 * len(FRACTIONS)
        searches += thresholds * number_of_searches(score, classes, restarts)
        return looks * searches * a_search
    climbs = 2 + 3 * len(FRACTIONS)
    climbs += thresholds * number_of_searches(score, classes, restarts, steep=False)
    begun = len(CONFIDENCES)
    if isinstance(score, AveragedScore):
        begun += min(TARGETS, classes - 1)
    # One look more at where a climb begins.
    return begun * a_search + looks * climbs * (queries + 1)
