"""What attacks cost, in forward passes of one image."""

from ldatlib.evaluation.named_attacks import Attack

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
