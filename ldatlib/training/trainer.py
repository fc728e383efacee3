"""Train one defence: epochs of steps, validation, and files from which it goes on.

The state is saved after every epoch, and between two steps when an epoch takes long, so a resumed
training continues where it stopped: on the CPU with the same bits.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.data import Dataset
from ldatlib.errors import OutOfTime, UserError, check_deadline
from ldatlib.execution import default_device, is_compiled, usable_device
from ldatlib.files import as_path, exists
from ldatlib.files.locks import alone
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.training.checkpoint import head_kind
from ldatlib.training.config import Storage, TrainConfig
from ldatlib.training.learner import Learner
from ldatlib.training.state import Files, Progress
from ldatlib.training.trial import as_classifier
from ldatlib.training.validation import validate

# Seconds of work that a killed training loses at most, beside one step.
SAVE_EVERY = 120.0


@dataclass(frozen=True)
class TrainResult:
    """Where a training left its files, and its log: one dictionary an epoch.

    ``execution`` says what it ran with on this machine, last of all where it was resumed.
    """

    last: Path
    best: Path
    log_path: Path
    log: list[dict[str, Any]]
    seconds: float
    execution: dict[str, Any]


def train(
    config: TrainConfig,
    dataset: Dataset,
    checkpoint: str | Path,
    *,
    log_path: str | Path | None = None,
    model: nn.Module | None = None,
    device: torch.device | str | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    resume: bool = True,
    compile: str = "off",
    storage: Storage | None = None,
    deadline: float | None = None,
    keep_state: bool = False,
) -> TrainResult:
    """Train a defence and leave ``NAME.safetensors`` (last) and ``NAME.best.safetensors``.

    Parameters
    ----------
    checkpoint : path of the last checkpoint, ``.../NAME.safetensors``; ``~`` is your home, and
        folders are made. While the training runs, ``NAME.state.safetensors`` beside it holds what
        resuming needs.
    log_path : one JSON line an epoch; ``NAME.jsonl`` beside the checkpoint unless said.
    model : a network of your own (``Classifier``); only where ``config.network`` is None. It is
        trained in place, in float32, without the wrappers of ``torch.compile`` and data
        parallelism, which are taken off. What it draws from torch's global generators (dropout)
        depends on the seed alone.
    device : a GPU where there is one unless said.
    on_epoch : called with every epoch's line; ``None`` shows a progress bar in a terminal.
    resume : continue from the state file where there is one of the same configuration and data.
    compile : ``"on"``, ``"off"`` or ``"auto"``, which compiles on CUDA.
    storage : how the weights are kept; whole and in float32 unless said.
    deadline : in seconds of ``time.time()``; the training stops after the step that reaches it,
        which is the first one where it lies in the past.
    keep_state : leave the state of the finished training, from which the same call returns at
        once: for a caller that has yet to write down that it ended, and may be killed before.

    Raises
    ------
    OutOfTime : the deadline was reached; the same call goes on from there.
    Busy : another process trains into this checkpoint.
    UserError : before the first step, whatever can be known then: an argument of another type, a
        file that cannot be written, a device that is not there, no network or two of them, one
        that cannot be trained on these images or not be read back (``training.trial``), a state
        file of another configuration; later a loss that is not finite (the last good state stays
        and is named).
    """
    if not isinstance(config, TrainConfig):
        raise UserError(f"config must be a TrainConfig, not {config!r}")
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"dataset must be a ldatlib.Dataset, not {type(dataset).__name__}: load_dataset makes "
            "one, and Dataset.from_arrays of arrays"
        )
    if (config.network is None) == (model is None):
        raise UserError("give either config.network or a model of your own, not both or neither")
    if on_epoch is not None and not callable(on_epoch):
        raise UserError(f"on_epoch must be a function of a line of the log, not {on_epoch!r}")
    storage = Storage() if storage is None else storage
    if not isinstance(storage, Storage):
        raise UserError(f"storage must be a Storage, not {storage!r}")
    check_deadline(deadline)
    until = math.inf if deadline is None else deadline
    last, log = as_path(checkpoint, "checkpoint"), None
    if last.suffix != ".safetensors":
        raise UserError(f"checkpoint must be named NAME.safetensors, not {last.name}")
    if log_path is not None:
        log = as_path(log_path, "log_path")
    where = default_device() if device is None else usable_device(device)
    if isinstance(model, nn.Module) and is_compiled(model) and compile == "off":
        print(
            f"{last.name}: the model's torch.compile is taken off; compile='on' compiles it",
            file=sys.stderr,
        )
    own = None if model is None else as_classifier(model)
    with alone(last, "training"):
        head = None if own is None else head_kind(own.head)
        files = Files(config, dataset, last, log, storage, head)
        files.check()
        dataset = dataset.to(where)
        learner = Learner(config, dataset, where, own, compile)
        training = _Training(learner, dataset, files, until)
        if resume and files.state.exists():
            training.progress = files.restore(learner)
        show = _Bar(config) if on_epoch is None else on_epoch
        while training.progress.epoch < config.epochs:
            show(training.one_epoch())
        return training.finish(keep_state)


class _Training:
    """A training under way, epoch by epoch."""

    def __init__(self, learner: Learner, dataset: Dataset, files: Files, deadline: float):
        self.learner, self.dataset, self.files, self.deadline = learner, dataset, files, deadline
        self.config = learner.config
        self.progress = Progress(learner.generator.get_state())
        self.started = self.saved = time.perf_counter()
        self.val_labels = dataset.labels["val"][: self.config.val_limit]

    def one_epoch(self) -> dict[str, Any]:
        """What is left of the epoch under way, with its files; its line of the log."""
        self.started = time.perf_counter()
        images, labels = self.dataset.images["train"], self.dataset.labels["train"]
        batches = self._batches(len(labels))
        for index in batches[self.progress.step :]:
            self._step(images[index], labels[index], len(batches))
            if self.progress.step < len(batches):
                self._pause(len(batches))
        line = self._line()
        self._check_finite(line)
        self._count_seconds()
        line["seconds"] = round(self.progress.seconds, 3)
        self.progress.end_epoch(line, self.learner.generator.get_state())
        self._save(line)
        if self._late and self.progress.epoch < self.config.epochs:
            raise OutOfTime(
                f"{self.files.last.name} stopped after epoch {self.progress.epoch} of "
                f"{self.config.epochs}"
            )
        return line

    def _batches(self, count: int) -> list[Tensor]:
        """The epoch's batches, also where it goes on in the middle: drawn as at its beginning."""
        generator = self.learner.generator
        resumed_at = generator.get_state()
        generator.set_state(self.progress.epoch_start)
        batches = self.learner.batches(count)
        if self.progress.step:
            generator.set_state(resumed_at)
        return batches

    def _step(self, images: Tensor, y: Tensor, steps: int) -> None:
        done, config = self.progress, self.config
        part = (done.step + 1) / steps if config.defence.progress_by_step else 1
        means = self.learner.step(
            images,
            y,
            lr=self.learner.lr_at(done.epoch + done.step / steps),
            progress=(done.epoch + part) / config.epochs,
        )
        done.add(means)

    def _pause(self, steps: int) -> None:
        """Between two steps: save the state where it is time to, and stop where time is up."""
        late = self._late
        if not late and time.perf_counter() - self.saved <= SAVE_EVERY:
            return
        self._count_seconds()
        self._save_state()
        if late:
            raise OutOfTime(
                f"{self.files.last.name} stopped in epoch {self.progress.epoch + 1} of "
                f"{self.config.epochs}, after step {self.progress.step} of {steps}"
            )

    @property
    def _late(self) -> bool:
        return time.time() >= self.deadline

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.started
        self.started = now

    def _line(self) -> dict[str, Any]:
        """The epoch's line of the log, validated where it is due."""
        config, epoch = self.config, self.progress.epoch + 1
        line: dict[str, Any] = {"epoch": epoch, "lr": self.learner.lr_at(epoch - 1)}
        line |= self.progress.means()
        line |= config.defence.log(epoch / config.epochs)
        head = self.learner.evaluated.head
        if isinstance(head, GaussianMixtureHead):
            line["smallest_centroid_distance"] = float(head.smallest_centroid_distance())
        if epoch % config.val_every == 0 or epoch == config.epochs:
            pixels = self.dataset.images["val"]
            line |= validate(self.learner.evaluated, pixels, self.val_labels, config)
        return line

    def _check_finite(self, line: dict[str, Any]) -> None:
        """Stop before a broken state is saved."""
        broken = [name for name, value in line.items() if not math.isfinite(value)]
        if not self.learner.is_finite():
            broken.append("a weight")
        if broken:
            epoch = self.progress.epoch
            kept = f"the state after epoch {epoch} stays in {self.files.state}"
            raise UserError(
                f"{self.config.defence.name}: {broken[0]} is not finite in epoch {epoch + 1}; "
                f"{kept if epoch else 'no epoch was finished'}; lower lr, or the weights in its "
                "loss"
            )

    def _save(self, line: dict[str, Any]) -> None:
        """Best and last checkpoint, the log, and the state, last, which makes the epoch count."""
        files, done, weights = self.files, self.progress, self.learner.evaluated.state_dict()
        robust = line.get("val_robust_accuracy", -1.0)
        if robust > done.best:
            done.best = robust
            files.save_weights(files.best, weights, done.epoch, line)
        if done.epoch == self.config.epochs:
            files.save_weights(files.last, weights, done.epoch, line)
        files.save_log(done.log)
        self._save_state()

    def _save_state(self) -> None:
        self.files.save_state(self.learner, self.progress)
        self.saved = time.perf_counter()

    def finish(self, keep_state: bool) -> TrainResult:
        if not exists(self.files.last):
            # Of a training that had ended: its state is there, the weights were lost.
            weights = self.learner.evaluated.state_dict()
            done = self.progress
            self.files.save_weights(self.files.last, weights, done.epoch, done.log[-1])
        if not keep_state:
            self.files.state.unlink(missing_ok=True)
        execution = self.learner.execution.as_dict() | {"storage": asdict(self.files.storage)}
        device = self.learner.device
        if device.type == "cuda":
            execution["peak_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        files, done = self.files, self.progress
        return TrainResult(files.last, files.best, files.log, done.log, done.seconds, execution)


class _Bar:
    """An epoch a tick, in a terminal; silent elsewhere."""

    def __init__(self, config: TrainConfig):
        from tqdm import tqdm

        self.epochs = config.epochs
        self.bar = tqdm(
            total=config.epochs,
            desc=config.defence.name,
            unit="epoch",
            disable=not sys.stderr.isatty(),
        )

    def __call__(self, line: dict[str, Any]) -> None:
        self.bar.update(line["epoch"] - self.bar.n)
        shown = {"loss": "loss", "val_clean_accuracy": "clean", "val_robust_accuracy": "robust"}
        self.bar.set_postfix({short: f"{line[k]:.3f}" for k, short in shown.items() if k in line})
        if line["epoch"] == self.epochs:
            self.bar.close()
