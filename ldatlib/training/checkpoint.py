"""Trained networks read back from their files."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.files import load_tensors, path_of
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import ARCHITECTURES, Classifier, NetworkConfig, build_network


def load_model(path: str | Path, backbone: nn.Module | None = None) -> Classifier:
    """A trained network: images in [0,1] -> logits, in eval mode, on the CPU, in float32.

    ``path`` is a checkpoint of ours, ``NAME.safetensors``, also where it lies there as shards;
    ``backbone`` is needed when it was trained on a backbone that ldatlib cannot build.
    ``model.header`` holds the checkpoint's header.

    Raises ``UserError`` where the file is missing, cut short, not ours, of another network, or of
    a plug-in's that is not loaded.
    """
    tensors, header = load_tensors(path_of(path))
    if header.get("kind") != "model":
        raise UserError(f"{path} holds {header.get('kind')}, not a model")
    if header["network"] is None and backbone is None:
        raise UserError(f"{path} was trained on a network of your own: pass backbone=...")
    # The weights are drawn and replaced at once; the caller's random state must not move.
    with torch.random.fork_rng(devices=[]):
        if backbone is not None:
            model = _around(backbone, tensors)
        else:
            try:
                config = NetworkConfig(**header["network"])
            except TypeError as error:
                raise UserError(f"{path} was written by another version: {error}") from error
            if config.architecture not in ARCHITECTURES:
                raise UserError(
                    f"{path} was trained on the architecture {config.architecture!r}, which is "
                    "not known here; load the plug-in that registers it, or pass backbone=..."
                )
            model = build_network(config)
    model.mean, model.std = tensors["mean"].clone(), tensors["std"].clone()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise UserError(f"{path} is a checkpoint of another network: {reason}") from error
    model.header = header
    return model.eval()


def _around(backbone: nn.Module, tensors: dict[str, Tensor]) -> Classifier:
    if "head.means" in tensors:
        num_classes, feature_dim = tensors["head.means"].shape
        return Classifier(backbone, GaussianMixtureHead(feature_dim, num_classes))
    num_classes, feature_dim = tensors["head.weight"].shape
    return Classifier(backbone, nn.Linear(feature_dim, num_classes))
