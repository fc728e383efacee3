"""Models behind what they need to be attacked: modules, copies, logits, a mean; a score, too."""

import functools
import inspect
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.exported import Exported


@contextmanager
def random_states_kept() -> Iterator[None]:
    """The random states of torch, numpy and Python are the same after as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def as_module(model) -> nn.Module:
    """``model`` itself, or a module that calls it."""
    if isinstance(model, type):
        raise UserError(f"the model is the class {model.__name__}; pass an instance of it")
    if not callable(model):
        raise UserError(
            f"the model is a {type(model).__name__}; pass a module or a function from images to "
            "logits"
        )
    if isinstance(model, torch.export.ExportedProgram):
        return Exported(model)
    if isinstance(model, nn.Module):
        # Modules of exported programs refuse eval(): as a function they need none.
        return model if _has_modes(model) else FromFunction(functools.partial(model))
    return FromFunction(model)


# More forward passes than an attack takes: the streams of two attacks do not meet.
_CALLS = 10**6


class FromFunction(nn.Module):
    """A function from images to logits; the modules that it speaks of are the module's own."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function
        within = _modules_of(function)
        self.within = nn.ModuleList(module for module in within if _has_modes(module))
        rest = [module for module in within if not _has_modes(module)]
        self.rest = nn.ParameterList(p for module in rest for p in module.parameters())
        self.training = any(module.training for module in self.within)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _modules_of(function) -> list[nn.Module]:
    """The modules that a function, method, partial or callable object refers to."""
    if isinstance(function, nn.Module):
        return [function]
    if isinstance(function, functools.partial):
        values = [function.func, *function.args, *function.keywords.values()]
        return [m for v in values if callable(v) for m in _modules_of(v)]
    if inspect.ismethod(function):
        return _modules_of(function.__self__)
    if inspect.isfunction(function):
        try:
            names = inspect.getclosurevars(function)
        except ValueError:  # a name that has no value yet
            return []
        values = [*names.nonlocals.values(), *names.globals.values()]
    else:
        values = list(getattr(function, "__dict__", {}).values())
    return list({id(v): v for v in values if isinstance(v, nn.Module)}.values())


def _has_modes(module: nn.Module) -> bool:
    """Whether it can be put into eval mode; raises ``UserError`` if it can have no gradient."""
    if any(weight.is_inference() for weight in (*module.parameters(), *module.buffers())):
        raise UserError(
            "the model was made in torch.inference_mode(), which allows no gradient; make or load "
            "it outside"
        )
    try:
        with frozen(module):
            return True
    except (NotImplementedError, AttributeError):  # exported; frozen TorchScript has no modes
        return False


class Adapted(nn.Module):
    """Float32 images -> float32 logits of a model that has it otherwise.

    ``dtype``: what the model takes. ``copies``: it works on its input in place. ``probabilities``:
    their logarithm is returned. ``differentiable=False``: run without gradients, which are 0.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dtype: torch.dtype = torch.float32,
        copies: bool = False,
        probabilities: bool = False,
        differentiable: bool = True,
    ):
        super().__init__()
        self.model, self.dtype, self.copies = model, dtype, copies
        self.probabilities, self.differentiable = probabilities, differentiable
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            seen = x.to(self.dtype)
            # Also where the dtype differed: attacks reuse their tensors.
            seen = seen.clone() if self.copies or not self.differentiable else seen
            logits = _logarithm(self.model, seen) if self.probabilities else self.model(seen)
            logits = _float32(logits)
        if self.differentiable:
            return logits
        # A clone, as models in inference mode return what autograd does not take.
        return logits.clone() + 0 * x.flatten(1).sum(1, keepdim=True)


def _float32(logits: Tensor) -> Tensor:
    if logits.dtype == torch.float64:
        # Attacks look at differences, which rounding would take from large logits.
        logits = logits - logits.detach().amax(1, keepdim=True)
    return logits.float()


def _logarithm(model: nn.Module, x: Tensor) -> Tensor:
    """log p; from the softmax's input where the model ends with one, as p rounds to 0 and 1."""
    with _LastSoftmax() as last:
        p = model(x)
    if last.result is p:
        return last.logits.to(p.dtype).log_softmax(1)
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


class _LastSoftmax(TorchFunctionMode):
    """Remembers the softmax that was computed last, and of what."""

    result = logits = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax":
            self.result, self.logits = result, args[0] if args else kwargs["input"]
        return result


class Averaged(nn.Module):
    """The mean of a randomised model's probabilities over ``passes`` passes, as logits.

    Expectation over transformations (Athalye et al. 2018): gradients go through the mean. Of the
    probabilities, not the logits, as in Salman et al. 2019: ``log E[p]`` is what a randomised
    classifier predicts, whatever the scale of the logits of a single pass. Every forward pass
    draws anew, from a stream of its own: the random states of torch, numpy and Python stay.

    What is in train mode in a model in eval mode, as dropout may be, stays so; batch norms do not.
    """

    def __init__(self, model: nn.Module, passes: int, *, seed: int = 0):
        super().__init__()
        self.model, self.passes, self.seed, self.calls = model, passes, seed, 0
        self.switched_on = switched_on(model)

    def train(self, mode: bool = True) -> "Averaged":
        super().train(mode)
        for module in self.switched_on:
            module.training = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        with stream(self.seed, self.calls):
            passes = [self.model(x).log_softmax(1) for _ in range(self.passes)]
        return torch.stack(passes).logsumexp(0) - math.log(self.passes)


class AveragedScore:
    """The mean of a randomised score over ``looks`` looks: images [n, ...] -> [n].

    Of a score of one's own, a function of model and images, as ``Averaged`` of a model: every call
    draws anew, from a stream of its own, and the random states stay; gradients go through the mean.
    It keeps the score's name.
    """

    def __init__(self, score: Callable[[nn.Module, Tensor], Tensor], looks: int, *, seed: int = 0):
        self.score, self.looks, self.seed, self.calls = score, looks, seed, 0
        self.__qualname__ = str(getattr(score, "__qualname__", type(score).__name__))

    def __call__(self, model: nn.Module, x: Tensor) -> Tensor:
        self.calls += 1
        with stream(self.seed, self.calls):
            looks = torch.stack([self.score(model, x) for _ in range(self.looks)])
        return (looks if looks.is_floating_point() else looks.to(x.dtype)).mean(0)


@contextmanager
def stream(seed: int, call: int) -> Iterator[None]:
    """Random numbers of one call, whatever was drawn before; the random states stay."""
    with random_states_kept():
        start = (seed * 1_000_003 + call) % 2**32
        torch.manual_seed(start)
        np.random.seed(start)
        random.seed(start)
        yield


def draw_from(model: object, place: int) -> None:
    """Let a mean over random passes or looks go on from this place of its stream; others have none.

    Called before every attack, so that what one draws does not depend on whether those before it
    were run or found again.
    """
    if isinstance(model, Averaged | AveragedScore):
        model.calls = place * _CALLS


def switched_on(model: nn.Module) -> list[nn.Module]:
    """What was put into train mode within a model in eval mode, batch norms left out."""
    norms = nn.modules.batchnorm._NormBase
    within = [] if model.training else model.modules()
    return [module for module in within if module.training and not isinstance(module, norms)]
