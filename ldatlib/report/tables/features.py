"""What the t-SNE picture cannot say."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import Classifier
from ldatlib.report.words import set_title
from ldatlib.study.records import Features

NUMBERS = {
    "moved": "moved",
    "own_centroid_natural": "to own centroid, natural",
    "own_centroid_adversarial": "to own centroid, adversarial",
    "silhouette_natural": "silhouette, natural",
    "silhouette_adversarial": "silhouette, adversarial",
    "probe": "probe",
    "probe_low": "probe low",
    "probe_high": "probe high",
}


def feature_numbers(records: Mapping[str, Features]) -> pd.DataFrame:
    """Distances, silhouettes and the probe: a column a network; empty where it has collapsed."""
    found = {
        title: {word: getattr(record.numbers, name) for name, word in NUMBERS.items()}
        for title, record in records.items()
    }
    return pd.DataFrame(found, dtype=float)


def feature_distances(model: Classifier, saved: Mapping[str, Tensor]) -> pd.DataFrame:
    """Mean distances of saved images' features to the centroids of a Gaussian-mixture head.

    ``saved``: images by attack, natural ones as ``x``, as ``Run.adversarial`` gives them.
    """
    if not isinstance(model.head, GaussianMixtureHead):
        raise UserError("a linear head has no centroids; use a Gaussian-mixture head")
    means = model.head.means.detach().cpu()
    rows = {}
    for name in ("x", "linf_pgd", "l2_pgd", "l2_cw"):
        with torch.no_grad():
            parts = [model.features(p.to(model.mean.device)) for p in saved[name].split(256)]
        features = torch.cat(parts).cpu()
        near = torch.cdist(features, means).topk(2, largest=False).values
        rows[set_title("clean" if name == "x" else name)] = {
            "to the nearest centroid": near[:, 0].mean().item(),
            "to the second nearest": near[:, 1].mean().item(),
            "to the centre of all centroids": (features - means.mean(0)).norm(dim=1).mean().item(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
