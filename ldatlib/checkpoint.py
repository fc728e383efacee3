"""Checkpoints: safetensors with a JSON header, written whole or not at all, never a pickle."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.models import Classifier, NetworkConfig, build_network

FORMAT = "ldatlib-checkpoint-1"


def write_bytes(path: Path, content: bytes) -> None:
    """Write through a neighbouring file and a rename: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; make room or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Atomic JSON, numbers as numbers; NaN and infinity are refused."""
    text = json.dumps(content, indent=1, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"cannot read the record {path}: {error}; delete it") from error


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Tensors with a header of JSON values, atomically."""
    plain = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    metadata = {"format": FORMAT, "header": json.dumps(header, allow_nan=False)}
    write_bytes(path, serialize(plain, metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of a file of ours.

    Raises ``UserError`` where the file is missing, cut short, not safetensors, or not ours.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; train it first")
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}); delete it and train again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path} was not written by ldatlib: its header lacks {FORMAT!r}")
    return tensors, json.loads(metadata["header"])


def load_model(path: str | Path, backbone: nn.Module | None = None) -> Classifier:
    """A trained network: images in [0,1] -> logits, in eval mode, on the CPU.

    ``path`` is a checkpoint of ours; ``backbone`` is needed when it was trained on a backbone that
    ldatlib cannot build. ``model.header`` holds the checkpoint's header.

    Raises ``UserError`` where the file is missing, cut short, not ours, or of another network.
    """
    tensors, header = load_tensors(Path(path))
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
    from ldatlib.gmm import GaussianMixtureHead

    if "head.means" in tensors:
        num_classes, feature_dim = tensors["head.means"].shape
        return Classifier(backbone, GaussianMixtureHead(feature_dim, num_classes))
    num_classes, feature_dim = tensors["head.weight"].shape
    return Classifier(backbone, nn.Linear(feature_dim, num_classes))
