"""A model by one text: functions of files and modules, checkpoints of ours, and no pickles."""

import sys

import pytest
import torch
from helpers import smooth_net
from torch import nn

from ldatlib import UserError
from ldatlib.evaluation.side_by_side import spread
from ldatlib.files import save_tensors
from ldatlib.study import sources
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


LAZY = """
from torch import nn

def make():
    from same_name import CLASSES
    return nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))

def late():
    net = make()
    def run(x):
        import same_name
        return net(x)[:, : same_name.CLASSES]
    return run
"""
EAGER = """
from torch import nn
import same_name

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, same_name.CLASSES)

    def forward(self, x):
        return self.last(x.flatten(1))[:, : same_name.CLASSES]

def make():
    return Net()
"""


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two folders with the same names, each a file and a helper of its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sources, "_HELPERS", {})
    for name, classes in (("one", 3), ("other", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same_name.py").write_text(f"CLASSES = {classes}\n")
        (tmp_path / name / "eager.py").write_text(EAGER)
        (tmp_path / name / "lazy.py").write_text(LAZY)
    yield tmp_path / "one", tmp_path / "other"
    sys.modules.pop("same_name", None)


@pytest.mark.parametrize("file", ["eager", "lazy"])
def test_each_file_has_the_helpers_beside_it(two, file):
    images = torch.zeros(2, 1, 8, 8)
    models = [model_of(f"{folder}/{file}.py:make") for folder in (*two, *two)]
    assert [model(images).shape[1] for model in models] == [3, 5, 3, 5]


def test_other_processes_get_the_helpers_of_each_file(two):
    images = torch.zeros(2, 1, 8, 8)
    models = [model_of(f"{folder}/eager.py:make") for folder in two]
    found = spread(lambda net: net(images).detach(), [(model,) for model in models], 2)
    assert [one.shape[1] for one in found] == [3, 5]


def test_a_file_does_not_find_what_lies_beside_another(two):
    one, other = two
    model_of(f"{one}/eager.py:make")
    (other / "same_name.py").unlink()
    with pytest.raises(UserError, match="No module named 'same_name'"):
        model_of(f"{other}/eager.py:make")


def test_an_import_while_a_model_runs_is_never_of_another_folder(two):
    """Of one folder alone it is found; of two it fails, as either might be meant."""
    images = torch.zeros(2, 1, 8, 8)
    late = model_of(f"{two[0]}/lazy.py:late")
    assert late(images).shape[1] == 3
    model_of(f"{two[1]}/eager.py:make")
    with pytest.raises(ImportError, match="same_name"):
        late(images)


def test_a_module_of_this_folder_and_a_file_of_another(two, monkeypatch):
    monkeypatch.chdir(two[0])
    images = torch.zeros(2, 1, 8, 8)
    models = [model_of("eager:make"), model_of(f"{two[1]}/eager.py:make")]
    assert [model(images).shape[1] for model in models] == [3, 5]
    sys.modules.pop("eager", None)


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
