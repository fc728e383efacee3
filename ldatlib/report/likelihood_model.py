"""When does the likelihood term help, and when does it win against the classifier?

A small model (derived in ``docs/regularizer.md``): C centroids at equal distance Delta, features
``mu_y + noise`` of root mean squared length r. The network may scale all of it by s; accuracy does
not change, the loss does, and with ``u = s^2`` it is convex:

    L(u) = E[cross-entropy of the logits -u d_k, margin included] + lambda u r^2

Its slope at ``u = 0`` is ``(1 - 1/C) (alpha r^2 - Delta^2) / 2 + lambda r^2``. Where that is not
negative the best scale is 0: features and centroids fall into one point, and the classifier
learns nothing more. Only the ratio ``separation = Delta / r`` matters.
"""

from typing import cast

import numpy as np
from scipy.linalg import helmert
from scipy.optimize import brentq
from scipy.special import softmax

from ldatlib.defences import lambda_at
from ldatlib.models import build_network
from ldatlib.training.config import TrainConfig

_SAMPLES = 4000


def critical_weight(separation: float, num_classes: int, margin: float = 0.0) -> float:
    """The weight of L_lkd, as Eq. 7 writes it, from which on the best scale is 0.

    ``separation``: root mean squared distance between centroids over that to the own one.
    """
    return (1 - 1 / num_classes) * (separation**2 - margin) / 2


def half_squared_distance(
    separation: float, weight: float, num_classes: int, margin: float = 0.0
) -> float:
    """``1/2 ||f - mu_y||^2`` at the best scale, in feature units; 0 from ``critical_weight`` on.

    The noise is Gaussian in the C - 1 dimensions that tell the centroids apart. ``weight`` above
    0: without it the loss has its minimum at a finite scale only where the classes overlap.
    """
    if weight >= critical_weight(separation, num_classes, margin):
        return 0.0
    r2 = separation**-2
    noise = np.random.default_rng(0).normal(size=(_SAMPLES, num_classes - 1))
    noise *= np.sqrt(r2 / (num_classes - 1) / np.mean(noise**2))
    corners = _simplex(num_classes)
    # By symmetry every image may belong to class 0.
    distances = np.square(corners[0] + noise[:, None] - corners).sum(2) / 2
    factors = np.ones(num_classes)
    factors[0] += margin
    scaled = distances * factors

    def slope(u: float) -> float:
        # d/du of log sum exp(-u a_k) + u a_0, and of the regularisation.
        posterior = softmax(-u * scaled, axis=1)
        return float((scaled[:, 0] - (posterior * scaled).sum(1)).mean()) + weight * r2

    if slope(1e-9) >= 0:
        return 0.0
    largest = 1.0
    while slope(largest) < 0:
        largest *= 2
        if largest > 1e12:
            return float("inf")
    return brentq(slope, 0.0, largest) * r2 / 2


def _simplex(corners: int) -> np.ndarray:
    """Points [C, C - 1] at mutual distance 1."""
    # Helmert's basis, not one by decomposition: that is as good in any rotation, and which one
    # comes out, and with it the sample around the corners, would depend on the processor.
    return helmert(corners).T / np.sqrt(2)


def final_weight(config: TrainConfig) -> float:
    """The weight of ``||f - mu_y||^2`` in the last epoch, whatever the scale of L_lkd."""
    defence = config.defence
    feature_dim = cast(int, build_network(config.network).backbone.feature_dim)
    scale = {"sum": 1.0, "half": 0.5, "mean": 1 / feature_dim}[defence.regularizer_scale]
    return scale * lambda_at(1.0, defence.lambda_schedule, defence.lambda_init)
