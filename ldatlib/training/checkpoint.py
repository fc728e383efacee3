"""Trained networks read back from their files."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError, one_line
from ldatlib.execution import bare
from ldatlib.files import as_path, load_tensors
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import ARCHITECTURES, BUILT_IN, Classifier, NetworkConfig, build_network

# Numbers, and tensors, that no memory runs out of.
_SMALL, _FEW = 10**6, 1000


def load_model(
    path: str | Path, backbone: nn.Module | None = None, head: nn.Module | None = None
) -> Classifier:
    """A trained network: images in [0,1] -> logits, in eval mode, on the CPU, in float32.

    ``path`` is a checkpoint of ours, ``NAME.safetensors``, also where it lies there as shards;
    ``backbone`` is needed when it was trained on a backbone that ldatlib cannot build, and
    ``head`` when its head was neither ``torch.nn.Linear`` nor ``GaussianMixtureHead``. Both are
    taken without the wrappers of ``torch.compile``. ``model.header`` holds the checkpoint's header.

    Raises ``UserError`` where the file is missing, cut short, not ours, of another network, or of
    a plug-in's that is not loaded.
    """
    path = as_path(path, "path")
    for name, part in (("backbone", backbone), ("head", head)):
        if not isinstance(part, nn.Module | None):
            raise UserError(f"{name} must be a torch module, not {type(part).__name__}")
    if head is not None and backbone is None:
        raise UserError("a head goes with a backbone: pass both")
    tensors, header = load_tensors(path)
    if header.get("kind") != "model":
        raise UserError(f"{path} holds {header.get('kind')}, not a model")
    network = header.get("network")
    if network is None and backbone is None:
        raise UserError(f"{path} was trained on a network of your own: pass backbone=...")
    if backbone is not None and head is None and header.get("head") == "own":
        raise UserError(f"{path} was trained with a head of your own: pass head=..., too")
    # The weights are drawn and replaced at once; the caller's random state must not move.
    with torch.random.fork_rng(devices=[]):
        try:
            if backbone is None:
                config = _config(network, path)
                _check_sizes(config, tensors)
                model = _filled(build_network(config), tensors)
            else:
                model = around(bare(backbone), tensors, head and bare(head))
        except UserError as error:
            raise UserError(f"{path} is a checkpoint of another network: {error}") from error
    model.header = header
    return model.cpu().float().eval()


def _config(network: object, path: Path) -> NetworkConfig:
    try:
        config = NetworkConfig(**network)  # type: ignore[arg-type]
    except (TypeError, UserError) as error:
        raise UserError(f"{path} was written by another version: {error}") from error
    if config.architecture not in ARCHITECTURES:
        raise UserError(
            f"{path} was trained on the architecture {config.architecture!r}, which is "
            "not known here; load the plug-in that registers it, or pass backbone=..."
        )
    return config


def _check_sizes(config: NetworkConfig, tensors: dict[str, Tensor]) -> None:
    """Before memory is taken for a network: ``UserError`` where it is far larger than its weights.

    What a file says of its network is anybody's, and a few bytes can ask for terabytes.
    """
    try:
        with torch.device("meta"):
            planned = [value.numel() for value in build_network(config).state_dict().values()]
    except Exception:
        if config.architecture in BUILT_IN:
            raise
        return  # a build of one's own may need values, which there are none of
    found = sum(value.numel() for value in tensors.values())
    if sum(planned) > 2 * found + _SMALL or len(planned) > 2 * len(tensors) + _FEW:
        raise UserError(
            f"one of {sum(planned)} numbers in {len(planned)} tensors, of which the file has "
            f"{found} in {len(tensors)}"
        )


def head_kind(head: nn.Module) -> str:
    """``"linear"``, ``"gmm"``, or ``"own"``: a head that cannot be made from its weights alone."""
    if type(head) in (nn.Linear, nn.LazyLinear):
        return "linear"
    # Not of a derived class, which may do otherwise.
    return "gmm" if type(head) is GaussianMixtureHead else "own"


def around(
    backbone: nn.Module, tensors: dict[str, Tensor], head: nn.Module | None = None
) -> Classifier:
    """A network of a backbone and the weights of a checkpoint; its head is made from them too.

    Raises ``UserError`` where they are another network's.
    """
    if head is None:
        matrix = tensors.get("head.means", tensors.get("head.weight"))
        if matrix is None or matrix.ndim != 2:
            raise UserError("its head is neither linear nor a Gaussian mixture: pass head=...")
        num_classes, feature_dim = matrix.shape
        if "head.means" in tensors:
            head = GaussianMixtureHead(feature_dim, num_classes)
        else:
            head = nn.Linear(feature_dim, num_classes, bias="head.bias" in tensors)
    return _filled(Classifier(backbone, head), tensors)


def _filled(model: Classifier, tensors: dict[str, Tensor]) -> Classifier:
    for name in ("mean", "std"):
        if name not in tensors or tensors[name].ndim != 3:
            raise UserError(f"it has no {name} of the pixels")
        setattr(model, name, tensors[name].clone())
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise UserError(one_line(" ".join(lines[1:2] or lines))) from error
    return model
