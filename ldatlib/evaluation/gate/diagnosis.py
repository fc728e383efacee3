"""A model that is hardly ever right: are labels shifted, or is a step of its input left out?"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.evaluation.gate.findings import Findings

# Fewer images say nothing of chance; where few are right, more are looked at.
_FEWEST, _MORE = 8, 64
# Below this accuracy, other labels and inputs are tried, and named where they are better. By chance
# alone one is in at most so many cases.
_WEAK, _BY_CHANCE = 0.75, 0.005
# With labels that are off by one, so many times as many images are right once they are not. (Where
# classes are ordered, neighbours are often confused.)
_MANY = 3
# How often a model that guesses would be right at most, in so many cases.
_GUESSING = 0.95

_STATISTICS: dict[int, dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
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
    occur, and with shifted ones many times as many images are right. (Of labels that the model
    was trained on that is a finding.)
    """
    predicted, classes = logits.argmax(1), logits.shape[1]
    if len(rows) < _FEWEST:
        return
    constant = bool((predicted == predicted[0]).all())
    if constant and not (y[rows] == y[rows[0]]).all():
        answer = found.class_of(int(predicted[0]))
        found.warn(
            "constant",
            f"the model predicts {answer} for all {len(rows)} images looked at: there is little to "
            "attack; has it collapsed, are its weights loaded?",
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
    guessed = _most_by_guessing(len(rows), classes)
    _check_input(model, x[rows], y[rows], right, guessed, said, found)
    if len(found) == known and int(right.sum()) <= guessed:
        found.warn(
            "chance",
            f"{said}, about chance with {classes} classes; neither labels shifted by one nor "
            "normalised images nor pixels of 0 to 255 clearly help: are the weights loaded, are "
            "the classes in this order?",
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
    right = predicted == y[rows]
    down, up = (predicted == y[rows] + shift for shift in (-1, 1))
    shift, now, other = (-1, down, up) if down.sum() >= up.sum() else (1, up, down)
    # As many both ways: two classes are swapped, and nothing is shifted.
    if not (_clearly_better(now, right) and _clearly_better(now, other)):
        return
    how = "y - 1" if shift < 0 else "y + 1"
    said = f"{said}, and {int(now.sum())} with {how}"
    unused = y.min() >= 1 if shift < 0 else y.max() <= classes - 2
    if unused and now.sum() > _MANY * right.sum() and not found.known_labels:
        raise UserError(f"{said}; labels run from 0 to {classes - 1}: pass {how}")
    found.warn("shifted", f"{said}: are labels shifted? They run from 0 to {classes - 1}")


def _check_input(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    right: Tensor,
    guessed: int,
    said: str,
    found: Findings,
) -> None:
    # A model that is right less often than by guessing becomes better by guessing.
    best = max(int(right.sum()), guessed), "", ""
    for expression, detail, images in _inputs(x):
        with torch.no_grad():
            now = model(images).argmax(1) == y
        if _clearly_better(now, right) and now.sum() > best[0]:
            best = int(now.sum()), expression, detail
    count, expression, detail = best
    if expression:
        found.warn(
            "input",
            f"{said}, and {count} if the model is given {expression}{detail}: make that a part of "
            f"the model, lambda x: model({expression})",
        )


def _inputs(x: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """What a model may want to be given: the expression, more about it, and the images."""

    def standardised(mean: Tensor, std: Tensor) -> Tensor:
        return (x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    norm, channels = "(x - mean) / std", x.shape[1]
    for name, (mean, std) in _STATISTICS.get(channels, {}).items():
        images = standardised(x.new_tensor(mean), x.new_tensor(std))
        yield norm, f" with the mean {list(mean)} and std {list(std)} of {name}", images
    yield "2 * x - 1", "", 2 * x - 1
    own = x.mean((0, 2, 3)), x.std((0, 2, 3)).clamp_min(1e-6)
    yield norm, " with the images' own mean and std", standardised(*own)
    yield "255 * x", "", 255 * x
    if channels == 3:
        yield "x.flip(1)", ", the channels in the order BGR", x.flip(1)
