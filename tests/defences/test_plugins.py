"""Defences and networks of one's own: the examples of the documentation, and every mistake."""

import functools
import importlib.util
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldatlib.data import load_dataset
from ldatlib.defences import (
    PGD,
    TITLES,
    TRADES,
    Adversary,
    Defence,
    accuracy,
    defence_names,
    make_defence,
    register_defence,
    unregister_defence,
)
from ldatlib.errors import UserError
from ldatlib.models import (
    ARCHITECTURES,
    NetworkConfig,
    build_network,
    network_names,
    register_network,
    unregister_network,
)
from ldatlib.training.checkpoint import load_model
from ldatlib.training.config import TrainConfig
from ldatlib.training.trainer import train

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
BUDGETS = {"eps_linf": 0.1, "eps_l2": 0.5, "radius": 1.5, "num_steps": 2}


@pytest.fixture(autouse=True)
def registries_as_before():
    defences, networks = defence_names(), network_names()
    yield
    for name in set(defence_names()) - set(defences):
        unregister_defence(name)
    for name in set(network_names()) - set(networks):
        unregister_network(name)
    assert (defence_names(), network_names()) == (defences, networks)


def load(path):
    """A file loaded as a module under a name of its own, each time anew."""
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def plain(budgets):
    return {"adversary": budgets.pgd_linf()}


@dataclass(frozen=True)
class Complete(Defence):
    """What the broken ones below are made from."""

    passes = 3

    def loss(self, model, x, x_adv, y, *, progress, teacher=None):
        return F.cross_entropy(model(x_adv), y), {}


# Examples


@pytest.mark.parametrize("name", ["label_smoothing", "tiny_cnn"])
def test_an_example_is_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 30


def test_a_plugin_trains_end_to_end(tmp_path):
    load(EXAMPLES / "label_smoothing.py")
    load(EXAMPLES / "tiny_cnn.py")
    assert TITLES["label_smoothing"] == "PGD-AT, smoothed labels"
    digits = load_dataset("digits").subset(range(10), train_size=96)
    defence = make_defence("label_smoothing", smoothing=0.2, **BUDGETS)
    network = NetworkConfig(10, in_channels=1, width=4, architecture="tiny_cnn")
    config = TrainConfig(defence, network, epochs=2, batch_size=32, flip=False, val_steps=2)
    result = train(config, digits, tmp_path / "net.safetensors", on_epoch=lambda line: None)
    assert math.isfinite(result.log[-1]["loss"]) and "adversarial_accuracy" in result.log[-1]
    loaded = load_model(result.last)
    assert loaded.header["config"]["defence"]["smoothing"] == 0.2
    assert loaded(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    # Without the plug-in the file says what it needs.
    unregister_network("tiny_cnn")
    with pytest.raises(UserError, match=f"{result.last} .*'tiny_cnn'.*plug-in"):
        load_model(result.last)
    backbone = loaded.backbone
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(load_model(result.last, backbone)(x), loaded(x))


def test_the_smoothed_loss_is_its_formula():
    load(EXAMPLES / "label_smoothing.py")
    defence = make_defence("label_smoothing", **BUDGETS)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, y = torch.rand(5, 1, 2, 2), torch.ones(5, dtype=torch.long)
    found, parts = defence.loss(model, None, x, y, progress=1.0)
    log_p = model(x).log_softmax(1)
    expected = -(0.9 * log_p[:, 1] + 0.1 * log_p.mean(1)).mean()
    torch.testing.assert_close(found, expected)
    assert parts["adversarial_accuracy"] == accuracy(model(x), y)
    with pytest.raises(UserError, match="label_smoothing: smoothing must lie between 0 and 1"):
        make_defence("label_smoothing", smoothing=1.5, **BUDGETS)


# Loaded twice


def test_the_same_file_twice_is_harmless(tmp_path):
    before = defence_names(), network_names()
    for _ in range(2):
        for name in ("label_smoothing", "tiny_cnn"):
            load(EXAMPLES / f"{name}.py")
    assert set(defence_names()) - set(before[0]) == {"label_smoothing"}
    assert set(network_names()) - set(before[1]) == {"tiny_cnn"}
    copy = tmp_path / "elsewhere.py"
    copy.write_bytes((EXAMPLES / "label_smoothing.py").read_bytes())
    load(copy)


@pytest.mark.parametrize("name", ["label_smoothing", "tiny_cnn"])
def test_a_changed_file_is_another_plugin(name, tmp_path):
    path = tmp_path / "plugin.py"
    path.write_text((EXAMPLES / f"{name}.py").read_text())
    load(path)
    path.write_text(path.read_text() + "\nVERSION = 2\n")
    with pytest.raises(UserError, match=f"another .* '{name}'; choose another name"):
        load(path)


# Registration


@pytest.mark.parametrize("name", ["trades", "ldat"])
def test_a_name_that_is_taken(name):
    with pytest.raises(UserError, match=f"another defence '{name}'"):
        register_defence(name, "Mine", plain)(Complete)
    with pytest.raises(UserError, match="another architecture 'resnet'"):
        register_network("resnet", nn.Module)


BAD_NAMES = ["", "Mine", "my-defence", "my defence", "../mine", "1st", "a" * 41, None, 3, ["x"]]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_goes_into_file_names(name):
    with pytest.raises(UserError, match="is no defence name: .*lower-case letters"):
        register_defence(name, "Mine", plain)(Complete)
    with pytest.raises(UserError, match="is no architecture name: "):
        register_network(name, nn.Module)


@pytest.mark.parametrize("title", ["", "  ", "two\nlines", None, "TRADES"])
def test_a_title_is_one_line_of_its_own(title):
    with pytest.raises(UserError, match="mine: .*title"):
        register_defence("mine", title, plain)(Complete)


def broken(**members):
    return dataclass(frozen=True)(type("Broken", (Complete,), members))


@dataclass(frozen=True)
class WithoutLoss(Defence):
    passes = 3


@dataclass(frozen=True)
class WithoutPasses(Defence):
    loss = Complete.loss


def undecorated(defence):
    return type("Undecorated", (defence,), {"__annotations__": {"extra": float}, "extra": 1.0})


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (WithoutLoss, "WithoutLoss has no method loss"),
        (WithoutPasses, "passes must be the cost .*None"),
        (broken(passes="three"), "passes must be the cost .*'three'"),
        (broken(passes=0), "passes must be the cost .*0"),
        (broken(passes=property(lambda self: -1.0)), "passes must be the cost .*-1"),
        (broken(loss=lambda self, model, x, y: None), r"loss must take \(model, x, x_adv, y"),
        (broken(head="cosine"), "head 'cosine' is not one of linear, gmm"),
        (undecorated(Complete), "Undecorated must be a frozen dataclass"),
        (undecorated(TRADES), "Undecorated must be a frozen dataclass"),
        (nn.Linear, "is no class derived from ldatlib.Defence"),
        (lambda: None, "is no class derived from ldatlib.Defence"),
    ],
)
def test_a_class_that_lacks_something(cls, says):
    with pytest.raises(UserError, match=f"^mine: .*{says}"):
        register_defence("mine", "Mine", plain)(cls)
    assert "mine" not in defence_names() and "mine" not in TITLES


@dataclass(frozen=True)
class WithSetting(Complete):
    kept: object = 1.0


class Costless(PGD):
    passes = -1.0


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (None, "build fails .*not callable"),
        (lambda budgets: None, "build fails .*budgets.pgd_linf"),
        (lambda budgets: {}, "adversary must be an Adversary, such as PGD, not None"),
        (lambda budgets: {"adversary": "pgd"}, "adversary must be an Adversary.*'pgd'"),
        (lambda budgets: {**plain(budgets), "smooth": 1}, "build sets 'smooth'; known: adversary"),
        (lambda budgets: {"adversary": PGD("l1", 1, 1)}, "norm 'l1' is not one of linf, l2"),
        (lambda budgets: {"adversary": PGD("l2", budgets.eps, 1)}, "build fails .*eps"),
        (lambda budgets: {**plain(budgets), "kept": object()}, "settings go into records"),
        (lambda budgets: {**plain(budgets), "kept": math.nan}, "settings go into records"),
        (lambda budgets: {"adversary": Costless("l2", 1, 1)}, "adversary's passes"),
        (lambda budgets: {"adversary": Adversary()}, "build fails .*abstract"),
    ],
)
def test_a_build_that_does_not_fit(build, says):
    with pytest.raises(UserError, match=f"^mine: .*{says}"):
        register_defence("mine", "Mine", build)(WithSetting)
    assert "mine" not in defence_names()


def test_a_field_without_a_value():
    @dataclass(frozen=True)
    class Needs(Complete):
        strength: float

    with pytest.raises(UserError, match="mine: .*strength"):
        register_defence("mine", "Mine", plain)(Needs)
    register_defence("mine", "Mine", lambda budgets: {**plain(budgets), "strength": 2.0})(Needs)
    assert make_defence("mine", **BUDGETS).strength == 2


def test_a_class_may_have_several_names_and_be_unregistered():
    wide = functools.partial(lambda factor, b: {"adversary": b.pgd_l2(factor * b.eps_l2)}, 3)
    assert register_defence("wide", "Wide", wide)(TRADES) is TRADES
    made = make_defence("wide", beta=2.0, **BUDGETS)
    assert (made.adversary.eps, made.beta, made.owner) == (1.5, 2.0, "wide")
    assert defence_names()[-1] == "wide"
    unregister_defence("wide")
    with pytest.raises(UserError, match="unknown defence 'wide'"):
        make_defence("wide", **BUDGETS)
    with pytest.raises(UserError, match="unknown defence 'wide'"):
        unregister_defence("wide")


# Networks


def test_a_network_of_ones_own_is_built_by_name():
    load(EXAMPLES / "tiny_cnn.py")
    assert network_names()[:3] == ("preact_resnet", "wide_resnet", "resnet")
    assert "tiny_cnn" in ARCHITECTURES
    config = NetworkConfig(5, "gmm", width=8, in_channels=1, architecture="tiny_cnn")
    assert config.title.startswith("tiny_cnn, ")
    assert build_network(config).head.means.shape == (5, 32)
    assert build_network(replace(config, feature_dim=2)).head.means.shape == (5, 2)
    unregister_network("tiny_cnn")
    with pytest.raises(UserError, match="unknown architecture 'tiny_cnn'; known: preact_resnet"):
        build_network(config)


class Module(nn.Module):
    def __init__(self, feature_dim=None):
        super().__init__()
        self.feature_dim = feature_dim


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda config: nn.Linear(4, 4), "mine: .*feature_dim, not Linear with None"),
        (lambda config: Module(4.5), "mine: .*feature_dim, not Module with 4.5"),
        (lambda config: Module(0), "mine: .*feature_dim, not Module with 0"),
        (lambda config: None, "mine: .*not NoneType"),
        (lambda config: Module(4), "mine: its build ignores feature_dim; 2 features"),
    ],
)
def test_a_backbone_that_is_none(build, says):
    register_network("mine", build)
    with pytest.raises(UserError, match=says):
        build_network(NetworkConfig(3, architecture="mine", feature_dim=2))


def test_a_build_that_cannot_be_called():
    with pytest.raises(UserError, match="mine: build must be a function"):
        register_network("mine", nn.Linear(2, 2).weight)
