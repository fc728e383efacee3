"""What a model returns, and whether it can be attacked: asked of a few images, before all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.findings import Findings
from ldatlib.evaluation.gate.wrappers import Averaged, switched_on

# Two passes over one batch, relative to the spread of the logits: the tolerance of AutoAttack.
_SAME = 1e-4
# Over another batch: kernels are chosen by its size.
_SAME_ELSEWHERE = 1e-3
# Images that another batch may change: where a model rounds, rounding may tip one over.
_FEW = 0.1
_SUM = 1e-4
# Further passes that have to agree, over so many images.
_AGAIN = 6, 2


@contextmanager
def as_deployed(model: nn.Module) -> Iterator[None]:
    """Frozen, but for what the caller has put into train mode within a model in eval mode."""
    on = switched_on(model)
    with frozen(model):
        for module in on:
            module.training = True
        yield


def place_of(model: nn.Module, x: Tensor) -> tuple[torch.device, torch.dtype]:
    """The device and the dtype that a model computes on; those of ``x`` if it has no weights."""
    weights = [*model.parameters(), *model.buffers()]
    devices = sorted({str(weight.device) for weight in weights})
    if "meta" in devices:
        raise UserError(
            "weights of the model are on the device meta, where there are no values; load them "
            "(model.to_empty(device=...), load_state_dict)"
        )
    if len(devices) > 1:
        raise UserError(
            f"the model lies on several devices ({', '.join(devices)}); move it to one: "
            f"model.to({devices[-1]!r})"
        )
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return (
        torch.device(devices[0]) if devices else x.device,
        dtypes.pop() if len(dtypes) == 1 else torch.float32,
    )


def ask(model: nn.Module, x: Tensor) -> Tensor:
    """What the model returns for a copy of the images; raises ``UserError`` where it fails."""
    with torch.no_grad():
        try:
            found = model(x)
        except Exception as error:
            raise UserError(
                f"the model fails on images {list(x.shape)} of {_dtype(x)}: {_line(error)}"
            ) from error
    return logits_of(found, len(x)).clone()


def logits_of(found, count: int) -> Tensor:
    """``found`` if it may be logits [N, C]; raises ``UserError`` with the remedy if not."""
    if not isinstance(found, Tensor):
        raise UserError(_other_type(found, count))
    shape, wrap = list(found.shape), "lambda x: torch.nn.functional.pad(model(x){}, (1, 0))"
    if found.ndim == 1 and len(found) == count:
        if not found.is_floating_point():
            raise UserError(
                f"the model returns classes ({_dtype(found)} {shape}), not logits [N, classes]; "
                "return what the argmax was taken of"
            )
        raise UserError(
            f"the model returns one logit an image ({shape}); two classes need two: "
            f"pass {wrap.format('.unsqueeze(1)')}"
        )
    if found.ndim != 2 and found.ndim > 1 and found.shape[2:].numel() == 1:
        raise UserError(
            f"the model returns {shape}, not logits [N, classes]; pass "
            "lambda x: model(x).flatten(1)"
        )
    if found.ndim != 2 or len(found) != count:
        raise UserError(
            f"the model returns {shape} for {count} images, not logits [N, classes]: one row an "
            "image, one column a class"
        )
    if found.shape[1] == 1:
        raise UserError(
            f"the model returns one logit an image ({shape}); two classes need two: pass "
            f"{wrap.format('')} (of a probability: model(x).logit())"
        )
    if found.shape[1] == 0 or found.is_complex():
        raise UserError(f"the model returns {_dtype(found)} {shape}, not logits [N, classes]")
    return found


def _other_type(found, count: int) -> str:
    """Of what it returns, and how to get at the logits."""
    kind, parts, how = type(found).__name__, {}, "lambda x: model(x){}"
    if isinstance(found, dict):
        parts = {f"[{key!r}]": value for key, value in found.items()}
    elif isinstance(found, tuple | list):
        kind = f"{kind} of {len(found)}"
        parts = {f"[{i}]": value for i, value in enumerate(found)}
    elif is_dataclass(found):
        parts = {f".{f.name}": getattr(found, f.name) for f in fields(found)}
    elif hasattr(found, "__array__"):
        return f"the model returns a {kind}, not a tensor; compute with torch, return logits"
    fitting = [
        name
        for name, value in parts.items()
        if isinstance(value, Tensor) and value.ndim == 2 and len(value) == count
    ]
    remedy = how.format(fitting[0] if fitting else "... for its part that holds the logits")
    return f"the model returns a {kind}, not logits [N, classes]; pass {remedy}"


def check_finite(logits: Tensor) -> None:
    bad = int((~logits.isfinite().all(1)).sum())
    if bad:
        raise UserError(
            f"logits of {bad} of {len(logits)} images are NaN or infinite: no attack is defined "
            "on them; mend the model (a log of 0? a class masked by -inf?)"
        )


def are_probabilities(logits: Tensor) -> bool:
    """Rows that sum to 1 and have no negative entry."""
    loose = max(_SUM, 2 * _precision(logits))
    sums = (logits.cpu().double().sum(1) - 1).abs()
    return bool(logits.is_floating_point() and logits.min() >= 0 and sums.max() <= loose)


def differ(first: Tensor, second: Tensor, tolerance: float) -> Tensor:
    """Images [N] whose logits differ by more than rounding."""
    wide = max(tolerance, 8 * _precision(first))
    first, second = first.cpu().double(), second.cpu().double()
    spread = (first - first.mean(1, keepdim=True)).abs().amax(1)
    # A large offset common to all logits costs them digits.
    rounding = 8 * torch.finfo(torch.float32).eps * first.abs().amax(1)
    return (first - second).abs().amax(1) > wide * spread + rounding


def check_random(
    model: nn.Module, x: Tensor, first: Tensor, eot: int | None, remedy: str, found: Findings
) -> bool:
    """Whether two passes over the same images differ, and ``eot`` says how to go on."""
    moved = differ(first, ask(model, x.clone()), _SAME)
    if not moved.any():
        # One network of three, drawn for the whole batch, is the same one twice in three cases.
        few = x[: _AGAIN[1]]
        before = ask(model, few.clone())
        for _ in range(_AGAIN[0]):
            moved = moved | differ(before, ask(model, few.clone()), _SAME).any()
    if not moved.any():
        if eot is not None:
            found.note("eot", "all passes give the same logits in eval mode: no eot for the model")
        return False
    said = f"the model is randomised: two passes differ on {int(moved.sum())} of {len(x)} images"
    if isinstance(model, Averaged):
        found.note("randomised", f"{said}; it is a mean of {model.passes} passes")
        return False
    if eot is None:
        on = [type(m).__name__ for m in switched_on(model) if not list(m.children())]
        off = f" ({', '.join(sorted(set(on)))} in train mode)" if on else ""
        raise UserError(
            f"{said}{off}; switch that off, or {remedy}: the mean of its probabilities over so "
            "many passes is attacked (expectation over transformations)"
        )
    found.warn("randomised", f"{said}; attacked is the mean of its probabilities over {eot} passes")
    return True


def check_batches(model: nn.Module, x: Tensor, first: Tensor, found: Findings) -> None:
    """An image's logits must not depend on its neighbours: asked in a smaller batch, backwards."""
    rows = torch.arange(0, len(x), 2).flip(0)
    if len(x) < 2:
        return
    changed = differ(first[rows], ask(model, x[rows]), _SAME_ELSEWHERE)
    if changed.double().mean() > _FEW:
        found.warn(
            "batch",
            f"the logits of {int(changed.sum())} of {len(rows)} images change with the images "
            "beside them: what is right in one batch is wrong in another; let batch norms use "
            "their running statistics",
        )


def check_gradient(model: nn.Module, x: Tensor, found: Findings) -> bool:
    """Whether the margin of the logits can be differentiated; what its gradient is worth."""
    blind = "attacks that follow gradients see nothing, so believe only what Square leaves"
    seen = x.detach().clone().requires_grad_(True)
    try:
        with torch.enable_grad():
            best = model(seen).topk(2, dim=1).values
            margin = best[:, 0] - best[:, 1]
            (gradient,) = torch.autograd.grad(margin.sum(), seen)
    except (RuntimeError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise UserError(
                f"there is not enough memory for the gradient of {len(x)} images ({_line(error)})"
            ) from error
        found.warn("gradient", f"the model has no gradient ({_line(error)}): {blind}")
        return False
    size = gradient.flatten(1).abs().amax(1)
    lost, broken = int((size == 0).sum()), int((~size.isfinite()).sum())
    if lost == len(x):
        found.warn("gradient", f"the gradient is 0 on all {lost} images looked at: {blind}")
    elif lost or broken:
        found.warn(
            "gradient",
            f"the gradient of the margin is 0 on {lost} and not finite on {broken} of {len(x)} "
            "images: there, attacks that follow gradients see nothing",
        )
    return True


def _precision(logits: Tensor) -> float:
    return torch.finfo(logits.dtype).eps if logits.is_floating_point() else 0.0


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}".rstrip(": ")
