"""A network tried before its first step: what can be known about it is known then, in one line.

It is tried as a training will use it: attacked in eval mode, learning in train mode, its weights
read back as ``load_model`` does. It is left as it was, random state, buffers and modes included.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ldatlib.attacks import frozen
from ldatlib.data import Dataset
from ldatlib.errors import UserError, one_line
from ldatlib.execution import bare, full_precision
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import Classifier
from ldatlib.training.checkpoint import around, head_kind
from ldatlib.training.config import TrainConfig
from ldatlib.training.randomness import GlobalRandom

# Differences of logits, relative to the largest, beyond what float32 rounds.
_ROUNDING = 0.01


def as_classifier(model: object) -> Classifier:
    """The network of one's own that ``train`` was handed, without wrappers.

    Raises ``UserError`` where it is no ``Classifier``.
    """
    inside = bare(model) if isinstance(model, nn.Module) else model
    if isinstance(inside, Classifier):
        return inside
    what = f"the class {inside.__name__}" if isinstance(inside, type) else type(inside).__name__
    raise UserError(
        f"model must be a ldatlib.Classifier, not {what}: replace the last layer of a network by "
        "torch.nn.Identity(), and pass Classifier(network, head, *dataset.statistics())"
    )


class Trial:
    """A network and what it will be trained on; each check raises ``UserError`` in one line.

    ``name`` is how messages call the network.
    """

    def __init__(
        self, model: Classifier, config: TrainConfig, dataset: Dataset, device: torch.device
    ):
        self.model, self.config, self.dataset, self.device = model, config, dataset, device
        network = config.network
        self.name = "the model" if network is None else f"the network {network.architecture}"
        x, y = dataset.split("train", min(2, config.batch_size))
        self.x = x.to(device).contiguous(memory_format=torch.channels_last)
        self.y = y.to(device)

    def materialise(self) -> None:
        """Bring it to the device, and give lazy modules their shapes: by a first pass."""
        with self._told("cannot be used on this device"):
            self.model.to(self.device)
        if any(map(is_lazy, (*self.model.parameters(), *self.model.buffers()))):
            with self._told("fails"), torch.no_grad():
                self.model.eval()(self.x)

    def run(self, precision: str) -> None:
        """All checks; ``precision`` is what the backbone will be trained in."""
        self._check_weights()
        with _as_it_was(self.model):
            self._check_attacked()
            for one in dict.fromkeys(("float32", precision)):
                self._check_learning(one)
            if self.config.network is None:
                self._check_read_back()

    def _check_weights(self) -> None:
        head = self.model.head
        defence = self.config.defence
        if defence.head == "gmm" and not isinstance(head, GaussianMixtureHead):
            raise self._error(
                f"has a {type(head).__name__} for its head, and {defence.name} trains a "
                f"Gaussian mixture; take ldatlib.GaussianMixtureHead(D, {self._classes})"
            )
        parameters = dict(self.model.named_parameters())
        for name, value in (*parameters.items(), *self.model.named_buffers()):
            if value.is_complex() or (value.is_floating_point() and value.dtype != torch.float32):
                kind = str(value.dtype).removeprefix("torch.")
                raise self._error(
                    f"holds {name} in {kind}: weights are trained and kept in float32; call "
                    "model.float() (TrainConfig(precision='bfloat16') computes in bfloat16)"
                )
        for name, value in parameters.items():
            if not value.isfinite().all():
                raise self._error(f"holds NaN or infinity in {name}; initialise it anew")
        if not any(value.requires_grad for value in parameters.values()):
            raise self._error("has no parameter to train: requires_grad is False for all of them")
        for name, value in self.model.state_dict().items():
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                raise self._error(
                    f"keeps {name} in its state_dict, which is no plain tensor and goes into no "
                    "checkpoint; make it a buffer, or an argument of the module"
                )

    def _check_attacked(self) -> None:
        """In eval mode and float32, as attacks and validation see it."""
        x = self.x.clone().requires_grad_(True)
        with self._drawing(), frozen(self.model), full_precision(self.model):
            with self._told("fails in eval mode"):
                features = self.model.features(x)
            self._check_features(features)
            with self._told(f"has a head that does not take features {list(features.shape)}"):
                logits = self.model.head(features)
            self._check_logits(logits)
            with self._told("gives no gradient to the images, which attacks need"):
                logits = self.model(x)
                (gradient,) = torch.autograd.grad(self._loss(logits), x)
            if not gradient.isfinite().all():
                raise self._error(
                    "has a gradient of NaN or infinity on the first training images; look for "
                    "roots, logarithms and divisions at 0"
                )
            with torch.no_grad():
                if _close(self.model(x), logits):
                    self._check_alone(x, logits)

    def _check_alone(self, x: Tensor, logits: Tensor) -> None:
        """An image's logits must be its own: whatever else is attacked or counted beside it."""
        try:
            same = _close(self.model(x[:1]), logits[:1])
        except Exception:  # a batch norm has no variance over a single image
            same = False
        if not same:
            raise self._error(
                "gives an image other logits when it is alone: in eval mode they depend on the "
                "batch, as a batch norm without running statistics does; use "
                "track_running_stats=True, or a group norm"
            )

    def _check_learning(self, precision: str) -> None:
        """In train mode, as the loss sees it."""
        model, weights = self.model, [p for p in self.model.parameters() if p.requires_grad]
        before, model.precision = model.precision, precision
        try:
            with self._drawing(), self._told(f"fails in train mode ({precision})"):
                model.train()
                features = Classifier.features(model, self.x)
                self._check_features(features)
                loss = self._loss(model.head(features))
                gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        finally:
            model.precision = before
        found = [gradient for gradient in gradients if gradient is not None]
        if not found:
            raise self._error("has no parameter that its logits depend on")
        if not all(gradient.isfinite().all() for gradient in found):
            raise self._error(
                f"gives its weights a gradient of NaN or infinity in train mode ({precision}); "
                "look for roots, logarithms and divisions at 0"
            )

    def _check_read_back(self) -> None:
        """A network of one's own is read back into a backbone: what that gives must be it."""
        model, tensors = self.model, self.model.state_dict()
        own = head_kind(model.head) == "own"
        try:
            with self._drawing():
                again = around(model.backbone, tensors, model.head if own else None)
        except UserError as error:
            raise self._error(
                f"could not be loaded from its checkpoint: {error}; put what your "
                f"{type(model).__name__} adds into the backbone or the head"
            ) from error
        with torch.no_grad(), full_precision(model):
            found = []
            for one in (model, again.to(self.device)):
                with self._drawing():
                    found.append(one.eval()(self.x))
        if not _close(*found):
            raise self._error(
                f"would give other logits once it is loaded: put what your {type(model).__name__} "
                "adds to Classifier into the backbone or the head"
            )

    def _check_features(self, features: object) -> None:
        if not isinstance(features, Tensor):
            raise self._error(
                f"has a backbone that returns a {type(features).__name__}; it must return one "
                "tensor, the features [N, D], also in train mode"
            )
        if features.ndim != 2 or len(features) != len(self.x):
            raise self._error(
                f"has features of shape {list(features.shape)} for {len(self.x)} images; they "
                "must be [N, D]: end the backbone with a pooling and torch.nn.Flatten()"
            )
        self._check_values(features, "features")

    def _check_logits(self, logits: object) -> None:
        if not isinstance(logits, Tensor):
            raise self._error(
                f"has a head that returns a {type(logits).__name__}; it must return one tensor, "
                f"the logits [N, {self._classes}]"
            )
        if logits.shape != (len(self.x), self._classes):
            raise self._error(
                f"has logits of shape {list(logits.shape)} for {len(self.x)} images of "
                f"{self._classes} classes ({self.dataset.title}); give its head "
                f"{self._classes} outputs"
            )
        self._check_values(logits, "logits")

    def _check_values(self, values: Tensor, what: str) -> None:
        if not values.is_floating_point():
            raise self._error(f"has {what} of {values.dtype}; they must be floats")
        if not values.isfinite().all():
            raise self._error(
                f"has {what} of NaN or infinity on the first training images; look at the std of "
                "its normalisation and at its initial weights"
            )

    def _loss(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), self.y)

    @property
    def _classes(self) -> int:
        return self.dataset.num_classes

    def _drawing(self):
        """Random numbers inside are the same every time, and nobody else's."""
        return GlobalRandom(self.device, self.config.seed).inside()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Whatever the network raises inside is told in one line."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            shape = ["N", *self.x.shape[1:]]
            raise self._error(
                f"{what}: {type(error).__name__}: {one_line(error)}; it is given images "
                f"[{', '.join(map(str, shape))}], channels last in memory, on {self.device}"
            ) from error

    def _error(self, text: str) -> UserError:
        return UserError(f"{self.name} {text}")


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Modes and buffers are restored: a pass in train mode moves the statistics of a batch norm."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module, name, buffer, value in buffers:
            with torch.no_grad():
                module._buffers[name] = buffer.copy_(value)


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= _ROUNDING * b.abs().max())
