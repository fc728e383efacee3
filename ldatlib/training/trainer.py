"""Train one defence: data, attack, loss, schedule, validation, checkpoints, log.

Everything random (order, augmentation, attack) comes from one generator on the device, whose state
is saved with the optimiser after every epoch, and between two steps when an epoch takes long, so a
resumed training continues where it stopped: on the CPU with the same bits.
"""

import copy
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ldatlib.attacks import l2_norm, pgd
from ldatlib.data.dataset import Dataset, augment, to_float
from ldatlib.errors import OutOfTime, UserError
from ldatlib.execution import default_device, full_precision, place, prepare
from ldatlib.files import alone, load_tensors, save_tensors, write_bytes
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import Classifier, build_network
from ldatlib.training.config import Storage, TrainConfig

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
    log: list[dict]
    seconds: float
    execution: dict


def train(
    config: TrainConfig,
    dataset: Dataset,
    checkpoint: str | Path,
    *,
    log_path: str | Path | None = None,
    model: Classifier | None = None,
    device: torch.device | str | None = None,
    on_epoch: Callable[[dict], None] | None = None,
    resume: bool = True,
    compile: str = "off",
    storage: Storage | None = None,
    deadline: float | None = None,
) -> TrainResult:
    """Train a defence and leave ``NAME.safetensors`` (last) and ``NAME.best.safetensors``.

    Parameters
    ----------
    checkpoint : path of the last checkpoint, ``.../NAME.safetensors``. While the training runs,
        ``NAME.state.safetensors`` beside it holds what resuming needs.
    log_path : one JSON line an epoch; ``NAME.jsonl`` beside the checkpoint unless said.
    model : a network of your own (``Classifier``); only where ``config.network`` is None. It is
        trained in place.
    on_epoch : called with every epoch's line; ``None`` shows a progress bar in a terminal.
    resume : continue from the state file where there is one of the same configuration and data.
    compile : ``"on"``, ``"off"`` or ``"auto"``, which compiles on CUDA.
    storage : how the weights are kept; whole and in float32 unless said.
    deadline : in seconds of ``time.time()``; the training stops after the step that reaches it.

    Raises
    ------
    OutOfTime : the deadline was reached; the same call goes on from there.
    Busy : another process trains into this checkpoint.
    UserError : a loss that is not finite (the last good state stays and is named), a state file of
        another configuration, no network or two of them.
    """
    if (config.network is None) == (model is None):
        raise UserError("give either config.network or a model of your own, not both or neither")
    checkpoint = Path(checkpoint)
    with alone(checkpoint, "training"):
        run = _Run(config, dataset, checkpoint, log_path, model, device, storage, deadline)
        run.prepare(compile)
        if resume and run.state_path.exists():
            run.restore()
        bar = _Bar(config) if on_epoch is None else None
        while run.epoch < config.epochs:
            line = run.one_epoch()
            (on_epoch or bar)(line)
        if bar:
            bar.close()
        return run.finish()


def state_path(checkpoint: Path) -> Path:
    """Where a training of ``checkpoint`` keeps what resuming needs, while it runs."""
    return checkpoint.with_name(f"{checkpoint.name.removesuffix('.safetensors')}.state.safetensors")


class _Run:
    """A training in progress."""

    def __init__(self, config, dataset, checkpoint, log_path, model, device, storage, deadline):
        self.config, self.checkpoint = config, checkpoint
        self.storage = storage or Storage()
        self.deadline = math.inf if deadline is None else deadline
        stem = checkpoint.name.removesuffix(".safetensors")
        self.best_path = checkpoint.with_name(f"{stem}.best.safetensors")
        self.state_path = state_path(checkpoint)
        self.log_path = Path(log_path or checkpoint.with_name(f"{stem}.jsonl"))
        self.device = torch.device(device or default_device())
        self.dataset = dataset.to(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.model = model or build_network(config.network, *dataset.statistics())
            self.teacher = self._fresh_teacher() if config.defence.needs_teacher else None
        for module in filter(None, (self.model, self.teacher)):
            place(module, self.device)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.average = (
            AveragedModel(self.model, avg_fn=_warmed_up_average(config.ema_decay), use_buffers=True)
            if config.ema_decay
            else None
        )
        self.optimizer = self._optimizer()
        self.epoch, self.seconds, self.best, self.log = 0, 0.0, -1.0, []
        # Within an epoch: steps done, sums of the log's means, and the generator before the epoch,
        # from which its order is drawn again.
        self.step, self.sums, self.epoch_start = 0, {}, self.generator.get_state()
        self.saved = time.perf_counter()
        self.val_x, self.val_y = self.dataset.split("val", config.val_limit)

    def prepare(self, compile: str) -> None:
        """Precision and compilation; the teacher of LBGAT as the student."""
        sample = to_float(self.dataset.images["train"][: self.config.batch_size])
        sample = sample.contiguous(memory_format=torch.channels_last)
        for module in filter(None, (self.model, self.teacher)):
            self.execution = prepare(
                module,
                self.device,
                precision=self.config.precision,
                compile=compile,
                sample=sample,
            )

    @property
    def identity(self) -> dict:
        return {"config": self.config.as_dict(), "fingerprint": self.dataset.fingerprint}

    @property
    def evaluated(self) -> Classifier:
        return self.average.module if self.average else self.model

    def _optimizer(self) -> torch.optim.SGD:
        undecayed, others = [], []
        for name, parameter in self.model.named_parameters():
            (others if self.config.defence.decays(name) else undecayed).append(parameter)
        if self.teacher:
            others += list(self.teacher.parameters())
        groups = [{"params": others}]
        if undecayed:
            groups.append({"params": undecayed, "weight_decay": 0.0})
        config = self.config
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )

    def _fresh_teacher(self) -> Classifier:
        """LBGAT's teacher: the same network with weights of its own."""
        if self.config.network is not None:
            return build_network(self.config.network, *self.dataset.statistics())
        teacher = copy.deepcopy(self.model)
        for module in teacher.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        return teacher

    def _batches(self, count: int) -> list[Tensor]:
        order = torch.randperm(count, device=self.device, generator=self.generator)
        batches = list(order.split(self.config.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            # Batch norm has no variance over a single image of a single pixel.
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def one_epoch(self) -> dict:
        config, started = self.config, time.perf_counter()
        images, labels = self.dataset.images["train"], self.dataset.labels["train"]
        resumed_at = self.generator.get_state()
        self.generator.set_state(self.epoch_start)
        batches = self._batches(len(labels))
        if self.step:
            self.generator.set_state(resumed_at)
        for index in batches[self.step :]:
            for group in self.optimizer.param_groups:
                group["lr"] = self._lr(self.epoch + self.step / len(batches))
            for name, value in self._step(images[index], labels[index], len(batches)).items():
                self.sums[name] = self.sums.get(name, 0.0) + value * len(index)
            self.step += 1
            late = time.time() >= self.deadline
            if self.step < len(batches) and (late or time.perf_counter() - self.saved > SAVE_EVERY):
                self.seconds += time.perf_counter() - started
                started = time.perf_counter()
                self._save_state()
                if late:
                    raise OutOfTime(
                        f"{self.checkpoint.name} stopped in epoch {self.epoch + 1} of "
                        f"{config.epochs}, after step {self.step} of {len(batches)}"
                    )
        sums = self.sums
        epoch = self.epoch + 1
        line = {"epoch": epoch, "lr": self._lr(self.epoch)}
        line |= {name: float(value) / len(labels) for name, value in sums.items()}
        line |= config.defence.log(epoch / config.epochs)
        head = self.evaluated.head
        if isinstance(head, GaussianMixtureHead):
            line["smallest_centroid_distance"] = float(head.smallest_centroid_distance())
        if epoch % config.val_every == 0 or epoch == config.epochs:
            line.update(self._validate())
        self._check_finite(line)
        self.epoch = epoch
        self.seconds += time.perf_counter() - started
        line["seconds"] = round(self.seconds, 3)
        self.log.append(line)
        self.step, self.sums, self.epoch_start = 0, {}, self.generator.get_state()
        self._save(line)
        if time.time() >= self.deadline and self.epoch < config.epochs:
            raise OutOfTime(
                f"{self.checkpoint.name} stopped after epoch {self.epoch} of {config.epochs}"
            )
        return line

    def _lr(self, epoch: float) -> float:
        return self.config.lr * (1 + math.cos(math.pi * epoch / self.config.epochs)) / 2

    def _step(self, images: Tensor, y: Tensor, steps: int) -> dict[str, Tensor]:
        config, defence = self.config, self.config.defence
        # Some pictures change their class in a mirror, whatever the recipe says.
        flip = config.flip and self.dataset.flip
        if config.padding or flip:
            images = augment(images, padding=config.padding, flip=flip, generator=self.generator)
        x = to_float(images).contiguous(memory_format=torch.channels_last)
        parts = {}
        x_adv = defence.adversary(self.model, x, y, self.generator)
        if x_adv is not x:
            # What the attack reached, and what is left of it after the projection.
            parts["attack_norm"] = l2_norm(x_adv - x).mean()
            x_adv = defence.adversary.finalise(x, x_adv)
            parts["perturbation_norm"] = l2_norm(x_adv - x).mean()
        self.model.train()
        if self.teacher:
            self.teacher.train()
        done = (self.step + 1) / steps if defence.progress_by_step else 1
        progress = (self.epoch + done) / config.epochs
        loss, more = defence.loss(self.model, x, x_adv, y, progress=progress, teacher=self.teacher)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        return {"loss": loss.detach(), **parts, **more}

    def _validate(self) -> dict:
        with full_precision(self.evaluated):
            return self._validate_in_float32()

    def _validate_in_float32(self) -> dict:
        config, model = self.config, self.evaluated.eval()
        clean, robust, loss, features = 0, 0, 0.0, []
        batches = zip(
            self.val_x.split(config.batch_size), self.val_y.split(config.batch_size), strict=True
        )
        # Its own generator: how often a training validates must not change the training.
        generator = torch.Generator(self.device).manual_seed(config.seed)
        for x, y in batches:
            x = x.contiguous(memory_format=torch.channels_last)
            x_adv = pgd(
                model,
                x,
                y,
                eps=config.val_eps,
                step_size=config.val_eps / 4,
                num_steps=config.val_steps,
                generator=generator,
            )
            with torch.no_grad():
                features.append(model.features(x))
                logits = model.head(features[-1])
                loss += float(F.cross_entropy(logits, y, reduction="sum"))
                right = logits.argmax(1) == y
                clean += int(right.sum())
                robust += int((right & (model(x_adv).argmax(1) == y)).sum())
        count = len(self.val_y)
        return {
            "val_loss": loss / count,
            "val_clean_accuracy": clean / count,
            "val_robust_accuracy": robust / count,
            **feature_statistics(
                torch.cat(features), self.val_y, getattr(model.head, "means", None)
            ),
        }

    def _header(self, line: dict) -> dict:
        network = self.config.network
        return {
            "kind": "model",
            "network": network.as_dict() if network else None,
            "class_names": list(self.dataset.class_names),
            "dataset": self.dataset.title,
            "epoch": self.epoch,
            "metrics": line,
            **self.identity,
        }

    def _save(self, line: dict) -> None:
        """Best and last checkpoint, the log, and the state, last, which makes the epoch count."""
        state = self.evaluated.state_dict()
        robust = line.get("val_robust_accuracy", -1.0)
        if robust > self.best:
            self.best = robust
            save_tensors(self.best_path, state, self._header(line), **asdict(self.storage))
        if self.epoch == self.config.epochs:
            save_tensors(self.checkpoint, state, self._header(line), **asdict(self.storage))
        lines = "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in self.log)
        write_bytes(self.log_path, lines.encode())
        self._save_state()

    def _save_state(self) -> None:
        header = {
            "kind": "state",
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "log": self.log,
            **self.identity,
        }
        save_tensors(self.state_path, self._state_tensors(), header)
        self.saved = time.perf_counter()

    def _modules(self) -> dict[str, nn.Module]:
        known = {"model": self.model, "teacher": self.teacher, "average": self.average}
        return {name: module for name, module in known.items() if module is not None}

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _state_tensors(self) -> dict[str, Tensor]:
        tensors = {"generator": self.generator.get_state(), "epoch_start": self.epoch_start}
        tensors |= {f"sums/{name}": value for name, value in self.sums.items()}
        for name, module in self._modules().items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum/{index}"] = buffer
        return tensors

    def restore(self) -> None:
        tensors, header = load_tensors(self.state_path)
        # The header went through JSON, where tuples become lists.
        if header.get("kind") != "state" or {k: header[k] for k in self.identity} != json.loads(
            json.dumps(self.identity)
        ):
            raise UserError(
                f"{self.state_path} belongs to a training with other settings or other data; "
                "delete it or choose another folder"
            )
        for name, module in self._modules().items():
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            try:
                module.load_state_dict(own)
            except RuntimeError as error:
                raise UserError(
                    f"{self.state_path} belongs to another network; delete it or choose another "
                    "folder"
                ) from error
        for index, parameter in enumerate(self._parameters()):
            if f"momentum/{index}" in tensors:
                buffer = tensors[f"momentum/{index}"].to(self.device)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.generator.set_state(tensors["generator"])
        self.epoch_start = tensors["epoch_start"]
        self.sums = {
            name.removeprefix("sums/"): value.to(self.device)
            for name, value in tensors.items()
            if name.startswith("sums/")
        }
        self.epoch, self.step, self.seconds = header["epoch"], header["step"], header["seconds"]
        self.best, self.log = header["best"], header["log"]

    def _check_finite(self, line: dict) -> None:
        """Stop before a broken state is saved; weights too: the last ones are in no loss yet."""
        broken = [name for name, value in line.items() if not math.isfinite(value)]
        if not all(p.isfinite().all() for p in self.model.parameters()):
            broken.append("a weight")
        if broken:
            kept = f"the state after epoch {self.epoch} stays in {self.state_path}"
            raise UserError(
                f"{self.config.defence.name}: {broken[0]} is not finite in epoch "
                f"{self.epoch + 1}; {kept if self.epoch else 'no epoch was finished'}; "
                "lower lr, or the weights in its loss"
            )

    def finish(self) -> TrainResult:
        self.state_path.unlink(missing_ok=True)
        execution = {**self.execution.as_dict(), "storage": asdict(self.storage)}
        if self.device.type == "cuda":
            execution["peak_memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        return TrainResult(
            self.checkpoint, self.best_path, self.log_path, self.log, self.seconds, execution
        )


@torch.no_grad()
def feature_statistics(features: Tensor, y: Tensor, means: Tensor | None) -> dict[str, float]:
    """Where clean validation features [N, D] lie; distances are Euclidean, in feature units.

    The mean norm; the root mean squared distance within a class, to the mean of its features; the
    mean distance between those means; and with centroids [C, D] the mean of 1/2 the squared
    distance to the own one, which is the loss that L_lkd weighs.
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
    return {name: float(value) for name, value in result.items()}


def _warmed_up_average(decay: float) -> Callable:
    """Exponential average that forgets the first steps: at step n at most (1 + n) / (10 + n)."""

    def average(averaged: Tensor, current: Tensor, count: Tensor) -> Tensor:
        kept = torch.clamp((1 + count) / (10 + count), max=decay)
        return averaged + (current - averaged) * (1 - kept).to(averaged.device)

    return average


class _Bar:
    """An epoch a tick, in a terminal; silent elsewhere."""

    def __init__(self, config: TrainConfig):
        from tqdm import tqdm

        self.bar = tqdm(
            total=config.epochs,
            desc=config.defence.name,
            unit="epoch",
            disable=not sys.stderr.isatty(),
        )

    def __call__(self, line: dict) -> None:
        self.bar.update(line["epoch"] - self.bar.n)
        shown = {"loss": "loss", "val_clean_accuracy": "clean", "val_robust_accuracy": "robust"}
        self.bar.set_postfix({short: f"{line[k]:.3f}" for k, short in shown.items() if k in line})

    def close(self) -> None:
        self.bar.close()
