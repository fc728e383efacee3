"""Parts of one evaluation side by side: on processes of one thread each, or on other machines.

On networks as small as a CPU can attack, two processes of one thread get further than one process
of two. Other machines are whatever takes what is sent (``elsewhere``).
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from pickle import PicklingError
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.errors import UserError, check_count, one_line
from ldatlib.evaluation.gate.entry import passed
from ldatlib.execution import default_device, has_locks, keep_pages

# Sends calls of a function of pickled arguments to other machines, and returns their results.
Send = Callable[[Callable, list[tuple[bytes, ...]]], list]

# None: parts are computed here.
_ELSEWHERE: ContextVar[Send | None] = ContextVar("elsewhere", default=None)


@contextmanager
def elsewhere(send: Send) -> Iterator[None]:
    """Inside, ``spread`` sends its parts to workers of other machines.

    They compute on their own device; what they find comes back on the CPU.
    """
    before = _ELSEWHERE.set(send)
    try:
        yield
    finally:
        _ELSEWHERE.reset(before)


def check_processes(processes: int, device: torch.device) -> None:
    """Raises ``UserError`` for less than one process, or several that would share a card."""
    check_count("processes", processes)
    if processes > 1 and device.type != "cpu" and not _ELSEWHERE.get():
        raise UserError(f"one process attacks on {device.type}; leave processes at 1")


def sends_elsewhere() -> bool:
    """Whether other machines compute what is spread."""
    return _ELSEWHERE.get() is not None


def spread(work: Callable, parts: Iterable[tuple], processes: int) -> list:
    """``[work(*part) for part in parts]``; on several processes of one thread where asked for."""
    parts = list(parts)
    send = _ELSEWHERE.get()
    if send and parts:
        return _sent(send, work, parts)
    if processes == 1 or len(parts) < 2 or not has_locks():
        return [work(*part) for part in parts]
    from joblib import Parallel, delayed

    # Threads would share torch's global random state, which attacks draw from.
    pool = Parallel(n_jobs=processes, backend="loky")
    try:
        return pool(delayed(_one_thread)(work, part) for part in parts)
    except PicklingError as error:
        # What it could not send is told in the other thread's traceback alone.
        told = str(error.__cause__ or error).strip(' \n"').splitlines()
        raise _alone(f"the model cannot be sent to other processes ({told[-1]})") from error
    except BrokenProcessPool as error:
        if "un-serialize" in str(error):
            raise _alone("the model cannot be read in other processes") from error
        raise _alone(
            "a process that shared an attack was killed, for memory perhaps; what was finished is "
            "kept where a state is"
        ) from error


def _alone(what: str) -> UserError:
    return UserError(f"{what}; use one process: --processes 1, in Python processes=1")


def _one_thread(work: Callable, part: tuple):
    torch.set_num_threads(1)
    keep_pages()
    # Whoever shares its work has been checked.
    with passed():
        return work(*part)


def _sent(send: Send, work: Callable, parts: list[tuple]) -> list:
    """The parts on workers that have neither this process's modules nor its devices."""
    packed: dict[int, bytes] = {}

    def pack(value: Any) -> bytes:
        # Once a value, the model above all. It travels with each part: what was left on a worker
        # would be lost with it.
        if id(value) not in packed:
            packed[id(value)] = _pack(value)
        return packed[id(value)]

    return send(_on_worker, [(pack(work), *map(pack, part)) for part in parts])


def _on_worker(work: bytes, *part: bytes):
    import cloudpickle

    device = default_device()
    values = tuple(_moved(cloudpickle.loads(value), device) for value in part)
    return _moved(_one_thread(cloudpickle.loads(work), values), torch.device("cpu"))


def _pack(value: Any) -> bytes:
    import cloudpickle

    cpu = torch.device("cpu")
    if not isinstance(value, nn.Module):
        return _dumped(_moved(value, cpu))
    packed = _dumped(value)
    if any(tensor.device != cpu for tensor in (*value.parameters(), *value.buffers())):
        # Moved in place, which the caller's is not. What is unpickled, unlike a deep copy, is a
        # function and its modules in one.
        packed = _dumped(_moved(cloudpickle.loads(packed), cpu))
    return packed


def _dumped(value: Any) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(value)
    except (PicklingError, TypeError, AttributeError) as error:
        raise UserError(
            f"the model cannot be sent to other machines ({one_line(error)}); leave --cluster out"
        ) from error


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor | nn.Module):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(one, device) for one in value)
    return value
