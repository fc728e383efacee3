"""Where a training stands, and its files: state, log, last and best weights.

The state is written last, after the weights and the log of an epoch: it makes the epoch count.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldatlib.data import Dataset
from ldatlib.errors import UserError
from ldatlib.files import load_tensors, save_tensors, write_bytes
from ldatlib.training.config import Storage, TrainConfig
from ldatlib.training.learner import Learner, Mean


@dataclass
class Progress:
    """How far a training has come: epochs finished, and steps within the one under way."""

    # The generator before the epoch, from which its order is drawn again.
    epoch_start: Tensor
    epoch: int = 0
    step: int = 0
    # Of the log's means over the epoch so far: each summed over its images, and how many they are.
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    best: float = -1.0
    log: list[dict[str, Any]] = field(default_factory=list)

    def add(self, means: Mapping[str, Mean]) -> None:
        """A step was done."""
        for name, (mean, images) in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + mean * images
            self.counts[name] = self.counts.get(name, 0) + torch.as_tensor(images)
        self.step += 1

    def means(self) -> dict[str, float]:
        """Over the epoch so far; what had no image is left out."""
        return {
            name: float(value) / int(self.counts[name])
            for name, value in self.sums.items()
            if int(self.counts[name])
        }

    def end_epoch(self, line: dict[str, Any], epoch_start: Tensor) -> None:
        self.log.append(line)
        self.epoch += 1
        self.step, self.sums, self.counts, self.epoch_start = 0, {}, {}, epoch_start


def state_path(checkpoint: Path) -> Path:
    """Where a training of ``checkpoint`` keeps what resuming needs, while it runs."""
    return _beside(checkpoint, ".state.safetensors")


def _beside(checkpoint: Path, suffix: str) -> Path:
    return checkpoint.with_name(checkpoint.name.removesuffix(".safetensors") + suffix)


class Files:
    """The files of one training, and whose they are: its configuration and its data."""

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        checkpoint: Path,
        log_path: str | Path | None,
        storage: Storage,
    ):
        self.last, self.storage = checkpoint, storage
        self.best = _beside(checkpoint, ".best.safetensors")
        self.state = state_path(checkpoint)
        self.log = Path(log_path) if log_path else _beside(checkpoint, ".jsonl")
        self.identity = {"config": config.as_dict(), "fingerprint": dataset.fingerprint}
        self.about = {
            "network": config.network.as_dict() if config.network else None,
            "class_names": list(dataset.class_names),
            "dataset": dataset.title,
        }

    def save_weights(
        self, path: Path, weights: dict[str, Tensor], epoch: int, line: dict[str, Any]
    ) -> None:
        """A checkpoint of an epoch, whose line of the log goes into its header."""
        about = {"kind": "model", **self.about, "epoch": epoch, "metrics": line, **self.identity}
        save_tensors(path, weights, about, **asdict(self.storage))

    def save_log(self, log: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in log)
        write_bytes(self.log, lines.encode())

    def save_state(self, learner: Learner, progress: Progress) -> None:
        tensors = {**learner.tensors(), "epoch_start": progress.epoch_start}
        for group, values in (("sums", progress.sums), ("counts", progress.counts)):
            tensors |= {f"{group}/{name}": value for name, value in values.items()}
        header = {
            "kind": "state",
            "epoch": progress.epoch,
            "step": progress.step,
            "seconds": progress.seconds,
            "best": progress.best,
            "log": progress.log,
            **self.identity,
        }
        save_tensors(self.state, tensors, header)

    def restore(self, learner: Learner) -> Progress:
        """Bring the learner to where the state file says, and return how far that is.

        Raises ``UserError`` where it belongs to another configuration, data or network.
        """
        tensors, header = load_tensors(self.state)
        remedy = "delete it or choose another folder"
        # The header went through JSON, where tuples become lists.
        identity = json.loads(json.dumps(self.identity))
        if header.get("kind") != "state" or {k: header.get(k) for k in identity} != identity:
            raise UserError(
                f"{self.state} belongs to a training with other settings or other data; {remedy}"
            )
        try:
            learner.load_tensors(tensors)
        except UserError as error:
            raise UserError(f"{self.state}: {error}; {remedy}") from error
        sums, counts = (_group(tensors, name) for name in ("sums", "counts"))
        if sums.keys() != counts.keys():
            raise UserError(f"{self.state} was written by an earlier version; {remedy}")
        return Progress(
            epoch_start=tensors["epoch_start"],
            sums={name: value.to(learner.device) for name, value in sums.items()},
            counts={name: value.to(learner.device) for name, value in counts.items()},
            **{name: header[name] for name in ("epoch", "step", "seconds", "best", "log")},
        )


def _group(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
