"""What Fig. 3 draws: walks of attacks around the boundary of a linear classifier in the plane.

The classifier is ``w x + b``, ``x`` of the class on its positive side. Attacks are those of the
library, without a random start and so deterministic: the k-th point of a walk is what k steps
return.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ldatlib.attacks import boundary_attack, pgd

# The classifier and the point of Fig. 3, here and in notebook 01, and the L2 ball and step of PGD:
# the boundary is 1.48 away, so that PGD crosses it and has some way to go.
WEIGHT, BIAS, START = np.array([1.2, 0.9]), -1.2, np.array([1.8, 1.4])
EPS, STEP_SIZE = 2.2, 0.4
ALGORITHM_1, PGD, FRIENDLY = "Algorithm 1", "PGD", "friendly PGD"


def linear(weight: np.ndarray, bias: float) -> nn.Linear:
    """The classifier of two logits ``-(w x + b) / 2`` and ``(w x + b) / 2``, in float64."""
    classifier = nn.Linear(2, 2, dtype=torch.float64)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor(np.stack([-weight / 2, weight / 2])))
        classifier.bias.copy_(torch.tensor([-bias / 2, bias / 2]))
    return classifier


def distance(points: np.ndarray, weight: np.ndarray, bias: float) -> np.ndarray:
    """Signed distance of points [..., 2] to the boundary; negative: misclassified."""
    return (points @ weight + bias) / np.linalg.norm(weight)


def algorithm_1(
    weight: np.ndarray, bias: float, start: np.ndarray, *, num_steps: int, gamma: float
) -> np.ndarray:
    """The points [K + 1, 2] of Algorithm 1 from ``start`` [2] on.

    Raises ``UserError`` as ``boundary_attack``.
    """
    classifier = linear(weight, bias)
    x, y = torch.tensor(start[None], dtype=torch.float64), torch.tensor([1])
    return _walk(
        x, num_steps, lambda k: boundary_attack(classifier, x, y, num_steps=k, gamma=gamma)
    )


def pgd_walk(
    weight: np.ndarray,
    bias: float,
    start: np.ndarray,
    *,
    num_steps: int,
    eps: float = EPS,
    step_size: float = STEP_SIZE,
) -> np.ndarray:
    """The points [K + 1, 2] of PGD in the L2 ball of radius ``eps`` around ``start`` [2].

    Raises ``UserError`` as ``ldatlib.pgd``.
    """
    # PGD clips to pixels in [0,1] and the plane has none: the ball is moved into that square.
    scale = 2 * (float(np.abs(start).max()) + eps)
    classifier = linear(weight * scale, bias - 0.5 * scale * float(weight.sum()))
    x, y = torch.tensor(start[None], dtype=torch.float64), torch.tensor([1])

    def point(k: int) -> Tensor:
        inside = pgd(
            classifier,
            x / scale + 0.5,
            y,
            eps=eps / scale,
            step_size=step_size / scale,
            num_steps=k,
            norm="l2",
            random_start=False,
        )
        return (inside - 0.5) * scale

    return _walk(x, num_steps, point)


def friendly(path: np.ndarray, weight: np.ndarray, bias: float) -> np.ndarray:
    """PGD's walk [K + 1, 2] as friendly PGD ends it (Zhang et al. 2020).

    It stops at the first misclassified point; where there is none, it does not stop.
    """
    behind = distance(path, weight, bias) < 0
    return path[: int(behind.argmax()) + 1] if behind.any() else path


def _walk(x: Tensor, num_steps: int, point: Callable[[int], Tensor]) -> np.ndarray:
    return torch.cat([x, *map(point, range(1, num_steps + 1))]).numpy()
