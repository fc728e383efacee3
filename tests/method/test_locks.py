"""Locks among processes, and among machines that share a folder: simulated holders and clocks."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from ldatlib.errors import Busy
from ldatlib.files import locks, write_bytes
from ldatlib.files.locks import alone, is_held, lock_of


def hold(path, ready):
    with alone(path, "training"):
        ready.set()
        time.sleep(60)


def test_only_one_process_at_a_time(tmp_path):
    path = tmp_path / "net.safetensors"
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(path, ready))
    process.start()
    assert ready.wait(30)
    with (
        pytest.raises(Busy, match=rf"training .*net.safetensors \(process {process.pid} on "),
        alone(path, "training"),
    ):
        pass
    assert is_held(lock_of(path))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    # At once: of this machine it is known that its holder is gone.
    assert lock_of(path).exists() and not is_held(lock_of(path))
    with alone(path, "training"):
        pass
    assert not list(tmp_path.iterdir())


def elsewhere(path, seconds_ago, **other):
    """A lock of another machine, touched so long ago."""
    holder = vars(locks.Holder.me()) | {"host": "far", "machine": "another", **other}
    lock_of(path).write_text(json.dumps(holder))
    then = time.time() - seconds_ago
    os.utime(lock_of(path), (then, then))


@pytest.mark.parametrize("seconds, held", [(0, True), (50, True), (70, False)])
def test_another_machine_is_taken_for_dead_after_a_minute_of_silence(tmp_path, seconds, held):
    path = tmp_path / "net"
    elsewhere(path, seconds)
    assert is_held(lock_of(path)) == held
    if held:
        with pytest.raises(Busy, match="on far"), alone(path, "training"):
            pass
    else:
        with alone(path, "training"):
            assert json.loads(lock_of(path).read_text())["pid"] == os.getpid()
        assert not list(tmp_path.iterdir())


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path):
    path = tmp_path / "net"
    elsewhere(path, 0, machine=locks._machine(), started="1")
    assert not is_held(lock_of(path))


def test_a_cut_lock_is_somebodys_until_it_is_silent(tmp_path):
    path = tmp_path / "net"
    lock_of(path).write_text('{"host": "fa')
    with pytest.raises(Busy, match="an unknown host"), alone(path, "training"):
        pass
    os.utime(lock_of(path), (0, 0))
    with alone(path, "training"):
        pass


def test_whoever_was_silent_for_too_long_writes_nothing_more(tmp_path):
    path = tmp_path / "net"
    with alone(path, "training"):
        write_bytes(path, b"first")
        elsewhere(path, 0)  # as another machine does after a minute
        with pytest.raises(Busy, match="taken over .*on far has it"):
            write_bytes(path, b"second")
        assert path.read_bytes() == b"first"
    # Nor does it take away what is not its own.
    assert is_held(lock_of(path))
    assert {p.name for p in tmp_path.iterdir()} == {"net", ".net.lock"}


def test_a_lock_that_was_deleted_is_lost(tmp_path):
    with alone(tmp_path / "net", "training"):
        lock_of(tmp_path / "net").unlink()
        with pytest.raises(Busy, match="is gone .*same command goes on"):
            write_bytes(tmp_path / "net", b"")


def test_a_folder_that_went_is_not_made_anew(tmp_path):
    """Unmounted, it leaves an empty mount point of another disk."""
    path = tmp_path / "run" / "records" / "net"
    with alone(path, "training"):
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        for name in ("net", "other/folder"):
            with pytest.raises(Busy, match="is gone .*unmounted"):
                write_bytes(path.parent / name, b"")
    assert not (tmp_path / "run").exists()


def test_a_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    path = tmp_path / "net"
    with alone(path, "training"):
        os.utime(lock_of(path), (0, 0))
        until = time.monotonic() + 20
        while lock_of(path).stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert is_held(lock_of(path))
        for _ in range(2):  # it may have asked before the first, and touched after it
            elsewhere(path, 1000)
            time.sleep(0.2)
        # Not to what is another's.
        assert not is_held(lock_of(path))


def take(path, start, done, wins):
    start.wait()
    try:
        with alone(path, "training"):
            wins.put(os.getpid())
            done.wait(60)
    except Busy:
        wins.put(None)


def test_of_many_that_see_a_dead_lock_one_takes_it(tmp_path):
    path = tmp_path / "net"
    elsewhere(path, 100)
    context = multiprocessing.get_context("fork")
    start, done, wins = context.Event(), context.Event(), context.Queue()
    processes = [context.Process(target=take, args=(path, start, done, wins)) for _ in range(8)]
    for process in processes:
        process.start()
    start.set()
    results = [wins.get(timeout=60) for _ in processes]
    done.set()
    for process in processes:
        process.join()
    # One holds it; the others are told, or see nobody's and give up.
    assert sum(result is not None for result in results) == 1
