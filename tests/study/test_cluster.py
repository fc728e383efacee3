"""A scheduler and two workers on this machine, started by their own commands."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import pytest
import torch
from test_killed import SMALL
from tiny import PROJECT, silent

from ldatlib import UserError, examine
from ldatlib.errors import Busy, OutOfTime
from ldatlib.files.locks import lock_of
from ldatlib.study import cluster as module
from ldatlib.study import sending
from ldatlib.study import worker as worker_module
from ldatlib.study.cluster import Cluster
from ldatlib.study.jobs import Plan, with_needs
from ldatlib.study.run import open_run
from ldatlib.study.sources import attribute_of
from ldatlib.training.state import state_path
from tools import compare_runs

pytestmark = pytest.mark.slow

distributed = pytest.importorskip("distributed")
CommClosedError = distributed.comm.CommClosedError

# Least squares of one-hot classes: right on nearly all digits.
MINE = """
import torch
from sklearn.datasets import load_digits


class Mine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        digits = load_digits()
        x = torch.tensor(digits.data / 16, dtype=torch.float32)
        y = torch.nn.functional.one_hot(torch.tensor(digits.target)).float()
        self.register_buffer("weight", torch.linalg.pinv(x) @ y)

    def forward(self, x):
        return x.flatten(1) @ self.weight


model = Mine()
"""
SETTINGS = SMALL | {"defences": ("natural", "standard"), "epochs": 15, "val_every": 15}


def until(ready, what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, what
        time.sleep(0.01)
    return found


# Before anything else is imported in a process whose PYTHONPATH has it.
NEITHER = """
import sys


class Neither:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ldatlib", "torch"):
            raise ImportError(f"there is no {name} here")


sys.meta_path.insert(0, Neither())
"""


class Machines:
    """The processes of a cluster, each a group of its own; the scheduler has neither library."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        (folder / "neither").mkdir()
        (folder / "neither" / "sitecustomize.py").write_text(NEITHER)
        self.file = folder / "scheduler.json"
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.address = until(self._address, "no scheduler")

    def start(self, what, *options):
        command = [sys.executable, "-m", "dask", what, *options]
        command += ["--scheduler-file", str(self.file)]
        has = PROJECT if what == "worker" else self.folder / "neither"
        environment = os.environ | {"PYTHONPATH": str(has), "OMP_NUM_THREADS": "1"}
        with open(self.folder / f"{what}-{len(self.processes)}.log", "wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.processes.append(process)
        return process

    def worker(self, name, threads=1):
        return self.start(
            *("worker", "--nthreads", str(threads), "--nworkers", "1", "--no-dashboard"),
            *("--memory-limit", "0", "--local-directory", str(self.folder / name)),
        )

    def _address(self):
        try:
            return json.loads(self.file.read_text())["address"]
        except (OSError, ValueError):
            return None

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def machines(tmp_path):
    # Names of scratch folders go into paths of sockets, which are short.
    started = Machines(tmp_path)
    try:
        yield started
    finally:
        started.end()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The same on this machine alone, one thread."""
    run = open_run("demo", SETTINGS, tmp_path_factory.mktemp("local"), jobs=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run.records("whitebox", run.trainings(), silent)
    torch.set_num_threads(threads)
    return run.root


def test_a_killed_worker_changes_nothing_and_folders_need_not_be_shared(
    machines, reference, tmp_path
):
    for name in ("one", "two"):
        machines.worker(name)
    run = open_run("demo", SETTINGS, tmp_path / "run", cluster=Cluster(machines.address))
    said, killed = [], []
    training = run.training("standard")
    checkpoint = run.checkpoint_path(training)
    lock, state = lock_of(checkpoint), state_path(checkpoint)

    def kill_one():
        until(lambda: state.is_file() and lock.is_file(), "no state", 300)
        holder = json.loads(lock.read_text())["pid"]
        os.kill(holder, signal.SIGKILL)
        killed.append(holder)

    thread = threading.Thread(target=kill_one)
    thread.start()
    run.records("whitebox", run.trainings(), said.append)
    thread.join()
    assert killed and len(said) >= 4
    assert compare_runs.differences(reference, run.root, compare_runs.COMPUTED) == []

    apart = Cluster(machines.address, shared=False)
    other = open_run("demo", SETTINGS, tmp_path / "apart", cluster=apart)
    other.records("whitebox", other.trainings(), silent)
    assert compare_runs.differences(reference, other.root, compare_runs.COMPUTED) == []
    # Computed in folders of the workers' own.
    assert list(tmp_path.glob("*/**/ldat-*/records/train-*.json"))

    # A model whose file the workers do not see is attacked there as here on two processes.
    (tmp_path / "mine.py").write_text(MINE)
    model = attribute_of(f"{tmp_path / 'mine.py'}:model")
    x, y = run.dataset.split("test")
    examined = dict(eps={"l2": 0.1}, effort="quick", batch_size=10)
    here = examine(model, x[:20], y[:20], processes=2, **examined)
    with Cluster(machines.address).attacking() as workers:
        assert workers == 2
        there = examine(model, x[:20], y[:20], processes=workers, **examined)
        # On as many as are left of them.
        os.killpg(machines.processes[-1].pid, signal.SIGKILL)
        examine(model, x[:20], y[:20], processes=workers, **examined)
    assert torch.equal(there.x_adv["l2"], here.x_adv["l2"])
    turns = [[t.right for t in found.record.norms["l2"].turns] for found in (here, there)]
    assert turns[0] == turns[1] and "1" in turns[0][0]


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (Cluster("tcp://127.0.0.1:1"), "no scheduler answers at tcp://127.0.0.1:1 .*dask sched"),
        (Cluster("nonsense://x"), "no scheduler answers at nonsense://x"),
    ],
)
def test_a_scheduler_that_is_not_there_is_one_line(cluster, said, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ANSWER", 1)
    with pytest.raises(UserError, match=said):
        cluster.check(open_run("demo", SETTINGS, tmp_path))


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match="pip install distributed"):
        Cluster("tcp://127.0.0.1:1").check(open_run("demo", SETTINGS, tmp_path))


@pytest.mark.parametrize("name", ["python", "torch", "ldatlib"])
def test_another_version_on_a_worker_is_one_line(name):
    worker_module.compare(worker_module.facts(), worker_module.facts(), "tcp://w:1")
    with pytest.raises(UserError, match=f"tcp://w:1 has {worker_module.COMMON[name][:5]}.* x,"):
        worker_module.compare(
            worker_module.facts(), worker_module.facts() | {name: "x"}, "tcp://w:1"
        )


def test_processes_of_dask_look_at_themselves_once_a_second():
    """A scheduler and a nanny get the function by value, and import nothing of ours for it."""
    code = (
        "import pickle, sys, types\n"
        "looks = {n: types.SimpleNamespace(callback_time=t) for n, t in (('tick', 20), ('x', 5))}\n"
        "server = types.SimpleNamespace(periodic_callbacks=looks, allowed_failures=3)\n"
        "pickle.load(sys.stdin.buffer)(server)\n"
        "print([one.callback_time for one in looks.values()], server.allowed_failures)\n"
        "print('torch' in sys.modules or 'ldatlib' in sys.modules)"
    )
    sent = cloudpickle.dumps(worker_module.settling())
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[:2] == ["[1000, 5] 20", "False"]


class Pretended:
    """A client whose workers answer what they are told to."""

    dashboard_link = "http://dash"

    def __init__(self, threads=1, answers=None, python=None):
        self.threads, self.answers, self.python = threads, answers, python

    def run_on_scheduler(self, function):
        return self.python or function()

    def nthreads(self):
        return {"tcp://w:1": self.threads}

    def run(self, function, *arguments, on_error, workers=None):
        if self.answers and function.__name__ in self.answers:
            return {"tcp://w:1": self.answers[function.__name__]}
        return {"tcp://w:1": function(*arguments)}


def test_workers_are_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "_SEEN", 0)
    run = open_run("demo", SETTINGS, tmp_path)
    cluster = Cluster("tcp://s:1")
    with cluster._checked(Pretended(), run, silent) as (said, seen):
        assert Path(seen).read_text(encoding="utf-8") == Path(seen).name
    assert "1 x cpu on 1 hosts; shared folder" in said and said.endswith("see http://dash")
    assert [path.name for path in tmp_path.rglob("*")] == ["records"]
    for client, what in (
        (
            Pretended(python=("3", "9", "1")),
            "the scheduler at tcp://s:1 has Python 3.9, here it is",
        ),
        (Pretended(threads=2), "tcp://w:1 has 2 threads.* --nthreads 1"),
        (Pretended(answers={"facts": ImportError("No module named 'ldatlib'")}), "cannot use ldat"),
        (Pretended(answers={"sees": "No such file"}), "does not see .* --no-shared-folder"),
        (Pretended(answers={"sees": OSError("closed")}), "worker tcp://w:1 has just left"),
    ):
        with pytest.raises(UserError, match=what):
            with cluster._checked(client, run, silent):
                pass
    apart = Cluster("tcp://s:1", shared=False)
    with apart._checked(Pretended(answers={"sees": "No such file"}), run, silent) as (said, seen):
        assert "files travel" in said and not seen


class Client:
    """Workers whose jobs end one a look, the latest first, with the reasons given by the beginning
    of their key; a worker more is there at the third look, none from ``gone`` on."""

    def __init__(self, monkeypatch, reasons=None, gone=99):
        self.workers, self.looks, self.running = 2, 0, []
        self.sent, self.most, self.reasons, self.gone = [], [], reasons or {}, gone
        monkeypatch.setattr(sending.Workers, "next", self.next)

    def nthreads(self):
        return {} if self.looks >= self.gone else dict.fromkeys(range(self.workers), 1)

    def run(self, function, nanny, workers):
        raise OSError("there are no nannies")

    def submit(self, function, *arguments, key):
        self.sent.append(key)
        reasons = [self.reasons[name] for name in self.reasons if key.startswith(name)]
        future = Future()
        future.set_result((reasons[0] if reasons else None, {}))
        self.running.append(future)
        return future

    def next(self):
        self.looks += 1
        self.most.append(len(self.running))
        if self.looks == 2:
            self.workers += 1
            return None
        if self.looks >= self.gone:
            return None
        future = self.running.pop()
        return self.of.workers.running.pop(future), future.result()

    def results(self, run, plan):
        self.of = sending.Sending(self, None, run, plan, "")
        return list(self.of.results())


@pytest.fixture
def four(tmp_path):
    """A run of four trainings, and the plan of an evaluation of each."""
    defences = ("natural", "standard", "l2_at", "ldat")
    run = open_run("demo", SMALL | {"defences": defences}, tmp_path)
    return run, Plan(run, with_needs(run, "basic", run.trainings()))


def test_as_many_jobs_are_sent_as_there_are_workers(four, monkeypatch):
    """Dask would queue more behind a long one while another worker has nothing to do."""
    run, plan = four
    client = Client(monkeypatch)
    ended = [job for job, _ in client.results(run, plan)]
    assert {job.path for job in ended} == {job.path for job in plan.jobs} and len(ended) == 8
    # The longest chains first; what is made from a training that has ended takes its turn.
    first = [job.path.stem for job in plan.jobs if job.kind == "train"][:2]
    assert all(key.startswith(stem) for key, stem in zip(client.sent[:2], first, strict=True))
    assert client.most[:4] == [2, 2, 3, 3] and max(client.most) == 3
    order = [job.path for job in ended]
    for job in plan.jobs:
        for path in plan.needs[job.path]:
            assert order.index(path) < order.index(job.path)
    # Another command is no part of what this one has left on workers.
    again = Client(monkeypatch)
    again.results(run, plan)
    assert len({*client.sent, *again.sent}) == 16


def test_what_is_made_from_an_unfinished_job_is_not_sent(four, monkeypatch):
    """The clock of its worker may have been ahead."""
    run, plan = four
    client = Client(monkeypatch, {"train-ldat": "epoch 3"})
    reasons = {job.name: reason for job, reason in client.results(run, plan)}
    assert reasons.pop("train ldat-s0") == "epoch 3"
    assert reasons.pop("basic ldat-s0") == "basic ldat-s0 did not begin"
    assert set(reasons.values()) == {None} and len(client.sent) == 7


def test_a_deadline_ends_a_run_whose_workers_are_gone(four, monkeypatch):
    run, plan = four
    client = Client(monkeypatch, gone=3)
    monkeypatch.setattr(type(run), "late", property(lambda _: client.looks >= 3))
    reasons = [reason for _, reason in client.results(run, plan)]
    assert len(reasons) == 8 and len(client.sent) == 4
    said = Counter(" ".join(str(reason).split()[2:]) for reason in reasons)
    assert said == {"": 1, "did not begin": 1, "has no worker left": 6}


def test_parts_of_an_attack_wait_for_a_worker_until_the_time_is_up(monkeypatch):
    monkeypatch.setattr(sending, "_LOOK", 0.01)
    late = iter([False, False, True])
    client = SimpleNamespace(nthreads=dict, submit=lambda *_, pure: Future())
    with pytest.raises(OutOfTime, match="no worker is left"):
        sending.parts(client, print, [(b"1",), (b"2",)], lambda: next(late))
    assert next(late, "none") == "none"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            distributed.KilledWorker("key", None, 20),
            "more than 20 workers died under train ldat-s0",
        ),
        (ModuleNotFoundError("No module named 'mine'"), "a worker lacks .*No module named 'mine'"),
    ],
)
def test_what_a_worker_cannot_do_is_one_line(error, said):
    future = Future()
    future.status = "error"
    client = SimpleNamespace(submit=lambda *_, **__: future)
    workers = sending.Workers(client)
    workers.send("train ldat-s0", print)
    future.set_exception(error)
    with pytest.raises(UserError, match=said):
        workers.next()
    assert not workers.running


def test_nobody_waits_for_a_result_whose_worker_has_died(monkeypatch):
    """The job has ended; before its result was fetched its worker died, so it is computed again."""
    monkeypatch.setattr(sending, "_LOOK", 0.01)
    loop, computed = asyncio.new_event_loop(), threading.Event()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def gather(future, asynchronous):
        while future is first and not computed.is_set():
            await asyncio.sleep(0.001)
        return "the result"

    first, second = Future(), Future()
    futures = iter([first, second])
    workers = sending.Workers(
        SimpleNamespace(
            submit=lambda *_, **__: next(futures),
            gather=gather,
            loop=SimpleNamespace(asyncio_loop=loop),
        )
    )
    for name, future in (("one", first), ("two", second)):
        workers.send(name, print)
        future.status = "finished"
        future.set_result(None)
    assert until(workers.next, "nothing arrives") == ("two", "the result")
    assert workers.next() is None and list(workers.running.values()) == ["one"]
    computed.set()
    assert until(workers.next, "nothing arrives") == ("one", "the result")
    loop.call_soon_threadsafe(loop.stop)


def test_what_travels_takes_the_place_of_what_is_there_once_a_command(four):
    run, plan = four
    job = plan.jobs[0]
    record, weights = job.path, run.checkpoint_path(job.training)
    given = worker_module.Given(
        files={"checkpoints/" + weights.name: b"sent"}, anew=False, run="r", sending="first"
    )
    for path in (record, weights):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old")
    worker_module._receive(run, job, given)
    assert (weights.read_bytes(), record.read_bytes()) == (b"sent", b"old")
    # Sent again, for its worker has died.
    weights.write_bytes(b"further")
    worker_module._receive(run, job, given)
    assert weights.read_bytes() == b"further"
    worker_module._receive(run, job, given | {"sending": "second", "anew": True})
    assert weights.read_bytes() == b"sent" and not record.exists()


def test_what_comes_too_late_leaves_what_is_newer(four, monkeypatch, tmp_path):
    """A worker that has an older state, and no time any more, sends nothing back."""
    run, plan = four
    job = plan.jobs[0]
    old = state_path(run.checkpoint_path(job.training))
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(b"old")
    given = worker_module.Given(files={}, anew=False, run="r", sending="first")
    monkeypatch.setattr(type(run), "late", True)
    monkeypatch.setattr(worker_module, "prepare", lambda common: None)
    monkeypatch.setattr(worker_module, "unpack", lambda packed, root: (run, job))
    worker = SimpleNamespace(local_directory=str(tmp_path), address="tcp://w:1")
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    came = worker_module.run_apart({}, cloudpickle.dumps(print), b"", given)
    assert came == (f"{job.name} did not begin", {}) and old.read_bytes() == b"old"


def test_what_is_to_be_made_anew_is_so_until_it_has_ended(four, monkeypatch):
    run, plan = four
    run.forgotten |= {job.path for job in plan.jobs}
    Client(monkeypatch, {"train-ldat": "epoch 3"}).results(run, plan)
    left = {job.name for job in plan.jobs if job.path in run.forgotten}
    assert left == {"train ldat-s0", "basic ldat-s0"}


def test_a_late_worker_is_looked_at_too(monkeypatch):
    worker = SimpleNamespace(address="tcp://w:1", state=SimpleNamespace(nthreads=2))
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    with pytest.raises(UserError, match="tcp://w:1 has 2 threads.* --nthreads 1"):
        worker_module.prepare(sending.common())
    with pytest.raises(UserError, match="on the worker tcp://w:1: .*Too many open files"):
        with worker_module._named():
            raise OSError(24, "Too many open files")


def test_a_scheduler_that_dies_is_one_line(machines, tmp_path):
    run = open_run("demo", SETTINGS, tmp_path / "run")

    def kill(line):
        assert line == f"waiting for a worker at {machines.address}"
        machines.processes[0].kill()

    with pytest.raises(UserError, match=f"the scheduler at {machines.address} is gone"):
        Cluster(machines.address).check(run, kill)


@pytest.mark.parametrize(
    ("status", "answers", "error", "raised"),
    [
        ("running", True, CancelledError("all of them"), UserError),
        ("running", True, CommClosedError("reset by peer"), UserError),
        ("closed", False, AttributeError("'NoneType' object has no attribute 'ncores'"), UserError),
        ("running", False, OSError("Timed out trying to connect"), UserError),
        ("running", True, OSError("No space left on device"), OSError),
        ("running", True, OutOfTime("the time is up"), OutOfTime),
        ("running", True, ZeroDivisionError("a bug"), ZeroDivisionError),
    ],
)
def test_what_a_lost_scheduler_breaks_is_one_line(status, answers, error, raised, monkeypatch):
    def identity():
        if not answers:
            raise OSError("Timed out trying to connect")

    client = SimpleNamespace(
        status=status,
        close=lambda timeout: None,
        scheduler=SimpleNamespace(identity=identity),
        sync=lambda call, callback_timeout: call(),
    )
    monkeypatch.setattr("distributed.Client", lambda *_, **__: client)
    with pytest.raises(raised, match="is gone" if raised is UserError else str(error)):
        with Cluster("tcp://s:1").connect():
            raise error


def test_what_a_worker_sees_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "_SEEN", 0)
    (tmp_path / "x").write_text("x")
    (tmp_path / "z").write_text("other")
    assert worker_module.sees(str(tmp_path / "x")) is None
    assert worker_module.sees(str(tmp_path / "z")) == "another file"
    assert worker_module.sees(str(tmp_path / "y")) == "No such file or directory"


def test_a_folder_that_went_is_not_made_anew(tmp_path):
    """An unmounted folder leaves an empty one of the worker's own machine behind."""
    run = open_run("demo", SETTINGS, tmp_path / "run")
    (job,) = run.jobs_of("train", [run.training("standard")])
    there = job.path.parent
    there.mkdir(parents=True)

    def unmounted(*_):
        there.rmdir()
        raise Busy("the lock is gone")

    with pytest.raises(UserError, match="shared folder .*run is gone .*same command goes on"):
        worker_module._patiently(run, unmounted, there)
    assert not list((tmp_path / "run").iterdir())


def test_folders_apart_want_a_cluster():
    with pytest.raises(UserError, match="--no-shared-folder is about"):
        module.cluster_of(None, True)
    assert module.cluster_of(None, False) is None
    assert module.cluster_of("tcp://s:1", True) == Cluster("tcp://s:1", shared=False)
