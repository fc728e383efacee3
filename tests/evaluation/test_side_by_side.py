"""Parts of an evaluation in other processes and on other machines: what travels, and what fails."""

import os
import signal
import threading

import cloudpickle
import pytest
import torch
from helpers import mostly_right, smooth_net
from torch import nn

from ldatlib import UserError
from ldatlib.evaluation import side_by_side
from ldatlib.evaluation.autoattack import standard
from ldatlib.evaluation.gate.wrappers import as_module
from ldatlib.evaluation.side_by_side import elsewhere, spread

TF32: list[bool] = []


class Watched(nn.Module):
    """Says with which precision it is asked."""

    def __init__(self):
        super().__init__()
        self.net = smooth_net()

    def forward(self, x):
        TF32.append(torch.backends.cuda.matmul.allow_tf32)
        return self.net(x)


class Unreadable:
    def __reduce__(self):
        return int, ("x",)


def killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "value", "said"),
    [
        (id, threading.Lock(), "cannot be sent to other processes .*cannot pickle '_thread.lock'"),
        (id, Unreadable(), "cannot be read in other processes"),
        (killed, 1, "was killed, for memory perhaps; what was finished is kept"),
    ],
)
def test_what_processes_cannot_do_is_one_line(work, value, said):
    with pytest.raises(UserError, match=f"{said}.*; use one process: --processes 1") as error:
        spread(work, [(value,), (value,)], processes=2)
    assert "\n" not in str(error.value)
    # Those that come after are others.
    assert spread(abs, [(-1,), (-2,)], processes=2) == [1, 2]


def test_what_cannot_travel_to_other_machines_is_one_line():
    with elsewhere(lambda function, calls: []), pytest.raises(UserError, match="--cluster out"):
        spread(id, [(threading.Lock(),)], processes=2)


def test_a_function_and_its_network_arrive_as_one(monkeypatch):
    """It is moved to the worker's device by its modules: those that it calls must be these."""
    net = smooth_net()
    model = as_module(lambda x: net(x))
    monkeypatch.setattr(side_by_side, "default_device", lambda: torch.device("meta"))

    def shape(model, x):
        return model(x).device.type, tuple(model(x).shape)

    with elsewhere(lambda function, calls: [function(*call) for call in calls]):
        found = spread(shape, [(model, torch.rand(2, 1, 5, 5))], processes=1)
    assert found == [("meta", (2, 5))]
    assert all(parameter.device.type == "cpu" for parameter in net.parameters())


def test_autoattack_on_a_worker_computes_in_full_precision():
    model = Watched()
    x, y = mostly_right(model, 6)
    asked: list[bool] = []

    def worker(function, calls):
        """Another process, in which nobody has set anything."""
        TF32.clear()
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            found = [function(*call) for call in calls]
            asked.extend(TF32)
            return found
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    with elsewhere(worker):
        standard(model, x, y, eps=0.1, norm="linf", attacks=["apgd-ce"])
    assert asked and not any(asked)


def test_what_autoattack_found_on_a_worker_is_judged_here():
    """A worker that rounds otherwise, or lies: the images it returns are right here."""
    model = smooth_net()
    x, y = mostly_right(model, 6)

    def worker(function, calls):
        images = [cloudpickle.loads(call[2]) for call in calls]
        return [(x, torch.ones(len(x), dtype=torch.bool), []) for x in images]

    with elsewhere(worker):
        found = standard(model, x, y, eps=0.1, norm="linf", attacks=["apgd-ce"])
    assert torch.equal(found.right, model(x).argmax(1) == y) and found.right.any()
