"""Validation of a training: clean and robust accuracy on a few held-out images, and features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldatlib.attacks import pgd
from ldatlib.data import to_float
from ldatlib.data.pixels import Pixels
from ldatlib.execution import full_precision
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import Classifier
from ldatlib.training.config import TrainConfig
from ldatlib.training.randomness import GlobalRandom


def validate(model: Classifier, pixels: Pixels, y: Tensor, config: TrainConfig) -> dict[str, float]:
    """Loss, accuracies and feature statistics of images ``pixels`` [N, C, H, W] uint8 with labels
    ``y`` [N].

    In eval mode, which the model is left in, and in float32 whatever it trains with. Robust is an
    image that is right before and after the attack: PGD with the ``val_*`` of the configuration.
    """
    # What a network draws by itself must not depend on how often it is validated.
    random = GlobalRandom(y.device, config.seed)
    with random.inside(), full_precision(model):
        return _validate_in_float32(model.eval(), pixels, y, config)


def _validate_in_float32(
    model: Classifier, pixels: Pixels, y: Tensor, config: TrainConfig
) -> dict[str, float]:
    clean, robust, loss, features = 0, 0, 0.0, []
    # Its own generator: how often a training validates must not change the training.
    generator = torch.Generator(y.device).manual_seed(config.seed)
    for start in range(0, len(y), config.batch_size):
        rows = slice(start, min(start + config.batch_size, len(y)))
        labels = y[rows]
        images = to_float(pixels[rows]).contiguous(memory_format=torch.channels_last)
        x_adv = pgd(
            model,
            images,
            labels,
            eps=config.val_eps,
            step_size=config.val_eps / 4,
            num_steps=config.val_steps,
            generator=generator,
        )
        with torch.no_grad():
            features.append(model.features(images))
            logits = model.head(features[-1])
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            right = logits.argmax(1) == labels
            clean += int(right.sum())
            robust += int((right & (model(x_adv).argmax(1) == labels)).sum())
    means = model.head.means if isinstance(model.head, GaussianMixtureHead) else None
    return {
        "val_loss": loss / len(y),
        "val_clean_accuracy": clean / len(y),
        "val_robust_accuracy": robust / len(y),
        **feature_statistics(torch.cat(features), y, means),
    }


@torch.no_grad()
def feature_statistics(features: Tensor, y: Tensor, means: Tensor | None) -> dict[str, float]:
    """Where clean validation features [N, D] lie; distances are Euclidean, in feature units.

    The mean norm; the root mean squared distance within a class, to the mean of its features; the
    mean distance between those means; and with centroids [C, D] the mean of 1/2 the squared
    distance to the own one, which is the loss that L_lkd weighs, and the root mean squared distance
    between two centroids.
    """
    present = y.unique()
    centres = torch.stack([features[y == label].mean(0) for label in present])
    own = centres[torch.searchsorted(present, y)]
    result = {
        "val_feature_norm": features.norm(dim=1).mean(),
        "val_within_class": (features - own).square().sum(1).mean().sqrt(),
    }
    if len(present) > 1:
        result["val_between_classes"] = torch.pdist(centres).mean()
    if means is not None:
        result["val_own_centroid"] = (features - means[y]).square().sum(1).mean() / 2
        if len(means) > 1:
            result["val_between_centroids"] = torch.pdist(means).square().mean().sqrt()
    return {name: float(value) for name, value in result.items()}
