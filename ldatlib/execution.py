"""How a network runs: device, precision, memory, compilation. One place decides.

Trainings may run in bfloat16 and compiled; every evaluation, the validation of a training
included, runs in float32 without TF32. What was used stands in the records.
"""

import ctypes
import functools
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ldatlib.errors import UserError

PRECISIONS = ("float32", "bfloat16", "auto")
COMPILE = ("auto", "on", "off")


# Names the device for this process and those that it starts; ``use_device`` sets it.
DEVICE_VARIABLE = "LDAT_DEVICE"


def default_device() -> torch.device:
    """The chosen device (``use_device``), else CUDA where there is one.

    Raises ``UserError`` where the chosen one is unknown or not there.
    """
    chosen = os.environ.get(DEVICE_VARIABLE)
    if not chosen:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return usable_device(chosen)


def usable_device(chosen: torch.device | str) -> torch.device:
    """The device of that name; ``UserError`` where it is unknown, not there or holds no values."""
    try:
        device = torch.device(chosen)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"no device {str(chosen)!r} here ({reason}); choose cpu, cuda, ..."
        ) from None
    return device


def use_device(name: str) -> None:
    """Compute on this device from now on, also in processes started later: ``"cuda:1"``."""
    os.environ[DEVICE_VARIABLE] = name
    default_device()


# The name by which the wrapper of ``torch.compile`` holds what it wraps.
_ORIGINAL = "_orig_mod"
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def bare(model: nn.Module) -> nn.Module:
    """The network without what ``torch.compile``, data parallelism and averages wrap around it.

    Taken off from every part of it, in place, and so is a compilation in place: the prefixes of
    wrappers, ``_orig_mod.`` and ``module.``, must not get into checkpoints, nor hide a head.
    """
    model = _inside(model)
    for module in list(model.modules()):
        if _is_compiled(module):
            module._compiled_call_impl = None
        for name, child in module._modules.items():
            if child is not None and _inside(child) is not child:
                module._modules[name] = _inside(child)
    return model


def is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` has taken hold of the network or of a part of it."""
    return any(_ORIGINAL in part._modules or _is_compiled(part) for part in model.modules())


def _is_compiled(module: nn.Module) -> bool:
    """In place, without a wrapper."""
    return _ORIGINAL not in module._modules and module._compiled_call_impl is not None


def _inside(module: nn.Module) -> nn.Module:
    while True:
        if _ORIGINAL in module._modules:
            module = module.get_submodule(_ORIGINAL)
        elif isinstance(module, _WRAPPERS):
            module = module.module
        else:
            return module


def place(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The model on a device, convolutions channels-last: the faster layout on CPU and GPU."""
    keep_pages()
    return model.to(device).to(memory_format=torch.channels_last)


# Of glibc's malloc.h: free memory at the top of the heap, in bytes, from which it is given back;
# how many blocks may be mapped one by one. Each has a variable by which users set it themselves.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")


@functools.lru_cache
def keep_pages() -> bool:
    """Let the process keep the memory of freed tensors for its next ones; whether it does.

    By itself glibc hands a large tensor's pages back to the system and asks for them, zeroed, an
    operation later: a tenth to a quarter of a float32 pass on a CPU. Results do not depend on it.
    Whoever sets one of glibc's own variables for these decides, and other C libraries are left as
    they are.
    """
    tuned = "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name in os.environ for name in _MALLOC_VARIABLES):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - others have a mallopt that understands neither
        return bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and libc.mallopt(_M_MMAP_MAX, 0))
    except (OSError, TypeError, AttributeError):
        return False


@functools.cache
def has_locks() -> bool:
    """Whether processes can work side by side: their locks lie in /dev/shm, which may be read-only.

    Where they cannot, a line says so. (joblib would take threads in their place, which share
    torch's random state and with it change what attacks find.)
    """
    # Of that kind it is gone at once, without a process to watch over it.
    fork = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    try:
        multiprocessing.get_context(fork).Semaphore()
        return True
    except (OSError, ImportError) as error:
        reason = f"{error}; make /dev/shm writable to work side by side"
        print(f"processes have no locks here, one works alone: {reason}", file=sys.stderr)
        return False


@functools.lru_cache
def has_fast_bfloat16(kind: str) -> bool:
    """Whether the hardware multiplies bfloat16 itself: on others it is emulated and slower."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # The flags of x86; on other processors float32 is the safe choice.
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.split())


def resolve_precision(precision: str, device: torch.device) -> str:
    """``"float32"`` or ``"bfloat16"``: what ``"auto"`` is on this device, others as they are."""
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision == "auto":
        return "bfloat16" if has_fast_bfloat16(device.type) else "float32"
    return precision


@dataclass(frozen=True)
class Execution:
    """What a training runs with. ``precision`` is ``"float32"`` or ``"bfloat16"``."""

    precision: str
    compiled: bool
    channels_last: bool = True

    def as_dict(self) -> dict:
        return asdict(self)


def prepare(
    model: nn.Module,
    device: torch.device,
    *,
    precision: str = "float32",
    compile: str = "off",
    sample: Tensor | None = None,
) -> Execution:
    """Set a ``Classifier`` up for training on its device and say what was chosen.

    Parameters
    ----------
    precision : ``"auto"`` is bfloat16 where the hardware multiplies it, float32 elsewhere.
    compile : ``"auto"`` compiles the backbone on CUDA; ``"on"`` anywhere. Where it fails on
        ``sample`` [N, channels, H, W], a line says so and the training runs uncompiled.

    Raises
    ------
    UserError : for an unknown precision or compile setting.
    """
    if compile not in COMPILE:
        raise UserError(f"unknown compile {compile!r}; known: {', '.join(COMPILE)}")
    precision = resolve_precision(precision, device)
    # A network of the user's own, without a precision to set, runs as it is.
    if not hasattr(model, "precision"):
        precision = "float32"
    else:
        setattr(model, "precision", precision)  # noqa: B010 - no attribute of every module
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    wanted = compile == "on" or (compile == "auto" and device.type == "cuda")
    compiled = wanted and hasattr(model, "backbone") and _compile(model, sample)
    return Execution(precision, compiled)


def _compile(model: nn.Module, sample: Tensor | None) -> bool:
    """Compile the backbone in place; its parameters and their names stay as they are."""
    training = model.training
    try:
        # A training has some ten variants of its passes: mode, gradients, the last batch's size.
        torch._dynamo.config.recompile_limit = 32
        model.backbone.compile()
        with torch.no_grad():
            model.eval().features(sample)
        return True
    except Exception as error:  # whatever a missing compiler or driver raises
        model.backbone._compiled_call_impl = None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"torch.compile does not work here, training runs without: {reason}", file=sys.stderr)
        return False
    finally:
        model.train(training)


@contextmanager
def full_precision(model: nn.Module | None = None) -> Iterator[None]:
    """Float32 without TF32 inside, whatever the model trains with; as before outside."""
    precision = getattr(model, "precision", None)
    with _without_tf32():
        try:
            if precision is not None:
                model.precision = "float32"
            yield
        finally:
            if precision is not None:
                model.precision = precision


@contextmanager
def _without_tf32() -> Iterator[None]:
    """TF32 off, by torch's newer switches where somebody has set those: it refuses a mixture."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    try:
        before = [(part, "allow_tf32", part.allow_tf32) for part in (matmul, cudnn)]
        off: bool | str = False
    except RuntimeError:
        parts = (matmul, cudnn.conv, cudnn.rnn)
        before = [(part, "fp32_precision", part.fp32_precision) for part in parts]
        off = "ieee"
    try:
        for part, name, _ in before:
            setattr(part, name, off)
        yield
    finally:
        for part, name, value in before:
            setattr(part, name, value)
