"""Parts of one evaluation on several processes of one thread each.

On networks as small as a CPU can attack, two processes of one thread get further than one process
of two.
"""

from collections.abc import Callable, Iterable

import torch

from ldatlib.errors import UserError, check_count
from ldatlib.evaluation.gate.entry import passed
from ldatlib.execution import has_locks, keep_pages


def check_processes(processes: int, device: torch.device) -> None:
    """Raises ``UserError`` for less than one process, or several that would share a card."""
    check_count("processes", processes)
    if processes > 1 and device.type != "cpu":
        raise UserError(f"one process attacks on {device.type}; leave processes at 1")


def spread(work: Callable, parts: Iterable[tuple], processes: int) -> list:
    """``[work(*part) for part in parts]``; on several processes of one thread where asked for."""
    parts = list(parts)
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
