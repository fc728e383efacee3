"""Budgets by norm, in pixel units of [0,1]; what looks like another unit is named."""

import math
from collections.abc import Mapping
from numbers import Real

from torch import Tensor

from ldatlib.attacks import NORMS
from ldatlib.errors import UserError

# Half a level of 8 bits: what is moved by less is rounded away where images are saved.
_LEAST = 0.5 / 255


def check_budgets(eps: object, x: Tensor) -> dict[str, float]:
    """Budgets by norm, L-inf first, for images ``x`` [N, C, H, W].

    Raises ``UserError`` where they are none, or where every image lies in the ball.
    """
    if not isinstance(eps, Mapping) or not eps or not set(eps) <= set(NORMS):
        raise UserError(f'eps is a budget by norm, such as {{"linf": 8 / 255}}, not {eps!r}')
    for norm, value in eps.items():
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not 0 < value < float("inf"):
            raise UserError(f"the budget of {norm} must be above 0, in pixel units, not {value!r}")
        if norm == "linf" and value >= 1:
            raise UserError(f"an L-inf budget of {value:g} is all of [0,1]; write 8 / 255 for 8")
        if norm == "l2" and value >= math.sqrt(x[0].numel()):
            raise UserError(
                f"an L2 budget of {value:g} holds every image of {x[0].numel()} pixels; budgets "
                "are in units of [0,1]: write 128 / 255 for 128"
            )
    return {norm: float(eps[norm]) for norm in NORMS if norm in eps}


def findings(eps: Mapping[str, float]) -> list[dict[str, str]]:
    """Warnings, as the gate's, of budgets that are too small to mean what was meant."""
    return [
        {
            "name": "budget",
            "severity": "warning",
            "text": f"the budget {value:.3g} of {norm} is less than half a level of 8 bits: saved "
            "as pictures, adversarial images equal the originals; was it divided by 255 twice?",
        }
        for norm, value in eps.items()
        if value < _LEAST
    ]
