"""Parts of one evaluation side by side: on processes of one thread each, or on other machines.

On networks as small as a CPU can attack, two processes of one thread get further than one process
of two. Other machines are whatever joblib sends work to (``elsewhere``).
"""

import copy
import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError, check_count
from ldatlib.evaluation.gate.entry import passed
from ldatlib.execution import default_device, has_locks, keep_pages

# What a worker does before each part; None: parts are computed here.
_ELSEWHERE: ContextVar[Callable[[], None] | None] = ContextVar("elsewhere", default=None)


@contextmanager
def elsewhere(prepare: Callable[[], None], **backend: Any) -> Iterator[None]:
    """Inside, ``spread`` sends its parts to a backend of joblib: arguments of ``parallel_config``.

    Its workers ``prepare`` before each, and compute on their own device; what they find comes back
    on the CPU.
    """
    from joblib import parallel_config

    before = _ELSEWHERE.set(prepare)
    try:
        with parallel_config(**backend):
            yield
    finally:
        _ELSEWHERE.reset(before)


def imported_there(function: Callable) -> Callable:
    """One that calls this function of a module, which is imported where it is called.

    It is pickled by value: a scheduler, which unpickles what it passes on to its workers, needs
    neither that module nor torch.
    """
    module, name = function.__module__, function.__name__

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments)

    return call


def check_processes(processes: int, device: torch.device) -> None:
    """Raises ``UserError`` for less than one process, or several that would share a card."""
    check_count("processes", processes)
    if processes > 1 and device.type != "cpu" and not _ELSEWHERE.get():
        raise UserError(f"one process attacks on {device.type}; leave processes at 1")


def spread(work: Callable, parts: Iterable[tuple], processes: int) -> list:
    """``[work(*part) for part in parts]``; on several processes of one thread where asked for."""
    parts = list(parts)
    prepare = _ELSEWHERE.get()
    if prepare and parts:
        return _sent(prepare, work, parts, processes)
    if processes == 1 or len(parts) < 2 or not has_locks():
        return [work(*part) for part in parts]
    from joblib import Parallel, delayed

    # Threads would share torch's global random state, which attacks draw from.
    pool = Parallel(n_jobs=processes, backend="loky")
    return pool(delayed(_one_thread)(work, part) for part in parts)


def _one_thread(work: Callable, part: tuple):
    torch.set_num_threads(1)
    keep_pages()
    # Whoever shares its work has been checked.
    with passed():
        return work(*part)


def _sent(prepare: Callable[[], None], work: Callable, parts: list[tuple], workers: int) -> list:
    """The parts on workers that have neither this process's modules nor its devices."""
    from joblib import Parallel, delayed

    packed: dict[int, bytes] = {}

    def pack(value: Any) -> bytes:
        # Once a value, the model above all. It travels with each part: what was left on a worker
        # would be lost with it.
        if id(value) not in packed:
            packed[id(value)] = _pack(value)
        return packed[id(value)]

    pool = Parallel(n_jobs=workers)
    there = imported_there(_on_worker)
    what = pack(prepare), pack(work)
    calls = [delayed(there)(*what, *(pack(value) for value in part)) for part in parts]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        return pool(calls)


def _on_worker(prepare: bytes, work: bytes, *part: bytes):
    import cloudpickle

    cloudpickle.loads(prepare)()
    device = default_device()
    values = tuple(_moved(cloudpickle.loads(value), device) for value in part)
    return _moved(_one_thread(cloudpickle.loads(work), values), torch.device("cpu"))


def _pack(value: Any) -> bytes:
    import cloudpickle

    cpu = torch.device("cpu")
    if isinstance(value, nn.Module):
        # Moved in place, which the caller's is not.
        value = copy.deepcopy(value)
    return cloudpickle.dumps(_moved(value, cpu))


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor | nn.Module):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(one, device) for one in value)
    return value
