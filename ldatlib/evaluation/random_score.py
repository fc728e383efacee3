"""A score of one's own that draws anew at every look: noticed, and attacked as a mean alone.

A search stops at the first lucky draw, and what it found is refused when it is looked at again:
attacked by single looks, such a detector seems better than it is. ``gate.wrappers.AveragedScore``
is the mean, as ``Averaged`` is of a randomised model.
"""

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.detection import Score, own_score
from ldatlib.evaluation.gate.wrappers import Averaged, AveragedScore, stream

_LOOKED_AT = 32
# A draw that is made once for the whole batch may come twice.
_LOOKS = 8
# Of the spread over images, as of two passes of a model: kernels round.
_SAME = 1e-4
# Means over looks by which what was found is chosen and judged: of some images, not at every step.
_FRESH = 8


def randomness(model: nn.Module, x: Tensor, score: Score) -> str | None:
    """What to say of a score that differs from look to look beyond rounding; None: it does not.

    Looked at are the first of ``x`` [N, ...], and halves of two of them: what is counted over
    random views is often the same for all views of a clear image. A mean over random looks or
    passes is no such score; random states, and the draws of such a mean, stay.
    """
    if not callable(score) or isinstance(score, AveragedScore) or not len(x):
        return None
    x = x[:_LOOKED_AT]
    images = torch.cat([x, (x + x.roll(1, 0)) / 2])
    before = model.calls if isinstance(model, Averaged) else 0
    looks = []
    with stream(0, 0), frozen(model), torch.no_grad():
        for _ in range(_LOOKS):
            if isinstance(model, Averaged):
                model.calls = before
            looks.append(own_score(model, images.clone(), score, attacked=True).double().cpu())
    if isinstance(model, Averaged):
        model.calls = before
    seen = torch.stack(looks)
    rounding = 8 * torch.finfo(torch.float32).eps * seen.abs().amax()
    apart = seen.amax(0) - seen.amin(0)
    moved = int((apart > _SAME * seen[0].std() + rounding).sum())
    if not moved:
        return None
    return f"the score is randomised: {_LOOKS} looks differ on {moved} of {len(images)} images"


def check_steady(
    model: nn.Module,
    x: Tensor,
    score: Score,
    remedy: str = "pass gate.wrappers.AveragedScore(score, 20)",
) -> None:
    """Raises ``UserError`` where a score is randomised and no mean over looks, with a remedy."""
    said = randomness(model, x, score)
    if said:
        raise UserError(
            f"{said}; switch that off, or {remedy}: its mean over so many looks is attacked "
            "(expectation over transformations)"
        )


def fresh_looks(score: Score) -> int:
    """Looks at images that are chosen, or judged: several of a mean over random looks, else one.

    Of many such means the greatest is a lucky one, and near a threshold a single one decides by
    chance.
    """
    return _FRESH if isinstance(score, AveragedScore) else 1
