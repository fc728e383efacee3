"""Fig. 7: where natural and adversarial images lie in feature space; the picture and numbers.

Distances are in units of the mean distance between the class means of the natural features, so
networks whose features have different scales can be compared.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.evaluation.robustness import wilson_interval
from ldatlib.models import Classifier

# t-SNE's neighbourhood size, fewer where there are fewer points.
PERPLEXITY = 30.0
# Features that differ by less, in every dimension, lie in one point.
_ONE_POINT = 1e-6
NUMBERS = (
    "moved",
    "to own centroid, natural",
    "to own centroid, adversarial",
    "silhouette, natural",
    "silhouette, adversarial",
    "probe",
    "probe low",
    "probe high",
)


@dataclass(frozen=True)
class Cloud:
    """Features [N, D] of the same N images before and after an attack, and labels [N]."""

    natural: np.ndarray
    adversarial: np.ndarray
    y: np.ndarray


def cloud(model: Classifier, saved: dict[str, Tensor], attack: str, limit: int) -> Cloud:
    """Features of saved images ``x``, of the attack's, and their labels; the first ``limit``."""

    def features(images: Tensor) -> np.ndarray:
        with torch.no_grad():
            parts = [model.features(part.to(model.mean.device)) for part in images.split(256)]
        return torch.cat(parts).cpu().numpy().astype(np.float64)

    natural, adversarial = (features(saved[key][:limit]) for key in ("x", attack))
    return Cloud(natural, adversarial, saved["y"][:limit].numpy())


def collapsed(points: Cloud) -> bool:
    """Whether all features lie in one point, as far as float32 can tell.

    A network whose likelihood term has won (docs/regularizer.md) maps every image there. It has
    no distances to speak of, and scikit-learn's t-SNE crashes on it.
    """
    both = np.concatenate([points.natural, points.adversarial])
    return bool(np.ptp(both, axis=0).max() < _ONE_POINT)


def embed(points: Cloud, seed: int = 0) -> Cloud:
    """t-SNE of natural and adversarial features together, in two dimensions; a point stays one."""
    from sklearn.manifold import TSNE

    both = np.concatenate([points.natural, points.adversarial])
    if collapsed(points):
        half = len(points.natural)
        return Cloud(np.zeros((half, 2)), np.zeros((len(both) - half, 2)), points.y)
    perplexity = min(PERPLEXITY, (len(both) - 1) / 3)
    flat = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(both)
    half = len(points.natural)
    return Cloud(flat[:half], flat[half:], points.y)


def _centres(points: Cloud) -> np.ndarray:
    return np.stack([points.natural[points.y == label].mean(0) for label in np.unique(points.y)])


def distances(points: Cloud) -> dict[str, float]:
    """Mean moves and distances to the own class's mean, in units of the class distance."""
    centres = _centres(points)
    first, second = np.triu_indices(len(centres), 1)
    unit = np.linalg.norm(centres[first] - centres[second], axis=1).mean()
    own = centres[np.searchsorted(np.unique(points.y), points.y)]

    def mean_norm(vectors: np.ndarray) -> float:
        return float(np.linalg.norm(vectors, axis=1).mean() / unit)

    return {
        "moved": mean_norm(points.adversarial - points.natural),
        "to own centroid, natural": mean_norm(points.natural - own),
        "to own centroid, adversarial": mean_norm(points.adversarial - own),
    }


def probe(natural: np.ndarray, adversarial: np.ndarray, seed: int = 0) -> tuple[float, ...]:
    """Held-out accuracy of a linear probe natural against adversarial, with its 95% interval.

    Split by image: both versions of an image are on the same side.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    order = np.random.default_rng(seed).permutation(len(natural))
    train, test = np.array_split(order, 2)

    def stack(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = np.concatenate([natural[index], adversarial[index]])
        return features, np.repeat([0, 1], len(index))

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(*stack(train))
    features, labels = stack(test)
    right = int((model.predict(features) == labels).sum())
    return (right / len(labels), *wilson_interval(right, len(labels)))


def numbers(points: Cloud, seed: int = 0) -> dict[str, float | None]:
    """Everything notebook 06 prints beside the picture; all None where features have collapsed.

    Raises ``UserError`` where there are too few images to speak of classes.
    """
    from sklearn.metrics import silhouette_score

    classes = len(np.unique(points.y))
    if not 2 <= classes < len(points.y):
        raise UserError(
            f"{len(points.y)} images of {classes} classes are too few for a silhouette; raise "
            "tsne_images, saved_images and eval_images"
        )
    if collapsed(points):
        return dict.fromkeys(NUMBERS)
    value, low, high = probe(points.natural, points.adversarial, seed)
    return {
        **distances(points),
        "silhouette, natural": float(silhouette_score(points.natural, points.y)),
        "silhouette, adversarial": float(silhouette_score(points.adversarial, points.y)),
        "probe": value,
        "probe low": low,
        "probe high": high,
    }
