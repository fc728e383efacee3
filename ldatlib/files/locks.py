"""Who works on what: a lock is a file that says who holds it and is touched while he does.

It holds among processes of one machine and of several that share a folder, where the locks of the
operating system often do not. Of this machine a dead holder is known at once; of another one
after a minute of silence. Whoever slept that long asks before each write whether the lock is
still his (``check_held``, which ``files`` does).
"""

import functools
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ldatlib.errors import Busy, Unwritable

# Seconds between signs of life, and of silence after which a lock is taken over.
HEARTBEAT, SILENCE = 10.0, 60.0

# Those of this process.
_HELD: dict[str, "_Lock"] = {}


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. ``machine`` tells boots and containers of one host apart, ``token`` one
    holding from the next; ``started`` is when the process did, in ticks, where that is known."""

    host: str
    machine: str
    pid: int
    started: str
    token: str

    @classmethod
    def me(cls) -> "Holder":
        pid = os.getpid()
        return cls(socket.gethostname(), _machine(), pid, _started(pid), secrets.token_hex(8))

    @property
    def known_dead(self) -> bool:
        """Whether it ran here and is gone."""
        if not self.machine or self.machine != _machine():
            return False
        return _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Only one process at a time, of all machines that see the folder, works on ``path``.

    Raises ``Busy`` where another one does: ``what`` is the word for it, such as "training";
    ``Unwritable`` where no lock can be.
    """
    lock = _Lock(lock_of(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = lock.take()
    except OSError as error:
        raise Unwritable(
            f"cannot write to {path.parent}: {error.strerror}; choose another folder"
        ) from error
    if not taken:
        raise Busy(
            f"another process is {what} {path} ({lock.other}); wait for it, or choose another "
            "folder"
        )
    try:
        with lock.kept_alive():
            yield
    finally:
        lock.release()


def lock_of(path: Path) -> Path:
    """The lock's own file."""
    return path.with_name(f".{path.name}.lock")


def is_held(lock: Path) -> bool:
    """Whether somebody holds the lock of this file, as far as can be seen."""
    holder = _read(lock)
    return holder is not None and not _lapsed(lock, holder)


def check_held() -> None:
    """Raises ``Busy`` where a lock of this process has been taken over by another one."""
    for lock in list(_HELD.values()):
        lock.check()


class _Lock:
    def __init__(self, path: Path):
        self.path, self.me = path, Holder.me()
        # Whoever holds it instead.
        self.other: Holder | None = None

    def take(self) -> bool:
        """Whether it is ours now; else ``other`` has it. Raises ``OSError`` where none can be."""
        for _ in range(3):
            if self._create(self.path):
                return True
            self.other = _read(self.path)
            if self.other is None:
                continue  # let go meanwhile
            if not _lapsed(self.path, self.other):
                return False
            self._remove_lapsed(self.other)
        return False

    def _create(self, path: Path) -> bool:
        """Whole or not at all, and never over another: a link fails where there is one."""
        draft = self.path.with_name(f"{self.path.name}.{self.me.token}")
        try:
            draft.write_text(json.dumps(vars(self.me)), encoding="utf-8")
            try:
                os.link(draft, path)
            except FileExistsError:
                return False
            except OSError:
                # A file system without links.
                with suppress(FileExistsError), open(path, "x", encoding="utf-8") as stream:
                    stream.write(json.dumps(vars(self.me)))
                    return True
                return False
            return True
        finally:
            draft.unlink(missing_ok=True)

    def _remove_lapsed(self, holder: Holder) -> None:
        """Of several that saw it lapse one removes it, and only if it still is that one."""
        guard = self.path.with_name(f"{self.path.name}.taking")
        if not self._create(guard):
            if _lapsed(guard, _read(guard)):
                guard.unlink(missing_ok=True)
            return
        try:
            if _read(self.path) == holder and _lapsed(self.path, holder):
                self.path.unlink(missing_ok=True)
        finally:
            guard.unlink(missing_ok=True)

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Inside, a thread touches the file, and every write asks whether it still is ours."""
        ended = threading.Event()

        def touch() -> None:
            while not ended.wait(HEARTBEAT):
                with suppress(OSError):
                    if _read(self.path) == self.me:
                        os.utime(self.path)

        thread = threading.Thread(target=touch, daemon=True)
        thread.start()
        _HELD[self.me.token] = self
        try:
            yield
        finally:
            del _HELD[self.me.token]
            ended.set()

    def check(self) -> None:
        # A child that was forked has its parent's locks in mind.
        if self.me.pid != os.getpid():
            return
        holder = _read(self.path)
        if holder != self.me:
            what = (
                f"was taken over while this process was silent ({holder} has it)"
                if holder
                else "is gone (its folder was removed, or unmounted)"
            )
            raise Busy(
                f"the lock {self.path} {what}; nothing more is written, the same command goes on"
            )

    def release(self) -> None:
        with suppress(OSError):
            if _read(self.path) == self.me:
                self.path.unlink()


def _read(lock: Path) -> Holder | None:
    """Who holds it; None where there is none. One that is cut belongs to somebody unknown."""
    try:
        text = lock.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        text = ""
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return Holder("an unknown host", "", 0, "", "")


def _lapsed(lock: Path, holder: Holder | None) -> bool:
    """Whether its holder is dead, or silent for too long by the clock of the file system."""
    if holder is None or holder.known_dead:
        return True
    probe = lock.with_name(f"{lock.name}.{secrets.token_hex(8)}")
    try:
        # The clock of a server is not that of this machine.
        probe.touch()
        now = probe.stat().st_mtime
        return now - lock.stat().st_mtime > SILENCE
    except FileNotFoundError:
        return not lock.exists()
    except OSError:
        # Nothing can be written here, so nothing is taken over.
        return False
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """Equal for processes that know each other's numbers: of one boot of one host, and of one
    container. Empty where that is not known: only silence tells there."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process of this number began: another one may get its number. Empty: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # After the name, which may have anything in it: the state, then numbers.
    fields = stat.rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
