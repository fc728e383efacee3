"""A scheduler and two workers on this machine, started by their own commands."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import cloudpickle
import pytest
import torch
from test_killed import SMALL
from tiny import PROJECT, silent

from ldatlib import UserError, examine
from ldatlib.errors import Busy
from ldatlib.files.locks import lock_of
from ldatlib.study import cluster as module
from ldatlib.study import worker as worker_module
from ldatlib.study.cluster import Cluster
from ldatlib.study.jobs import Plan, with_needs
from ldatlib.study.run import open_run
from ldatlib.study.sources import attribute_of
from ldatlib.training.state import state_path
from tools import compare_runs

pytestmark = pytest.mark.slow

pytest.importorskip("distributed")

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
    with pytest.raises(UserError, match=r"pip install 'ldatlib\[cluster\]'"):
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

    def scheduler_info(self):
        return {"workers": {"tcp://w:1": {"nthreads": self.threads}}}

    def run(self, function, *arguments, on_error):
        if self.answers and function.__name__ in self.answers:
            return {"tcp://w:1": self.answers[function.__name__]}
        return {"tcp://w:1": function(*arguments)}


def test_workers_are_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "_SEEN", 0)
    run = open_run("demo", SETTINGS, tmp_path)
    cluster = Cluster("tcp://s:1")
    said = cluster._check(Pretended(), run)
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
    ):
        with pytest.raises(UserError, match=what):
            cluster._check(client, run)
    apart = Cluster("tcp://s:1", shared=False)
    assert "files travel" in apart._check(Pretended(answers={"sees": "No such file"}), run)


class Ended:
    """A future whose job has left what it should."""

    def result(self):
        return None, {}


class Counted:
    """A client whose jobs end one a look, the latest first; a worker more comes at the third."""

    def __init__(self):
        self.workers, self.looks, self.sent, self.running, self.most = 2, 0, [], [], []

    def nthreads(self):
        return dict.fromkeys(range(self.workers), 1)

    def submit(self, function, *arguments, key):
        self.sent.append(key)
        self.running.append(Ended())
        return self.running[-1]

    def done(self, _, futures):
        assert set(futures) == set(self.running)
        self.looks += 1
        self.most.append(len(self.running))
        if self.looks == 2:
            self.workers += 1
            return []
        return [self.running.pop()]


@pytest.mark.parametrize("shared", [True, False])
def test_as_many_jobs_are_sent_as_there_are_workers(shared, tmp_path, monkeypatch):
    """Dask would queue more behind a long one while another worker has nothing to do."""
    defences = ("natural", "standard", "l2_at", "ldat")
    run = open_run("demo", SMALL | {"defences": defences}, tmp_path)
    plan = Plan(run, with_needs(run, "basic", run.trainings()))
    client = Counted()
    monkeypatch.setattr(module, "_done", client.done)
    sending = module._Sending(client, None, run, plan, shared)
    ended = [job for job, _ in sending.results()]
    assert {job.path for job in ended} == {job.path for job in plan.jobs} and len(ended) == 8
    trainings = [sending._key(job) for job in plan.jobs if job.kind == "train"]
    # The longest chains first; what is made from a training that has ended takes its turn.
    assert client.sent[:2] == trainings[:2]
    assert client.most[:4] == [2, 2, 3, 3] and max(client.most) == 3
    for job in plan.jobs:
        for path in plan.needs[job.path]:
            order = [job.path for job in ended]
            assert order.index(path) < order.index(job.path)


def test_what_a_worker_sees_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "_SEEN", 0)
    (tmp_path / "x").write_text("token")
    assert worker_module.sees(str(tmp_path / "x"), "token") is None
    assert worker_module.sees(str(tmp_path / "x"), "other") == "another file"
    assert worker_module.sees(str(tmp_path / "y"), "token") == "No such file or directory"


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
        worker_module._patiently(unmounted, run, job, there)
    assert not list((tmp_path / "run").iterdir())


def test_folders_apart_want_a_cluster():
    with pytest.raises(UserError, match="--no-shared-folder is about"):
        module.cluster_of(None, True)
    assert module.cluster_of(None, False) is None
    assert module.cluster_of("tcp://s:1", True) == Cluster("tcp://s:1", shared=False)
