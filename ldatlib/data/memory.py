"""How much memory there is, asked before something large is computed into it."""

from ldatlib.errors import UserError


def available() -> int | None:
    """Bytes that programs can take without others being pushed out; None where nobody says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            found = [line.split()[1] for line in stream if line.startswith("MemAvailable:")]
        return int(found[0]) * 1024
    except (OSError, IndexError, ValueError):
        return None


def check_memory(size: int, what: str, reason: str) -> None:
    """Raises ``UserError`` where ``what``, of ``size`` bytes, cannot be in memory.

    ``reason`` says why it would have to be.
    """
    free = available()
    if free is not None and size > free:
        raise UserError(
            f"{what} take {size / 2**30:.1f} GiB and {free / 2**30:.1f} GiB of memory are free: "
            f"{reason}; make room, or take fewer or smaller images"
        )
