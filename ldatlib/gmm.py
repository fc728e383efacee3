"""The Gaussian-mixture head: Section 3.1 of the paper, Eq. 6 and 7, and the margin of 4.1.2.

Symbols: features ``f`` of shape [N, D], learnable centroids ``mu`` [C, D], labels ``y`` [N].
Every class has a Gaussian with identity covariance and prior 1/C. With
``d_k = 1/2 ||f - mu_k||^2`` the posterior of Eq. 6 is the softmax of ``-d_k``. The term
``1/2 ||f||^2`` is common to all classes and cancels there, so logits are computed as
``<f, mu_k> - 1/2 ||mu_k||^2``: a linear layer with a tied bias, free of the large common offset
whose rounding would weaken gradient attacks. The likelihood needs the offset and keeps it.
"""

import math

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError

CENTROID_INITS = ("xavier", "normal")
REGULARIZER_SCALES = {"sum": 1.0, "half": 0.5, "mean": None}


def _at_least_float32(features: Tensor) -> Tensor:
    return features if features.dtype == torch.float64 else features.float()


class GaussianMixtureHead(nn.Module):
    """Classify features by their distance to one learnable centroid per class.

    Parameters
    ----------
    feature_dim : D, at least 1.
    num_classes : C, at least 2.
    init : ``"xavier"`` (uniform, variance 2 / (C + D)) or ``"normal"`` (unit variance; in many
        dimensions its centroids start sqrt(2 D) apart, and the first losses are of order D).

    Attributes
    ----------
    means : Parameter [C, D], the centroids.

    Raises
    ------
    UserError : for fewer than two classes, no feature, or an unknown ``init``.
    """

    def __init__(self, feature_dim: int, num_classes: int, *, init: str = "xavier"):
        super().__init__()
        if feature_dim < 1 or num_classes < 2:
            raise UserError(
                f"a Gaussian-mixture head needs at least 1 feature and 2 classes, "
                f"not {feature_dim} and {num_classes}"
            )
        if init not in CENTROID_INITS:
            raise UserError(f"unknown centroid init {init!r}; known: {', '.join(CENTROID_INITS)}")
        self.means = nn.Parameter(torch.empty(num_classes, feature_dim))
        self.init = init
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the centroids anew from torch's global random state."""
        if self.init == "xavier":
            nn.init.xavier_uniform_(self.means)
        else:
            nn.init.normal_(self.means)

    @property
    def num_classes(self) -> int:
        return self.means.shape[0]

    @property
    def feature_dim(self) -> int:
        return self.means.shape[1]

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, C], equal to ``-d_k`` up to an offset common to the classes of an image.

        Computed in float32 at least, also under autocast. Unbounded.
        """
        features = self._checked(features)
        with torch.autocast(features.device.type, enabled=False):
            return features @ self.means.T - self.means.square().sum(1) / 2

    def posterior(self, features: Tensor) -> Tensor:
        """Class probabilities [N, C] of Eq. 6, each row sums to 1."""
        return self(features).softmax(1)

    def half_squared_distances(self, features: Tensor) -> Tensor:
        """``d_k = 1/2 ||f - mu_k||^2``, [N, C], at least 0; from the differences themselves."""
        features = self._checked(features)
        with torch.autocast(features.device.type, enabled=False):
            return (features.unsqueeze(1) - self.means).square().sum(2) / 2

    def log_likelihood(self, features: Tensor) -> Tensor:
        """``log p(f)`` [N] of the mixture, in nats: the full density, common offset included."""
        constant = math.log(self.num_classes) + self.feature_dim / 2 * math.log(2 * math.pi)
        return torch.logsumexp(-self.half_squared_distances(features), 1) - constant

    def margin_logits(self, features: Tensor, y: Tensor, margin: float) -> Tensor:
        """Logits [N, C] whose true class is pushed back: ``-(1 + margin) d_y``, others ``-d_k``.

        For the training loss only (large-margin Gaussian mixture, Wan et al. 2018; margin 0.1 on
        CIFAR-10 in the paper). Evaluation and attacks see the plain logits.
        """
        logits = self(features)
        if margin == 0:
            return logits
        own = margin * self._own_half_squared_distance(features, y)
        return logits.scatter_add(1, y.unsqueeze(1), -own.unsqueeze(1))

    def likelihood_regularization(self, features: Tensor, y: Tensor, scale: str = "sum") -> Tensor:
        """``L_lkd`` of Eq. 7, a scalar: the mean over images of ``||f_i - mu_{y_i}||^2``.

        ``scale`` is how the paper leaves it open: ``"sum"`` as written, ``"half"`` with the 1/2
        of the Gaussian's exponent, ``"mean"`` over the D dimensions.
        """
        if scale not in REGULARIZER_SCALES:
            known = ", ".join(REGULARIZER_SCALES)
            raise UserError(f"unknown regularizer scale {scale!r}; known: {known}")
        factor = REGULARIZER_SCALES[scale]
        if factor is None:
            factor = 1 / self.feature_dim
        return 2 * factor * self._own_half_squared_distance(features, y).mean()

    @torch.no_grad()
    def smallest_centroid_distance(self) -> Tensor:
        """The smallest Euclidean distance between two centroids, a scalar; 0 when collapsed."""
        return torch.pdist(_at_least_float32(self.means)).min()

    def _own_half_squared_distance(self, features: Tensor, y: Tensor) -> Tensor:
        return (self._checked(features) - self.means[y]).square().sum(1) / 2

    def _checked(self, features: Tensor) -> Tensor:
        if features.ndim != 2 or features.shape[1] != self.feature_dim:
            raise UserError(
                f"the head takes features of shape [N, {self.feature_dim}], "
                f"got {list(features.shape)}"
            )
        return _at_least_float32(features)

    def extra_repr(self) -> str:
        return f"feature_dim={self.feature_dim}, num_classes={self.num_classes}"
