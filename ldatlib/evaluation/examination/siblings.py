"""Other networks of the same task, whose adversarial images are shown to the model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.entry import check
from ldatlib.evaluation.partial import weights_of

Siblings = Mapping[str, Any] | Sequence[Any]
_LOOKED_AT = 32
# Findings of the gate that make a sibling a poor source of images.
_POOR = ("gradient", "input", "chance", "constant", "shifted")


def siblings_of(
    given: Siblings, model: nn.Module, x: Tensor, y: Tensor, classes: int, eot: int | None
) -> tuple[dict[str, nn.Module], list[dict[str, str]]]:
    """The siblings by name, as the tests take them, and warnings of those that are no good source.

    ``given``: modules or functions by name, or in a sequence, where they are called ``sibling 1``,
    ... ``model``, ``x``, ``y`` are those that are examined; ``classes`` of it; ``eot`` passes
    average a randomised sibling.

    Raises
    ------
    UserError : what the gate refuses of one of them; another number of classes; the model itself.
    """
    found, warnings = {}, []
    own = weights_of(model)
    for name, sibling in _named(given).items():
        try:
            checked = check(sibling, x, y, eot=eot, remedy="pass eot=20, for all of them")
        except UserError as error:
            raise UserError(f"the sibling {name}: {error}") from None
        if checked.num_classes != classes:
            raise UserError(
                f"the sibling {name} tells {checked.num_classes} classes apart, the model "
                f"{classes}: only a network of the same task can be one"
            )
        if own is not None and weights_of(checked.model) == own:
            # The network behind a defence has its weights, and is the best source there is.
            few = x[:_LOOKED_AT]
            with torch.no_grad(), frozen(checked.model):
                same = torch.equal(checked.model(few), model(few))
            if same:
                raise UserError(
                    f"the sibling {name} is the model itself: that is no transfer; leave it out"
                )
        found[name] = checked.model
        warnings += [
            {
                "name": "sibling",
                "severity": "warning",
                "text": f"the sibling {name} is a poor source of images: {flag.text}",
            }
            for flag in checked.flags
            if flag.name in _POOR
        ]
    return found, warnings


def _named(given: Siblings) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {str(name): sibling for name, sibling in given.items()}
    # A network's own layers are no siblings of one another.
    if isinstance(given, nn.Module | str) or not isinstance(given, Sequence):
        kind = type(given).__name__
        raise UserError(f"siblings are networks by name, or a list of them, not a {kind}")
    return {f"sibling {number}": sibling for number, sibling in enumerate(given, 1)}
