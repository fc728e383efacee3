"""A model by one text: functions of files and modules, checkpoints of ours, and no pickles."""

import sys

import pytest
import torch
from helpers import smooth_net
from torch import nn

from ldatlib import UserError
from ldatlib.evaluation.side_by_side import spread
from ldatlib.files import save_tensors
from ldatlib.study.sources import attribute_of, model_of

MINE = """
import helper_of_mine
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, helper_of_mine.CLASSES)

    def forward(self, x):
        return self.last(x.flatten(1))

def make():
    return Net()

def fails():
    raise RuntimeError("no weights\\nhere")

def needs(path):
    return Net()

def stops():
    raise SystemExit(3)

def nothing():
    return None

ready, number = Net(), 3

def score(model, images):
    return model(images).amax(1)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "helper_of_mine.py").write_text("CLASSES = 4\n")
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    yield path
    sys.modules.pop("helper_of_mine", None)


def test_a_function_of_a_file_which_sees_its_folder(mine):
    model = model_of(f"{mine}:make")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
    assert isinstance(model_of(f"{mine}:ready"), nn.Module)
    assert attribute_of(f"{mine}:score")(model, torch.zeros(2, 1, 8, 8)).shape == (2,)


def test_other_processes_get_a_model_of_a_file(mine):
    """Also those that wait from an earlier evaluation, and never heard of the file's folder."""
    spread(torch.neg, [(torch.ones(1),), (torch.ones(1),)], processes=2)
    images, model = torch.rand(4, 1, 8, 8), model_of(f"{mine}:make")
    parts = [(images[:2], model), (images[2:], model)]
    both = spread(lambda x, net: net(x).detach(), parts, processes=2)
    assert torch.allclose(torch.cat(both), model(images), atol=1e-6)


def test_a_function_of_a_module():
    assert isinstance(model_of("torch.nn:Identity"), nn.Module)


def test_a_checkpoint_that_is_not_ours(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match="no checkpoint"):
        model_of(str(path))
    save_tensors(path, {"x": torch.zeros(1)}, {"kind": "other"})
    with pytest.raises(UserError, match="holds other, not a model"):
        model_of(str(path))


@pytest.mark.parametrize("ending", ["pt", "pth", "ckpt", "pkl", "PTH", "torchscript"])
def test_what_runs_code_when_it_is_read_is_refused_unread(tmp_path, ending):
    with pytest.raises(UserError, match=r"write a function that loads it .*FILE\.py:FUNCTION"):
        model_of(str(tmp_path / f"weights.{ending}"))


def test_an_exported_program_is_loaded_only_where_it_is_trusted(tmp_path):
    path, net = tmp_path / "net.pt2", smooth_net()
    images = torch.rand(5, 1, 5, 5)
    torch.export.save(torch.export.export(net, (images[:2],)), path)
    with pytest.raises(UserError, match="net.pt2 is not read: .* can run any code; add --trust"):
        model_of(str(path))
    model = model_of(str(path), trust=True)
    assert torch.allclose(model(images), net(images), atol=1e-6)
    both = spread(lambda x, m: m(x).detach(), [(images[:2], model), (images[2:], model)], 2)
    assert torch.equal(torch.cat(both), model(images).detach())


def test_what_is_no_exported_program(tmp_path):
    with pytest.raises(UserError, match="there is no exported program"):
        model_of(str(tmp_path / "absent.pt2"), trust=True)
    (tmp_path / "broken.pt2").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match="broken.pt2 does not load as an exported program") as error:
        model_of(str(tmp_path / "broken.pt2"), trust=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{}", "names no model; known: FILE.py:FUNCTION"),
        ("{}:", "names no model"),
        ("{}:not a name", "names no model"),
        ("{}:absent", "has no absent; it has Net, make"),
        ("{}:fails", "fails: RuntimeError: no weights here"),
        ("{}:needs", "called without arguments.*TypeError"),
        ("{}:stops", "fails: SystemExit"),
        ("{}:nothing", "returns a NoneType, no model"),
        ("{}:number", "is a int, no function"),
        ("/nowhere/at_all.py:make", "cannot read /nowhere/at_all.py"),
        ("no.such.module:make", "the module no.such.module does not load: ModuleNotFoundError"),
        ("resnet18", "names no model"),
    ],
)
def test_what_is_no_model(mine, source, said):
    with pytest.raises(UserError, match=said) as error:
        model_of(source.format(mine))
    assert "\n" not in str(error.value)


def test_a_file_that_does_not_load(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken.py").write_text("def make(:\n")
    with pytest.raises(UserError, match="broken.py does not load: SyntaxError"):
        model_of(f"{tmp_path / 'broken.py'}:make")
