"""Jobs on the workers of a Dask scheduler, on any number of machines: docs/scale.md.

The run's folder is one that every worker sees, or, with ``shared=False``, each has a folder of
its own: the files that a job is made from travel there, and what it leaves comes back.
"""

import logging
import platform
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ldatlib.errors import OutOfTime, UserError, one_line
from ldatlib.evaluation.side_by_side import elsewhere
from ldatlib.files import write_bytes
from ldatlib.study.jobs import Plan
from ldatlib.study.pool import Work
from ldatlib.study.sending import Ended, Sending, parts
from ldatlib.study.worker import (
    SHARE,
    check_threads,
    compare,
    facts,
    sees,
    settling,
)
from ldatlib.study.workspace import Workspace

# Seconds in which a scheduler answers.
_ANSWER = 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """A scheduler's address, such as ``tcp://HOST:8786``, and whether the folder is shared."""

    address: str
    shared: bool = True

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """A client of the scheduler; ``UserError`` where it, or the package for it, is missing."""
        try:
            from distributed import Client
        except ImportError as error:
            raise UserError(
                "--cluster needs the package distributed: pip install distributed"
            ) from error
        # What went wrong is said here, once.
        for name in ("tornado.application", *logging.root.manager.loggerDict):
            if name.startswith(("distributed", "tornado")):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            client = Client(self.address, timeout=_ANSWER, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"no scheduler answers at {self.address} ({one_line(error)}); start one: dask "
                "scheduler, and workers: dask worker ADDRESS --nthreads 1"
            ) from error
        try:
            yield client
        except (UserError, OutOfTime):
            raise
        except Exception as error:
            if not _lost(client, error):
                raise
            # Dask lists all that was under way.
            cancelled = isinstance(error, CancelledError)
            reason = "what was sent is cancelled" if cancelled else one_line(error)
            raise UserError(
                f"the scheduler at {self.address} is gone, or was restarted ({reason}); start it "
                "again, and its workers, which end with it; then the same command goes on"
            ) from error
        finally:
            with suppress(Exception):
                client.close(timeout=_ANSWER)

    def check(self, ws: Workspace, say: Say = print) -> str:
        """One line about the workers, the folder and where to look on.

        Raises ``UserError`` where a worker has another version or does not see the folder. It
        waits for the first worker, which it says, until the deadline of the workspace.
        """
        with self.connect() as client, self._checked(client, ws, say) as (about, _):
            return about

    @contextmanager
    def attacking(
        self, late: Callable[[], bool] = lambda: False, say: Say = print
    ) -> Iterator[int]:
        """Inside, an evaluation with as many ``processes`` as given has them on the workers.

        As many as are there at the beginning; each is looked at first, as for ``check``. ``late``
        says when not to wait for one any longer: ``OutOfTime`` where none is left.
        """
        with self.connect() as client:
            found = self._versions(client, late, say)
            client.run_on_scheduler(settling())

            def send(function: Callable, calls: list[tuple[bytes, ...]]) -> list:
                return parts(client, function, calls, late)

            with elsewhere(send):
                yield len(found)

    def _versions(
        self, client: Any, late: Callable[[], bool], say: Say
    ) -> dict[str, dict[str, str]]:
        """``facts`` by the address of the worker, all of which can be used."""
        python = ".".join(client.run_on_scheduler(platform.python_version_tuple)[:2])
        if python != facts()["python"]:
            # It unpickles functions that it passes on.
            raise UserError(
                f"the scheduler at {self.address} has Python {python}, here it is "
                f"{facts()['python']}; start it with the same one"
            )
        if not client.nthreads():
            say(f"waiting for a worker at {self.address}")
        while not (workers := client.nthreads()):
            if late():
                raise UserError(f"no worker came to {self.address} in time; start some")
            time.sleep(0.5)
        for address, threads in workers.items():
            check_threads(address, threads)
        answers = client.run(facts, workers=list(workers), on_error="return")
        for address, found in answers.items():
            if isinstance(found, OSError):
                raise _left(address) from found
            if isinstance(found, BaseException):
                raise UserError(
                    f"the worker {address} cannot use ldatlib ({one_line(found)}); install the "
                    "same version there"
                )
            compare(facts(), found, address)
        return answers

    @contextmanager
    def _checked(self, client: Any, ws: Workspace, say: Say) -> Iterator[tuple[str, str]]:
        """A line about workers and folder; inside, a file lies there that every worker sees."""
        answers = self._versions(client, lambda: ws.late, say)
        token = secrets.token_hex(8)
        # Where records will stand: who does not see that folder later has lost it (_patiently).
        seen = ws.root.resolve() / "records" / f".seen-{token}.tmp"
        devices = Counter(found["device"] for found in answers.values())
        hosts = len({found["host"] for found in answers.values()})
        kinds = ", ".join(f"{count} x {device}" for device, count in devices.items())
        folder = f"shared folder {ws.root}" if self.shared else "no shared folder, files travel"
        about = f"{self.address}: {kinds} on {hosts} hosts; {folder}; see {client.dashboard_link}"
        if not self.shared:
            yield about, ""
            return
        write_bytes(seen, seen.name.encode())
        try:
            seeing = client.run(sees, str(seen), workers=list(answers), on_error="return")
            for address, answer in seeing.items():
                if isinstance(answer, OSError):  # of the connection: sees catches its own
                    raise _left(address) from answer
                if answer is not None:
                    raise UserError(
                        f"the worker {address} does not see {ws.root.resolve()} "
                        f"({one_line(answer)}); {SHARE}"
                    )
            yield about, str(seen)
        finally:
            with suppress(OSError):
                seen.unlink(missing_ok=True)

    def execute(self, work: Work, ws: Workspace, plan: Plan, say: Say = print) -> Iterator[Ended]:
        """Each job when it has ended, or with the reason why the deadline left it unfinished."""
        with self.connect() as client, self._checked(client, ws, say) as (_, seen):
            client.run_on_scheduler(settling())
            yield from Sending(client, work, ws, plan, seen).results()


def cluster_of(address: str | None, apart: bool, processes: int = 1) -> Cluster | None:
    """The cluster that a command line names: ``--cluster ADDRESS``, ``--no-shared-folder``."""
    if address and processes != 1:
        raise UserError("--processes are of this machine; --cluster takes a process a worker")
    if address:
        return Cluster(address, not apart)
    if apart:
        raise UserError("--no-shared-folder is about the workers of a --cluster ADDRESS")
    return None


def _left(address: str) -> UserError:
    return UserError(f"the worker {address} has just left; try again")


def _lost(client: Any, error: Exception) -> bool:
    """Whether the error is of a scheduler that is gone.

    What breaks first, the stream by which the client learns of it, a call that it is in, or one
    that finds it closed, differs from time to time.
    """
    from distributed.comm import CommClosedError

    if client.status != "running" or isinstance(error, (CancelledError, CommClosedError)):
        return True
    if not isinstance(error, OSError):
        return False
    try:
        client.sync(client.scheduler.identity, callback_timeout=_ANSWER)
    except OSError:
        return True
    return False
