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
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import run_attack, wilson_interval
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


def cloud(
    model: Classifier, x: Tensor, y: Tensor, attack: Attack, *, batch_size: int = 128
) -> Cloud:
    """Features of images ``x`` [N, C, H, W] in [0,1] with labels ``y`` [N], and of those attacked.

    Every image is attacked, also one that is wrong already: left as it is, it would be its own
    adversarial version, and no probe could tell the two apart.

    Raises ``UserError`` for what the gate refuses (``docs/gate.md``), and a model without features.
    """
    natural = features(model, x)
    x_adv = run_attack(model, x, y, attack, batch_size=batch_size)
    return Cloud(natural, features(model, x_adv), torch.as_tensor(y).cpu().numpy())


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


def probe_hits(natural: np.ndarray, adversarial: np.ndarray, seed: int = 0) -> np.ndarray:
    """How many versions of each held-out image a linear probe tells, natural or adversarial.

    0, 1 or 2 of each, [M], for features [N, D] of the same images. Split by image, by the seed and
    N alone: both versions of an image are on the same side, and two networks have the same images
    held out.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    order = np.random.default_rng(seed).permutation(len(natural))
    train, test = np.array_split(order, 2)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(np.concatenate([natural[train], adversarial[train]]), np.repeat([0, 1], len(train)))
    told = [
        model.predict(version[test]) == kind for kind, version in enumerate((natural, adversarial))
    ]
    return told[0].astype(int) + told[1]


def held_out(points: Cloud) -> np.ndarray | None:
    """``probe_hits`` of a cloud, None where the probe is ``undefined``."""
    if "probe" in undefined(points):
        return None
    return probe_hits(points.natural, points.adversarial)


def probe(natural: np.ndarray, adversarial: np.ndarray, seed: int = 0) -> tuple[float, ...]:
    """Held-out accuracy of that probe, with its 95% interval."""
    return _accuracy(probe_hits(natural, adversarial, seed))


def _accuracy(hits: np.ndarray) -> tuple[float, ...]:
    right, count = int(hits.sum()), 2 * len(hits)
    return (right / count, *wilson_interval(right, count))


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


def numbers(points: Cloud, hits: np.ndarray | None) -> dict[str, float | None]:
    """Everything notebook 06 prints beside the picture; None what is ``undefined``.

    ``hits``: ``held_out`` of the same points.
    """
    from sklearn.metrics import silhouette_score

    found: dict[str, float] = {}
    missing = undefined(points)
    if "moved" not in missing:
        found |= distances(points)
    if "silhouette, natural" not in missing:
        for name, features in (("natural", points.natural), ("adversarial", points.adversarial)):
            found[f"silhouette, {name}"] = float(silhouette_score(features, points.y))
    if hits is not None:
        found |= dict(zip(NUMBERS[5:], _accuracy(hits), strict=True))
    return {name: found.get(name) for name in NUMBERS}
