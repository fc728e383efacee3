"""A model that is hardly ever right: are labels shifted, or is a step of its input left out?"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.evaluation.gate.findings import Findings

# Fewer images say nothing of chance.
_FEWEST = 8
# Below this accuracy, other inputs are tried; one that is better by chance alone is named in at
# most so many cases.
_WEAK, _BY_CHANCE = 0.75, 1e-3
# How often a model that guesses would be right at most, in so many cases.
_GUESSING = 0.95
# The share right with shifted labels from which that is said. Two classes, swapped, have half.
_CLEARLY = 0.5

_STATISTICS = {
    3: {
        "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    },
    1: {"MNIST": ((0.1307,), (0.3081,))},
}


def diagnose(
    model: nn.Module, x: Tensor, y: Tensor, logits: Tensor, all_labels: Tensor, found: Findings
) -> None:
    """Findings on what a model predicts for a few images; ``logits`` are those of ``x``.

    Raises ``UserError`` where labels are certainly shifted: the first or the last class does not
    occur, and three in four shifted ones are right.
    """
    predicted, count, classes = logits.argmax(1), len(x), logits.shape[1]
    if count < _FEWEST:
        return
    if (predicted == predicted[0]).all() and not (y == y[0]).all():
        found.warn(
            "constant",
            f"the model predicts class {int(predicted[0])} for all {count} images looked at: "
            "there is little to attack; has it collapsed, are its weights loaded?",
        )
    right = predicted == y
    guessing = int(right.sum()) <= _most_by_guessing(count, classes)
    if guessing:
        _check_shift(predicted, y, all_labels, classes, found)
    if not guessing and right.double().mean() >= _WEAK:
        return
    said = f"only {int(right.sum())} of {count} images looked at are right"
    better = _better_input(model, x, y, right)
    if better:
        how, with_it = better
        found.warn(
            "input",
            f"{said}, and {with_it} if the model is given {how}: make that a part of the model, "
            f"lambda x: model({how})",
        )
    elif guessing and not any(flag.name == "shifted" for flag in found):
        found.warn(
            "chance",
            f"{said}, about chance with {classes} classes; neither labels shifted by one nor "
            "normalised images nor pixels of 0 to 255 help: are the weights loaded, are the "
            "classes in this order?",
        )


def _most_by_guessing(count: int, classes: int) -> int:
    from scipy.stats import binom

    return int(binom.ppf(_GUESSING, count, 1 / classes))


def _check_shift(
    predicted: Tensor, y: Tensor, all_labels: Tensor, classes: int, found: Findings
) -> None:
    for shift, how in ((-1, "y - 1"), (1, "y + 1")):
        right = predicted == y + shift
        if right.double().mean() < _CLEARLY:
            continue
        said = f"{int((predicted == y).sum())} of {len(y)} images looked at are right with the "
        said += f"labels as they are, and {int(right.sum())} with {how}"
        unused = all_labels.min() >= 1 if shift < 0 else all_labels.max() <= classes - 2
        if unused and right.double().mean() >= _WEAK:
            raise UserError(f"{said}; labels run from 0 to {classes - 1}: pass {how}")
        found.warn("shifted", f"{said}: are labels shifted? They run from 0 to {classes - 1}")


def _better_input(model: nn.Module, x: Tensor, y: Tensor, right: Tensor) -> tuple[str, int] | None:
    """The input with which clearly more images are right, as an expression, and how many."""
    from scipy.stats import binom

    best = None
    for how, change in _inputs(x).items():
        with torch.no_grad():
            now = model(change(x)).argmax(1) == y
        gained, lost = int((now & ~right).sum()), int((right & ~now).sum())
        # The sign test of McNemar.
        by_chance = binom.sf(gained - 1, gained + lost, 0.5) if gained else 1.0
        if by_chance <= _BY_CHANCE and (best is None or now.sum() > best[1]):
            best = how, int(now.sum())
    return best


def _inputs(x: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    def standardised(mean: Tensor, std: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: ((x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)).contiguous()

    channels = x.shape[1]
    ways: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, (mean, std) in _STATISTICS.get(channels, {}).items():
        how = f"(x - mean) / std with the mean {list(mean)} and std {list(std)} of {name}"
        ways[how] = standardised(x.new_tensor(mean), x.new_tensor(std))
    ways["2 * x - 1"] = lambda x: 2 * x - 1
    own = x.mean((0, 2, 3)), x.std((0, 2, 3)).clamp_min(1e-6)
    ways["(x - mean) / std with the images' own mean and std"] = standardised(*own)
    ways["255 * x"] = lambda x: 255 * x
    if channels == 3:
        ways["x.flip(1), the channels in the order BGR"] = lambda x: x.flip(1)
    return ways
