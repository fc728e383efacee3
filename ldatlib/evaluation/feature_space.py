"""Fig. 7: where natural and adversarial images lie in feature space; the picture and numbers.

Distances are in units of the mean distance between the class means of the natural features, so
networks whose features have different scales can be compared.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.entry import gated
from ldatlib.evaluation.gate.images import check_labels
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
    """Features of saved images ``x``, of the attack's, and their labels; the first ``limit``.

    Raises ``UserError`` for what the gate refuses (``docs/gate.md``), an attack that was not saved,
    and a model without features.
    """
    if attack not in saved:
        raise UserError(f"no images of {attack!r} among those saved: {', '.join(saved)}")
    x, y, x_adv = (saved[key][:limit] for key in ("x", "y", attack))
    y = check_labels(y, len(x))
    return Cloud(features(model, x), features(model, x_adv), y.cpu().numpy())


@gated
def features(model: nn.Module, x: Tensor) -> np.ndarray:
    """Features [N, D] of images [N, C, H, W] in [0,1], in eval mode.

    Raises ``UserError`` for what the gate refuses, and a model without features.
    """
    if not hasattr(model, "features"):
        raise UserError("the model has no features(x): pass a Classifier, in float32")
    with frozen(model), torch.no_grad():
        parts = [model.features(part) for part in x.split(256)]
    return torch.cat(parts).cpu().numpy().astype(np.float64)


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
    # Principal components are no more than the images, or the dimensions.
    start = "pca" if min(both.shape) >= 2 else "random"
    flat = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(both)
    half = len(points.natural)
    return Cloud(flat[:half], flat[half:], points.y)


def _centres(points: Cloud) -> np.ndarray:
    return np.stack([points.natural[points.y == label].mean(0) for label in np.unique(points.y)])


def _class_distance(points: Cloud) -> float:
    """Mean distance between the class means of the natural features, of two classes or more."""
    centres = _centres(points)
    first, second = np.triu_indices(len(centres), 1)
    return float(np.linalg.norm(centres[first] - centres[second], axis=1).mean())


def distances_of_each(points: Cloud) -> dict[str, np.ndarray]:
    """Moves and distances to the own class's mean, [N] each, in units of the class distance."""
    centres, unit = _centres(points), _class_distance(points)
    own = centres[np.searchsorted(np.unique(points.y), points.y)]

    def norms(vectors: np.ndarray) -> np.ndarray:
        return np.linalg.norm(vectors, axis=1) / unit

    return {
        "moved": norms(points.adversarial - points.natural),
        "to own centroid, natural": norms(points.natural - own),
        "to own centroid, adversarial": norms(points.adversarial - own),
    }


def distances(points: Cloud) -> dict[str, float]:
    """The means of those."""
    return {name: float(values.mean()) for name, values in distances_of_each(points).items()}


def samples(points: Cloud) -> dict[str, list[float]] | None:
    """Silhouettes and distances to the own class's mean of every image.

    None where one of them is ``undefined``.
    """
    from sklearn.metrics import silhouette_samples

    if set(NUMBERS[:5]) & undefined(points).keys():
        return None
    each = distances_of_each(points)
    found = {
        "silhouette_natural": silhouette_samples(points.natural, points.y),
        "silhouette_adversarial": silhouette_samples(points.adversarial, points.y),
        "own_centroid_natural": each["to own centroid, natural"],
        "own_centroid_adversarial": each["to own centroid, adversarial"],
    }
    return {name: values.round(6).tolist() for name, values in found.items()}


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


def undefined(points: Cloud) -> dict[str, str]:
    """Those of ``NUMBERS`` that these features do not have, each with the reason."""
    if collapsed(points):
        return dict.fromkeys(NUMBERS, "all features lie in one point")
    images, classes = len(points.y), len(np.unique(points.y))
    lengths, silhouettes, probes = NUMBERS[:3], NUMBERS[3:5], NUMBERS[5:]
    found: dict[str, str] = {}
    if classes < 2:
        found |= dict.fromkeys(lengths + silhouettes, "the images are of one class")
    elif classes == images:
        found |= dict.fromkeys(silhouettes, "every class has one image")
    if classes > 1 and not _class_distance(points) > 0:
        found |= dict.fromkeys(lengths, "the classes' mean features lie in one point")
    if images < 2:
        found |= dict.fromkeys(probes, "one image, none to test the probe on")
    return found


def numbers(points: Cloud, seed: int = 0) -> dict[str, float | None]:
    """Everything notebook 06 prints beside the picture; None what is ``undefined``."""
    from sklearn.metrics import silhouette_score

    found: dict[str, float] = {}
    missing = undefined(points)
    if "moved" not in missing:
        found |= distances(points)
    if "silhouette, natural" not in missing:
        for name, features in (("natural", points.natural), ("adversarial", points.adversarial)):
            found[f"silhouette, {name}"] = float(silhouette_score(features, points.y))
    if "probe" not in missing:
        value = probe(points.natural, points.adversarial, seed)
        found |= dict(zip(NUMBERS[5:], value, strict=True))
    return {name: found.get(name) for name in NUMBERS}
