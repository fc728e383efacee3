"""Where a training stands, and its files: state, log, last and best weights.

The state is written last, after the weights and the log of an epoch: it makes the epoch count.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldatlib.data import Dataset
from ldatlib.errors import UserError, one_line
from ldatlib.files import check_writable, load_tensors, save_tensors, write_bytes
from ldatlib.training.config import Storage, TrainConfig
from ldatlib.training.learner import Learner, Mean
from ldatlib.training.randomness import check_state


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
    """The files of one training, and whose they are: its configuration and its data.

    ``head`` is the kind of head of a network of one's own (``checkpoint.head_kind``).
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        checkpoint: Path,
        log_path: Path | None,
        storage: Storage,
        head: str | None = None,
    ):
        self.last, self.storage = checkpoint, storage
        self.best = _beside(checkpoint, ".best.safetensors")
        self.state = state_path(checkpoint)
        self.log = _beside(checkpoint, ".jsonl") if log_path is None else log_path
        self.epochs, self.images = config.epochs, len(dataset.labels["train"])
        self.identity = {"config": config.as_dict(), "fingerprint": dataset.fingerprint}
        self.about = {
            "network": config.network.as_dict() if config.network else None,
            "class_names": list(dataset.class_names),
            "dataset": dataset.title,
            "images": {split: len(labels) for split, labels in dataset.labels.items()},
        }
        if head is not None:
            self.about["head"] = head

    def check(self) -> None:
        """Raises ``UserError`` where one of them cannot be written, or two are one."""
        paths = [self.last, self.best, self.state, self.log]
        if self.log in paths[:3]:
            raise UserError(f"the log would overwrite {self.log}; choose another log_path")
        for path in paths:
            check_writable(path)

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
            check_state(tensors["epoch_start"], learner.device)
            self._check_progress(header)
        except UserError as error:
            raise UserError(f"{self.state}: {error}; {remedy}") from error
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.state}: {one_line(error)} is missing; {remedy}") from error
        sums, counts = (_group(tensors, name) for name in ("sums", "counts"))
        sizes = {value.numel() for value in (*sums.values(), *counts.values())}
        if sums.keys() != counts.keys() or sizes - {1}:
            raise UserError(f"{self.state} was written by an earlier version; {remedy}")
        return Progress(
            epoch_start=tensors["epoch_start"],
            sums={name: value.to(learner.device) for name, value in sums.items()},
            counts={name: value.to(learner.device) for name, value in counts.items()},
            **{name: header[name] for name in ("epoch", "step", "seconds", "best", "log")},
        )

    def _check_progress(self, header: dict[str, Any]) -> None:
        """Raises ``UserError`` where a training cannot have come that far."""
        epoch, step, log = header["epoch"], header["step"], header["log"]
        seconds, best = header["seconds"], header["best"]
        counts = all(type(value) is int and value >= 0 for value in (epoch, step))
        if not (counts and epoch <= self.epochs and step < max(self.images, 1)):
            raise UserError(f"it says epoch {epoch!r}, step {step!r}")
        lines = [line.get("epoch") for line in log if isinstance(line, dict)]
        if not isinstance(log, list) or len(log) != epoch or lines != list(range(1, epoch + 1)):
            raise UserError("its log is not that of its epochs")
        for value, least in ((seconds, 0), (best, -1)):
            if type(value) not in (int, float) or not least <= value < math.inf:
                raise UserError(f"it says {seconds!r} seconds, best {best!r}")


def _group(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
