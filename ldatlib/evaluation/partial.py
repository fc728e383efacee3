"""What an evaluation has done so far: an interrupted one goes on, attack by attack."""

import hashlib
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from ldatlib.errors import OutOfTime, UserError
from ldatlib.evaluation.gate import entry as gate
from ldatlib.files import load_tensors, save_tensors


def identity(model: nn.Module, x: Tensor, y: Tensor) -> str:
    """Tells evaluations apart: ten digits of a hash of weights, images and labels."""
    digest = hashlib.sha256()
    for tensor in (*_values_of(model), x, y):
        # As bytes: numpy has no bfloat16.
        plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()[:10]


def digest_of(*tensors: Tensor) -> str:
    """SHA-256 of the tensors' types, shapes and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_of(model: nn.Module) -> str | None:
    """SHA-256 of the weights and buffers; None where none are seen."""
    values = _values_of(model)
    return digest_of(*values) if values else None


def _values_of(model: nn.Module) -> list[Tensor]:
    """Weights and buffers. Quantised modules have types and pairs among them."""
    every = [
        part
        for value in model.state_dict().values()
        for part in (value if isinstance(value, tuple | list) else (value,))
    ]
    return [part for part in every if isinstance(part, Tensor)]


class Partial:
    """Finished attacks of one evaluation: a file each, ``FOLDER/STEM.NAME.safetensors``.

    ``stem`` must identify the evaluation, settings and all: what is found is used unseen. At
    ``deadline`` (seconds of ``time.time()``) ``keep`` ends the evaluation with ``OutOfTime``.
    """

    def __init__(self, folder: Path, stem: str, deadline: float | None = None):
        self.folder, self.stem, self.deadline = Path(folder), stem, deadline

    def of(self, part: str) -> "Partial":
        """The same for a part of the evaluation, whose attacks may have the names of another's."""
        return Partial(self.folder, f"{self.stem}.{part}", self.deadline)

    def path(self, name: str) -> Path:
        """The file of a finished attack, or the state of one that keeps its own."""
        return self.folder / f"{self.stem}.{name}.safetensors"

    def find(self, name: str) -> tuple[dict[str, Tensor], dict] | None:
        """What was kept under this name: tensors and the header, or None. A cut file is None."""
        path = self.path(name)
        if not path.is_file():
            return None
        try:
            tensors, header = load_tensors(path)
        except UserError:
            path.unlink(missing_ok=True)
            return None
        # Where nothing is attacked any more, no gate says it.
        try:
            gate.hear_again(header.get("gate", ()))
        except TypeError:  # no findings of ours
            path.unlink(missing_ok=True)
            return None
        return tensors, header

    def keep(self, name: str, tensors: dict[str, Tensor], header: dict) -> None:
        """Keep a finished attack; raises ``OutOfTime`` where the time is up."""
        said = gate.heard_so_far()
        save_tensors(self.path(name), tensors, {"kind": "partial", "gate": said, **header})
        self.check_time(name)

    def check_time(self, name: str) -> None:
        """Raises ``OutOfTime`` where the time is up after the attack ``name``, which is kept."""
        if self.deadline is not None and time.time() >= self.deadline:
            raise OutOfTime(f"{self.stem} stopped after {name}")

    def clear(self) -> None:
        """Forget everything of this evaluation."""
        for path in self.folder.glob(f"{self.stem}.*.safetensors"):
            path.unlink(missing_ok=True)
