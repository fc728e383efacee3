"""The gate itself: ``check``, and ``gated``, which puts it before an evaluator.

It costs three forward passes and one gradient on at most 32 images from all over the data, one
image alone, half a pass more in small batches, one more where the model has to be adapted, and up
to seven more on 64 images where few are right.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError, check_count
from ldatlib.evaluation.gate import outputs
from ldatlib.evaluation.gate.diagnosis import diagnose, spread_over
from ldatlib.evaluation.gate.exported import Exported
from ldatlib.evaluation.gate.findings import Checked, EvaluationWarning, Finding, Findings
from ldatlib.evaluation.gate.images import check_classes, check_images, check_labels
from ldatlib.evaluation.gate.wrappers import (
    Adapted,
    Averaged,
    FromFunction,
    as_module,
    random_states_kept,
    switched_on,
)
from ldatlib.execution import full_precision

LOOKED_AT = 32
# Of torch's generators, half of it: batches and restarts add to it.
_LARGEST_SEED = 2**62
_P = ParamSpec("_P")
_R = TypeVar("_R")
# What was said of the evaluation around; None outside of any.
_CURRENT: ContextVar[list[dict[str, str]] | None] = ContextVar("gate", default=None)
# Who collects what gates say, instead of warnings; None where nobody does.
_LISTENER: ContextVar["Heard | None"] = ContextVar("listener", default=None)


def gated(evaluator: Callable[_P, _R]) -> Callable[_P, _R]:
    """Check ``model``, ``x`` and ``y`` of an evaluator, and give it what came out.

    An evaluator without ``y`` has model and images checked. Inside, gradients can be taken whatever
    the caller has switched off, and what an evaluator calls is not checked again. ``eot`` is for
    the gate alone. Warnings are raised as ``EvaluationWarning``, unless somebody listens
    (``heard``); all findings go into the record, by ``said``.
    """
    signature = inspect.signature(evaluator)
    has_eot, labelled = "eot" in signature.parameters, "y" in signature.parameters
    remedy = "pass eot=20" if has_eot else "pass gate.wrappers.Averaged(model, 20)"

    @functools.wraps(evaluator)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if _CURRENT.get() is not None:
            return evaluator(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        options = {name: given[name] for name in ("eot", "seed") if name in given}
        labels = {"y": given["y"]} if labelled else {"labelled": False}
        if "batch_size" in given:
            check_count("batch_size", given["batch_size"])
        with _conditions():
            found = check(given["model"], given["x"], remedy=remedy, **labels, **options)
            _tell(found.flags)
            given.update(model=found.model, x=found.x)
            if labelled:
                given["y"] = found.y
            with passed(found.record()), full_precision(_inner(found.model)):
                return evaluator(*bound.args, **bound.kwargs)

    return checked


def said() -> list[dict[str, str]]:
    """What the gate has found, for the record of the evaluation that is under way."""
    return list(_CURRENT.get() or [])


@contextmanager
def passed(record: Iterable[dict[str, str]] = ()) -> Iterator[None]:
    """Evaluators inside are not checked; this is what was said before."""
    token = _CURRENT.set(list(record))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@dataclass
class Heard:
    """What gates have said, each finding once; with what is known of the data."""

    class_names: Sequence[str] = ()
    findings: list[Finding] = field(default_factory=list)

    def record(self) -> list[dict[str, str]]:
        """The findings as records hold them."""
        return [asdict(finding) for finding in self.findings]


@contextmanager
def heard(class_names: Sequence[str] = ()) -> Iterator[Heard]:
    """Listen to the gates inside: nothing is raised as a warning, and messages name classes.

    For networks and labels that belong together, such as a run's own: labels that look shifted are
    a finding there, and no reason to end the run.
    """
    listener = Heard(class_names)
    token = _LISTENER.set(listener)
    try:
        yield listener
    finally:
        _LISTENER.reset(token)


def heard_so_far() -> list[dict[str, str]]:
    """What the gates inside ``heard`` have said by now; empty outside."""
    listener = _LISTENER.get()
    return listener.record() if listener is not None else []


def hear_again(record: Iterable[dict[str, Any]]) -> None:
    """Inside ``heard``: what was said of a piece that an interrupted evaluation had finished."""
    listener = _LISTENER.get()
    if listener is not None:
        found = [Finding(**entry) for entry in record]
        listener.findings += [finding for finding in found if finding not in listener.findings]


def _tell(flags: Sequence[Finding]) -> None:
    listener = _LISTENER.get()
    if listener is not None:
        listener.findings += [flag for flag in flags if flag not in listener.findings]
        return
    for flag in flags:
        if flag.severity == "warning":
            # At the line that called the evaluator.
            warnings.warn(flag.text, EvaluationWarning, stacklevel=3)


def check(
    model,
    x,
    y=None,
    *,
    eot: int | None = None,
    seed: int = 0,
    remedy: str = "pass eot=20",
    labelled: bool = True,
    class_names: Sequence[str] = (),
) -> Checked:
    """What an evaluator needs, made of what the caller has; nothing of the caller's is changed.

    Parameters
    ----------
    model : module or function, images [N, C, H, W] in [0,1] -> logits [N, classes].
    x, y : images and classes [N], tensors or numpy arrays.
    eot : passes over which a randomised model is averaged; ``None`` refuses it.
    seed : of those passes.
    remedy : what a caller who was refused them can do.
    labelled : whether there is a ``y``. Without, nothing is attacked, so nothing is said of
        gradients, nor of what the model predicts.
    class_names : of the classes 0, 1, ..., for messages.

    Returns
    -------
    Checked, whose ``flags`` say what was changed, and what the numbers must be read with.

    Raises
    ------
    UserError : one line on what is wrong, and what to do.
    """
    listener = _LISTENER.get()
    names = class_names or (listener.class_names if listener else ())
    found = Findings(names, known_labels=listener is not None)
    if eot is not None and (type(eot) is not int or eot < 1):
        raise UserError(f"eot is a number of passes, at least 1, not {eot!r}")
    check_count("seed", seed, 0)
    if seed > _LARGEST_SEED:
        raise UserError(f"seed must be at most {_LARGEST_SEED}, not {seed}")
    with _conditions():
        model = as_module(model)
        x = check_images(x, found)
        labels = check_labels(y, len(x)) if labelled else None
        device, dtype = outputs.place_of(model, x)
        if isinstance(model, FromFunction) and not [*model.within, *model.rest]:
            found.note(
                "function",
                "no module is seen in the function: what it runs must be in eval mode already",
            )
        if isinstance(model, Exported) and model.smallest == model.largest:
            found.note(
                "batches",
                f"the program was exported for batches of {model.largest}: others are cut to that "
                "size and filled up to it",
            )
        if x.device != device:
            found.note("device", f"images on {x.device} were moved to {device}, as the model is")
        x = x.to(device)
        labels = None if labels is None else labels.to(device)
        if any(module.training for module in model.modules()) and not switched_on(model):
            found.note("train_mode", "the model is in train mode; it is evaluated in eval mode")
        rows = spread_over(x, LOOKED_AT)
        with full_precision(model), outputs.as_deployed(model):
            model, logits = _adapted(model, x[rows], labels, dtype, found)
            randomised = outputs.check_random(model, x[rows], logits, eot, remedy, found)
            outputs.ask(model, x[rows[:1]].clone())  # whose last batch may be of one
            if not randomised and not isinstance(model, Averaged):
                outputs.check_batches(model, x[rows], logits, found)
            if labelled and not outputs.check_gradient(model, x[rows], found):
                model = Adapted(model, differentiable=False)
            if randomised and eot is not None:
                model = Averaged(model, eot, seed=seed)
            if labels is not None:
                diagnose(model, x, labels, rows, logits, found)
    return Checked(model, x, labels, logits.shape[1], tuple(found))


def _adapted(
    model: nn.Module, x: Tensor, y: Tensor | None, dtype: torch.dtype, found: Findings
) -> tuple[nn.Module, Tensor]:
    """The model as a map from float32 images to float32 logits, and its logits for ``x``."""
    seen = x.to(dtype, copy=True)
    logits = outputs.ask(model, seen)
    outputs.check_finite(logits)
    if y is not None:
        check_classes(y, logits.shape[1])
    # Also where it changes nothing on these, as a clamp of images in [0,1].
    copies = seen._version > 0 or not torch.equal(seen, x.to(dtype))
    if copies:
        found.note("in_place", "the model works on its input in place; it gets a copy")
    if dtype != torch.float32:
        found.note("precision", f"the model computes in {dtype}; images and logits are float32")
    probabilities = outputs.are_probabilities(logits)
    if probabilities:
        found.warn(
            "probabilities",
            "the outputs are probabilities (rows sum to 1), in which gradients vanish; their "
            "logarithm is evaluated: better return the logits, without the softmax",
        )
    if copies or probabilities or not dtype == logits.dtype == torch.float32:
        model = Adapted(model, dtype=dtype, copies=copies, probabilities=probabilities)
        logits = outputs.ask(model, x.clone())
    return model, logits


@contextmanager
def _conditions() -> Iterator[None]:
    """Gradients on, autocast off, and the random states kept, whatever the caller is in."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(random_states_kept())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _inner(model: nn.Module) -> nn.Module:
    """The caller's model, whose precision may have to be set."""
    while isinstance(model, Adapted | Averaged):
        model = model.model
    return model
