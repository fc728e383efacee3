"""A model that is hardly ever right: are labels shifted, or is a step of its input left out?"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.evaluation.gate.findings import Findings

# Fewer images say nothing of chance; where few are right, more are looked at.
_FEWEST, _MORE = 8, 64
# Below this accuracy, other labels and inputs are tried, and named where they are better. By chance
# alone one is in at most so many cases.
_WEAK, _BY_CHANCE = 0.75, 0.005
# How often a model that guesses would be right at most, in so many cases.
_GUESSING = 0.95

_STATISTICS = {
    3: {
        "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    },
    1: {"MNIST": ((0.1307,), (0.3081,))},
}


def spread_over(x: Tensor, count: int) -> Tensor:
    """Rows of at most ``count`` images from all over the data, which may lie class by class."""
    return torch.linspace(0, len(x) - 1, min(count, len(x)), device=x.device).round().long()


def diagnose(
    model: nn.Module, x: Tensor, y: Tensor, rows: Tensor, logits: Tensor, found: Findings
) -> None:
    """Findings on what a model predicts; ``logits`` are those of the images ``rows``.

    Raises ``UserError`` where labels are certainly shifted: the first or the last class does not
    occur, and three in four shifted ones are right.
    """
    predicted, classes = logits.argmax(1), logits.shape[1]
    if len(rows) < _FEWEST:
        return
    constant = bool((predicted == predicted[0]).all())
    if constant and not (y[rows] == y[rows[0]]).all():
        found.warn(
            "constant",
            f"the model predicts class {int(predicted[0])} for all {len(rows)} images looked at: "
            "there is little to attack; has it collapsed, are its weights loaded?",
        )
    if (predicted == y[rows]).float().mean() >= _WEAK:
        return
    rows = spread_over(x, _MORE)
    with torch.no_grad():
        predicted = model(x[rows]).argmax(1)
    right = predicted == y[rows]
    said = f"only {int(right.sum())} of {len(rows)} images looked at are right"
    known = len(found)
    if not constant:
        _check_shift(predicted, y, rows, classes, said, found)
    _check_input(model, x[rows], y[rows], right, said, found)
    if len(found) == known and int(right.sum()) <= _most_by_guessing(len(rows), classes):
        found.warn(
            "chance",
            f"{said}, about chance with {classes} classes; neither labels shifted by one nor "
            "normalised images nor pixels of 0 to 255 clearly help: are the weights loaded, are the "
            "classes in this order?",
        )


def _most_by_guessing(count: int, classes: int) -> int:
    from scipy.stats import binom

    return int(binom.ppf(_GUESSING, count, 1 / classes))


def _clearly_better(now: Tensor, right: Tensor) -> bool:
    """The sign test of McNemar."""
    from scipy.stats import binom

    gained, lost = int((now & ~right).sum()), int((right & ~now).sum())
    return gained > lost and binom.sf(gained - 1, gained + lost, 0.5) <= _BY_CHANCE


def _check_shift(
    predicted: Tensor, y: Tensor, rows: Tensor, classes: int, said: str, found: Findings
) -> None:
    for shift, how in ((-1, "y - 1"), (1, "y + 1")):
        now = predicted == y[rows] + shift
        if not _clearly_better(now, predicted == y[rows]):
            continue
        said = f"{said}, and {int(now.sum())} with {how}"
        unused = y.min() >= 1 if shift < 0 else y.max() <= classes - 2
        if unused and now.float().mean() >= _WEAK:
            raise UserError(f"{said}; labels run from 0 to {classes - 1}: pass {how}")
        found.warn("shifted", f"{said}: are labels shifted? They run from 0 to {classes - 1}")
        return


def _check_input(
    model: nn.Module, x: Tensor, y: Tensor, right: Tensor, said: str, found: Findings
) -> None:
    tried = {}
    for how, change in _inputs(x).items():
        with torch.no_grad():
            now = model(change(x)).argmax(1) == y
        if _clearly_better(now, right):
            tried[how] = int(now.sum())
    if tried:
        how = max(tried, key=lambda way: tried[way])
        found.warn(
            "input",
            f"{said}, and {tried[how]} if the model is given {how}: make that a part of the "
            f"model, lambda x: model({how.split(',')[0].split(' with')[0]})",
        )


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
