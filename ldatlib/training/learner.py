"""What a training step changes, and the step itself: one round of Algorithm 2.

Everything random (order, augmentation, attack) comes from one generator on the device.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ldatlib.attacks import l2_norm
from ldatlib.data import Dataset, augment, to_float
from ldatlib.defences.adversaries import Mean
from ldatlib.errors import UserError
from ldatlib.execution import Execution, place, prepare
from ldatlib.models import Classifier, build_network
from ldatlib.training.config import TrainConfig


class Learner:
    """A network in training, with its teacher, average, optimiser and generator where it has one.

    ``model=None`` builds ``config.network``, and the teacher, from the seed alone. The global
    random state is left as it was.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        device: torch.device,
        model: Classifier | None = None,
        compile: str = "off",
    ):
        self.config, self.device = config, device
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.model = model or _built(config, dataset)
            self.teacher = self._fresh_teacher(dataset) if config.defence.needs_teacher else None
        for network in filter(None, (self.model, self.teacher)):
            place(network, device)
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.average = (
            AveragedModel(self.model, avg_fn=_warmed_up_average(config.ema_decay), use_buffers=True)
            if config.ema_decay
            else None
        )
        self.optimizer = self._optimizer()
        # Some pictures change their class in a mirror, whatever the recipe says.
        self.flip = config.flip and dataset.flip
        self.execution = self._prepare(dataset, compile)

    @property
    def evaluated(self) -> Classifier:
        """The weights that are validated and saved: their average where there is one."""
        return cast(Classifier, self.average.module) if self.average else self.model

    def batches(self, count: int) -> list[Tensor]:
        """Indices of ``count`` images in a drawn order, batch by batch."""
        order = torch.randperm(count, device=self.device, generator=self.generator)
        batches = list(order.split(self.config.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            # Batch norm has no variance over a single image of a single pixel.
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def lr_at(self, epoch: float) -> float:
        """Cosine from ``config.lr`` to 0; ``epoch`` counts from 0 and may be within an epoch."""
        return self.config.lr * (1 + math.cos(math.pi * epoch / self.config.epochs)) / 2

    def step(self, images: Tensor, y: Tensor, *, lr: float, progress: float) -> dict[str, Mean]:
        """One step on images [N, C, H, W] uint8 with labels ``y`` [N]; the means for the log."""
        config, defence = self.config, self.config.defence
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if config.padding or self.flip:
            images = augment(
                images, padding=config.padding, flip=self.flip, generator=self.generator
            )
        x = to_float(images).contiguous(memory_format=torch.channels_last)
        x_adv, means = defence.adversary.logged(self.model, x, y, self.generator)
        if x_adv is not x:
            reached = l2_norm(x_adv - x)
            x_adv = defence.adversary.finalise(x, x_adv)
            # What the attack reached, and what is left of it after the projection.
            left = l2_norm(x_adv - x)
            means |= {"attack_norm": (reached.mean(), len(y))}
            means |= {"perturbation_norm": (left.mean(), len(y))}
        for network in filter(None, (self.model, self.teacher)):
            network.train()
        loss, parts = defence.loss(self.model, x, x_adv, y, progress=progress, teacher=self.teacher)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        return means | {k: (v, len(y)) for k, v in {"loss": loss.detach(), **parts}.items()}

    def is_finite(self) -> bool:
        """Whether every weight is: the last ones of an epoch are in no loss yet."""
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """All that ``load_tensors`` needs to go on with the same bits."""
        tensors = {"generator": self.generator.get_state()}
        for name, module in self._modules().items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum/{index}"] = buffer
        return tensors

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Raises ``UserError`` where they are another network's."""
        for name, module in self._modules().items():
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            try:
                module.load_state_dict(own)
            except RuntimeError as error:
                raise UserError("it belongs to another network") from error
        for index, parameter in enumerate(self._parameters()):
            if f"momentum/{index}" in tensors:
                buffer = tensors[f"momentum/{index}"].to(self.device)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.generator.set_state(tensors["generator"])

    def _fresh_teacher(self, dataset: Dataset) -> Classifier:
        """The same network with weights of its own."""
        if self.config.network is not None:
            return _built(self.config, dataset)
        teacher = copy.deepcopy(self.model)
        for module in teacher.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
        return teacher

    def _optimizer(self) -> torch.optim.SGD:
        config = self.config
        others: list[nn.Parameter] = []
        undecayed: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            (others if config.defence.decays(name) else undecayed).append(parameter)
        if self.teacher:
            others += list(self.teacher.parameters())
        groups: list[dict[str, Any]] = [{"params": others}]
        if undecayed:
            groups.append({"params": undecayed, "weight_decay": 0.0})
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )

    def _prepare(self, dataset: Dataset, compile: str) -> Execution:
        """Precision and compilation, the teacher's as the student's."""
        sample = to_float(dataset.images["train"][: self.config.batch_size])
        sample = sample.contiguous(memory_format=torch.channels_last)
        for network in filter(None, (self.teacher, self.model)):
            execution = prepare(
                network,
                self.device,
                precision=self.config.precision,
                compile=compile,
                sample=sample,
            )
        return execution

    def _modules(self) -> dict[str, nn.Module]:
        known = {"model": self.model, "teacher": self.teacher, "average": self.average}
        return {name: module for name, module in known.items() if module is not None}

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def _built(config: TrainConfig, dataset: Dataset) -> Classifier:
    assert config.network is not None  # ``train`` takes no other
    return build_network(config.network, *dataset.statistics())


def _warmed_up_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential average that forgets the first steps: at step n at most (1 + n) / (10 + n)."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        count = torch.as_tensor(count)
        kept = torch.clamp((1 + count) / (10 + count), max=decay)
        return averaged + (current - averaged) * (1 - kept).to(averaged.device)

    return average
