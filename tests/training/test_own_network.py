"""A network of one's own: trained with the same bits, or refused before the first step."""

import copy
import json
import pathlib
import re
import threading
import time
from dataclasses import replace

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from ldatlib.data import Dataset
from ldatlib.defences import Natural, make_defence
from ldatlib.errors import OutOfTime, UserError
from ldatlib.execution import bare, place
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import Classifier, NetworkConfig, register_network, unregister_network
from ldatlib.training.checkpoint import load_model
from ldatlib.training.config import Storage, TrainConfig
from ldatlib.training.trainer import train

CLASSES = 3


@pytest.fixture(scope="module")
def data():
    """24 training images of 6x6 in three classes."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(48, 1, 6, 6, generator=draw)
    y = torch.arange(48) % CLASSES
    return Dataset.from_arrays(x[:36], y[:36], x[36:], y[36:], val_size=12)


def silent(line):
    pass


def config(name="natural", **options):
    defence = make_defence(name, eps_linf=0.1, eps_l2=0.5, radius=1.0, num_steps=1)
    small = {"batch_size": 8, "padding": 0, "val_steps": 1, "val_limit": 6, "val_eps": 0.1}
    return TrainConfig(defence, None, **{"epochs": 1, "lr": 0.05} | small | options)


def run(model, data, folder, name="natural", settings=None, **options):
    settings = settings or config(name)
    options = {"on_epoch": silent, "device": "cpu"} | options
    return train(settings, data, folder / "net.safetensors", model=model, **options)


def backbone(*extra, width=6):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), *extra
    )


FEATURES = 6 * 2 * 2


def classifier(*extra, head=None, features=None):
    torch.manual_seed(5)
    return Classifier(features or backbone(*extra), head or nn.Linear(FEATURES, CLASSES))


def bits(path):
    return {name: value.numpy().tobytes() for name, value in load_file(path).items()}


def refused(model, data, folder, name="natural", **options):
    """What is said of it; nothing is trained and no weights are left."""
    with pytest.raises(UserError) as caught:
        run(model, data, folder, name, **options)
    assert not list(folder.glob("*.safetensors")) and not list(folder.glob("*.jsonl"))
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


# What a network draws by itself


class Noisy(nn.Module):
    """Draws in eval mode, too."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), Noisy()], ids=["dropout", "noise"])
@pytest.mark.parametrize(("name", "options"), [("natural", {}), ("lbgat", {"ema_decay": 0.9})])
def test_same_seed_same_bits_whatever_the_caller_draws(layer, name, options, data, tmp_path):
    found = []
    for seed, outside in ((0, 1), (0, 2), (1, 1)):
        model = classifier(layer)
        torch.manual_seed(outside)
        state = torch.get_rng_state()
        settings = config(name, seed=seed, epochs=2, **options)
        result = run(model, data, tmp_path / f"{seed}{outside}", settings=settings)
        assert torch.equal(torch.get_rng_state(), state), "the caller's random state has moved"
        found.append(bits(result.last))
    assert found[0] == found[1] and found[0] != found[2]


def test_a_callback_has_the_random_state_of_the_caller(data, tmp_path):
    model = classifier(nn.Dropout())
    torch.manual_seed(3)
    expected, drawn = torch.rand(2).tolist(), []
    torch.manual_seed(3)
    run(
        model,
        data,
        tmp_path,
        settings=config(epochs=2),
        on_epoch=lambda line: drawn.append(torch.rand(1).item()),
    )
    assert drawn == expected


@pytest.mark.parametrize("name", ["natural", "lbgat"])
def test_stopped_after_every_step_dropout_ends_with_the_same_bits(name, data, tmp_path):
    settings = config(name, epochs=2)
    whole = run(classifier(nn.Dropout()), data, tmp_path / "whole", settings=settings)
    stops = 0
    while True:
        torch.manual_seed(100 + stops)
        try:
            parts = run(
                classifier(nn.Dropout()), data, tmp_path / "parts", settings=settings, deadline=0.0
            )
            break
        except OutOfTime:
            stops += 1
    assert stops == 5
    assert bits(parts.last) == bits(whole.last) and bits(parts.best) == bits(whole.best)


def test_how_often_it_is_validated_changes_no_dropout(data, tmp_path):
    found = []
    for every in (1, 3):
        settings = config(epochs=3, val_every=every)
        model = classifier(nn.Dropout(), Noisy())
        found.append(bits(run(model, data, tmp_path / str(every), settings=settings).last))
    assert found[0] == found[1]


def test_a_state_without_global_generators_is_gone_on_from(data, tmp_path):
    """An earlier version did not save them."""
    from ldatlib.files import load_tensors, save_tensors

    settings = config(epochs=2)
    whole = run(classifier(), data, tmp_path / "whole", settings=settings)
    with pytest.raises(OutOfTime):
        run(classifier(), data, tmp_path, settings=settings, deadline=0.0)
    state = tmp_path / "net.state.safetensors"
    tensors, header = load_tensors(state)
    assert tensors.pop("random/cpu").dtype == torch.uint8
    save_tensors(state, tensors, header)
    assert bits(run(classifier(), data, tmp_path, settings=settings).last) == bits(whole.last)


# Wrappers


def compiled(model):
    return torch.compile(model, backend="eager")


def compiled_in_place(model):
    model.backbone.compile(backend="eager")
    return model


def parts_wrapped(model):
    model.backbone[0] = nn.DataParallel(compiled(model.backbone[0]))
    model.backbone = compiled(model.backbone)
    model.head = compiled(model.head)
    return model


WRAPPERS = [compiled, compiled_in_place, parts_wrapped, nn.DataParallel]
WRAPPERS += [torch.optim.swa_utils.AveragedModel]


@pytest.mark.slow
@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("name", ["natural", "lbgat"])
def test_wrappers_change_nothing(wrap, name, data, tmp_path):
    plain = run(classifier(), data, tmp_path / "plain", settings=config(name, ema_decay=0.5))
    model = wrap(classifier())
    found = run(model, data, tmp_path / "wrapped", settings=config(name, ema_decay=0.5))
    assert bits(found.last) == bits(plain.last)
    x, _ = data.split("test")
    loaded = load_model(found.last, compiled(backbone()))
    assert torch.equal(loaded(x), load_model(plain.last, backbone())(x))


def test_a_wrapped_head_is_still_a_mixture(data, tmp_path):
    def mixture():
        torch.manual_seed(6)
        return classifier(head=GaussianMixtureHead(FEATURES, CLASSES))

    plain = run(mixture(), data, tmp_path / "plain", "ldat")
    model = mixture()
    model.head = compiled(model.head)
    found = run(model, data, tmp_path / "wrapped", "ldat")
    assert bits(found.last) == bits(plain.last) and "regularizer_natural" in found.log[0]


def test_a_compiled_network_is_said_to_be_trained_without(data, tmp_path, capsys):
    run(compiled(classifier()), data, tmp_path)
    assert "net.safetensors: the model's torch.compile is taken off" in capsys.readouterr().err


def test_bare_is_the_same_object_where_nothing_is_wrapped():
    model = classifier()
    parts = list(model.modules())
    assert bare(model) is model and all(map(lambda a, b: a is b, parts, model.modules()))


class Empty(Classifier):
    """Of no length, as a container of no layers is."""

    def __len__(self):
        return 0


class Doubtful(Classifier):
    def __bool__(self):
        raise RuntimeError("has no truth value")


@pytest.mark.parametrize("kind", [Empty, Doubtful])
@pytest.mark.parametrize("name", ["natural", "lbgat"])
def test_nobody_asks_a_network_for_its_truth_value(kind, name, data, tmp_path):
    torch.manual_seed(5)
    model = kind(backbone(), nn.Linear(FEATURES, CLASSES))
    before = copy.deepcopy(model.state_dict())
    settings = config(name, ema_decay=0.5)
    result = run(model, data, tmp_path / "own", settings=settings)
    plain = run(classifier(), data, tmp_path / "plain", settings=settings)
    assert bits(result.last) == bits(plain.last)
    assert not torch.equal(model.head.weight, before["head.weight"])


# Heads


def mlp():
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, CLASSES))


class Cosine(nn.Module):
    """Has the weights of a linear head without bias, and is none."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, FEATURES))

    def forward(self, features):
        return 5 * nn.functional.linear(
            nn.functional.normalize(features), nn.functional.normalize(self.weight)
        )


@pytest.mark.parametrize(
    ("head", "own"),
    [
        (lambda: nn.Linear(FEATURES, CLASSES, bias=False), False),
        (lambda: nn.Linear(FEATURES, CLASSES), False),
        (lambda: nn.LazyLinear(CLASSES), False),
        (lambda: GaussianMixtureHead(FEATURES, CLASSES), False),
        (mlp, True),
        (Cosine, True),
    ],
    ids=["no bias", "linear", "lazy", "mixture", "mlp", "cosine"],
)
def test_every_head_is_read_back(head, own, data, tmp_path):
    model = classifier(head=head())
    result = run(model, data, tmp_path)
    if own:
        with pytest.raises(UserError, match=r"with a head of your own: pass head=\.\.\., too$"):
            load_model(result.last, backbone())
    loaded = load_model(result.last, backbone(), head() if own else None)
    x, _ = data.split("test")
    assert torch.equal(place(loaded, "cpu")(x), model.eval()(x))


def test_a_head_goes_with_a_backbone(data, tmp_path):
    path = run(classifier(head=mlp()), data, tmp_path).last
    with pytest.raises(UserError, match="pass both"):
        load_model(path, head=mlp())
    with pytest.raises(UserError, match="backbone must be a torch module, not type"):
        load_model(path, nn.Linear)
    with pytest.raises(UserError, match="of another network: .*head"):
        load_model(path, backbone(), nn.Linear(FEATURES, CLASSES))


def test_a_mixture_is_not_trained_without_its_head(data, tmp_path):
    text = refused(classifier(), data, tmp_path, "ldat")
    assert "has a Linear for its head" in text and "ldatlib.GaussianMixtureHead(D, 3)" in text


class Scaled(Classifier):
    """Its features are not those of its backbone."""

    def features(self, x):
        return 2 * super().features(x)


class WithMore(Classifier):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.more = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Scaled, "other logits once it is loaded"), (WithMore, "could not be loaded .*more.weight")],
)
def test_what_a_subclass_adds_is_not_lost_in_silence(kind, said, data, tmp_path):
    text = refused(kind(backbone(), nn.Linear(FEATURES, CLASSES)), data, tmp_path)
    assert re.search(said, text) and "into the backbone or the head" in text


# Refused before the first step


class Returns(nn.Module):
    """A backbone that makes something else of its features."""

    def __init__(self, change, training=None):
        super().__init__()
        self.layers, self.change, self.mode = backbone(), change, training

    def forward(self, x):
        features = self.layers(x)
        return self.change(features) if self.mode in (None, self.training) else features


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"scale": 2}

    def set_extra_state(self, state):
        pass


class TensorExtra(nn.Linear):
    def get_extra_state(self):
        return torch.tensor([2.0])

    def set_extra_state(self, state):
        pass


def frozen_classifier():
    return classifier().requires_grad_(False)


def of_nan():
    model = classifier()
    with torch.no_grad():
        model.backbone[0].weight[0, 0, 0, 0] = torch.nan
    return model


def half_double():
    model = classifier()
    model.backbone.double()
    return model


def without_statistics():
    return classifier(nn.BatchNorm1d(FEATURES, track_running_stats=False))


def root_of_nothing(features):
    return (features - features).abs().sqrt()


def detached(features):
    return features.detach()


def in_pixels():
    return Classifier(backbone(), nn.Linear(FEATURES, CLASSES), (0.5,), (0.0,))


def returns(change, training=None):
    return lambda: classifier(features=Returns(change, training))


def resnet():
    return torchvision.models.resnet18(num_classes=CLASSES)


def resnet_as_backbone():
    net = torchvision.models.resnet18()
    net.conv1 = nn.Conv2d(1, 64, 3)
    return Classifier(net, nn.Linear(512, CLASSES))


REFUSED = {
    "plain resnet": (resnet, "must be a ldatlib.Classifier, not ResNet: replace the last layer"),
    "compiled resnet": (lambda: compiled(resnet()), "not ResNet"),
    "class": (lambda: Classifier, "not the class Classifier"),
    "function": (lambda: lambda x: x, "not function"),
    "resnet with its layer": (resnet_as_backbone, r"head that does not take features \[2, 1000\]"),
    "float64": (lambda: classifier().double(), r"in float64: .*model.float\(\)"),
    "float64 backbone": (half_double, r"backbone.0.weight in float64: .*model.float\(\)"),
    "float16": (lambda: classifier().half(), r"in float16: .*model.float\(\)"),
    "bfloat16": (lambda: classifier().bfloat16(), r"in bfloat16: .*precision='bfloat16'"),
    "meta": (lambda: classifier().to("meta"), "cannot be used on this device: NotImpl"),
    "nothing to train": (frozen_classifier, "has no parameter to train"),
    "no parameters": (
        lambda: Classifier(nn.Flatten(), nn.Linear(36, CLASSES).requires_grad_(False)),
        "has no parameter to train",
    ),
    "NaN weights": (of_nan, "NaN or infinity in backbone.0.weight"),
    "std of 0": (in_pixels, "NaN or infinity on the first training images; look at the std"),
    "NaN features": (returns(lambda f: f / 0), "features of NaN or infinity"),
    "NaN gradient": (returns(root_of_nothing), "gradient of NaN or infinity"),
    "outputs": (
        lambda: classifier(head=nn.Linear(FEATURES, 10)),
        r"logits of shape \[2, 10\] for 2 images of 3 classes .* give its head 3 outputs",
    ),
    "tuple": (returns(lambda f: (f, f)), "backbone that returns a tuple; it must return one"),
    "tuple in training": (returns(lambda f: (f, f), True), "returns a tuple; .* in train mode"),
    "dictionary": (returns(lambda f: {"f": f}), "backbone that returns a dict"),
    "maps": (
        returns(lambda f: f.view(-1, 6, 2, 2)),
        r"features of shape \[2, 6, 2, 2\] for 2 images; .*Flatten",
    ),
    "no batch": (returns(lambda f: f.mean(0)), r"features of shape \[24\] for 2 images"),
    "tuple of a head": (
        lambda: classifier(head=nn.LSTM(FEATURES, CLASSES)),
        "head that returns a tuple",
    ),
    "integers": (returns(lambda f: f.long()), "features of torch.int64; they must be floats"),
    "fails in training": (
        returns(lambda f: f.no_such(), True),
        r"fails in train mode \(float32\): AttributeError",
    ),
    "channels": (
        lambda: Classifier(nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.Flatten()), nn.Linear(24, 3)),
        r"fails in eval mode: RuntimeError: .* given images \[N, 1, 6, 6\]",
    ),
    "detached": (returns(detached), "gives no gradient to the images"),
    "batch statistics": (without_statistics, "in eval mode they depend on the batch"),
    "extra state": (
        lambda: classifier(Extra(FEATURES, FEATURES)),
        r"keeps backbone.4._extra_state in its state_dict, which is no plain tensor",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_first_step(case, data, tmp_path, monkeypatch):
    make, said = REFUSED[case]
    torch.manual_seed(5)
    model = make()
    monkeypatch.setattr(Natural, "loss", lambda *a, **k: pytest.fail("a step was taken"))
    assert re.search(said, refused(model, data, tmp_path))


def test_what_cannot_be_copied_is_refused_where_it_has_to_be(data, tmp_path):
    model = classifier()
    model.backbone.lock = threading.Lock()
    assert "copied for the teacher of lbgat" in refused(model, data, tmp_path, "lbgat")
    text = refused(model, data, tmp_path, settings=config(ema_decay=0.9))
    assert "copied for the average of ema_decay" in text
    run(model, data, tmp_path)


def test_a_batch_of_one_image_is_tried_as_one(data, tmp_path):
    model = classifier(nn.BatchNorm1d(FEATURES))
    text = refused(model, data, tmp_path, settings=config(batch_size=1))
    assert "fails in train mode (float32): ValueError: Expected more than 1 value" in text


# Trained as it is


def shared():
    """One layer at two places, and one weight in two layers."""
    twice = nn.Linear(FEATURES, FEATURES)
    tied = nn.Linear(FEATURES, FEATURES)
    tied.weight = twice.weight
    return backbone(twice, nn.ReLU(), twice, tied)


def normalised():
    return backbone(nn.LayerNorm(FEATURES), nn.Dropout(0.1))


def lazy():
    return nn.Sequential(
        nn.LazyConv2d(6, 3, 2), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(FEATURES)
    )


def with_buffers():
    """A mask of truth values and one of minus infinity."""
    net = backbone()
    net.register_buffer("mask", torch.tensor([True, False]))
    net.register_buffer("far", torch.full((2,), -torch.inf))
    return net


def with_tensor_state():
    return backbone(TensorExtra(FEATURES, FEATURES))


def half_frozen():
    net = backbone()
    net[0].requires_grad_(False)
    return net


MADE = [shared, normalised, lazy, with_buffers, with_tensor_state, half_frozen]


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("name", ["natural", "lbgat"])
def test_trained_and_read_back(make, name, data, tmp_path):
    torch.manual_seed(5)
    model = Classifier(make(), nn.Linear(FEATURES, CLASSES))
    result = run(model, data, tmp_path, settings=config(name, ema_decay=0.5, epochs=2))
    loaded = load_model(result.last, make())
    again = load_model(result.last, make())
    x, y = data.split("val", 6)
    assert torch.equal(loaded(x), again(x))
    found = (loaded(x).argmax(1) == y).float().mean().item()
    assert result.log[-1]["val_clean_accuracy"] == pytest.approx(found)


def test_lazy_weights_are_drawn_from_the_seed(data, tmp_path):
    found = []
    for number in range(2):
        model = Classifier(lazy(), nn.Linear(FEATURES, CLASSES))
        with torch.no_grad():
            model.head.weight.fill_(0.1)
            model.head.bias.zero_()
        torch.manual_seed(number)
        found.append(bits(run(model, data, tmp_path / str(number)).last))
    assert found[0] == found[1]


def test_a_trial_leaves_the_network_as_it_was(data, tmp_path):
    """Refused after both modes were tried: it has another backbone than it is read back into."""
    torch.manual_seed(5)
    model = Scaled(backbone(nn.Dropout()), nn.Linear(FEATURES, CLASSES)).train()
    model.backbone[1].eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    refused(model, data, tmp_path)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_frozen_weights_stay(data, tmp_path):
    torch.manual_seed(5)
    model = Classifier(half_frozen(), nn.Linear(FEATURES, CLASSES))
    before = copy.deepcopy(model.state_dict())
    run(model, data, tmp_path, settings=config(weight_decay=0.1))
    after = model.state_dict()
    assert torch.equal(after["backbone.0.weight"], before["backbone.0.weight"])
    assert not torch.equal(after["head.weight"], before["head.weight"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_parts_on_several_devices_are_brought_together(data, tmp_path):
    model = classifier(nn.Dropout())
    model.head.cuda()
    state = torch.cuda.get_rng_state()
    run(model, data, tmp_path, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), state)


# Networks that are known by name


@pytest.fixture
def named(request):
    """Register a build for one test."""
    register_network("mine_here", request.param)
    yield "mine_here"
    unregister_network("mine_here")


def build(net, dim=FEATURES):
    def built(config):
        made = net()
        made.feature_dim = dim
        return made

    return built


def fails(config):
    raise KeyError("width")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (build(lambda: backbone().double()), "the network mine_here holds backbone.0.weight in f"),
        (build(lambda: Returns(lambda f: (f, f), True)), "mine_here has a backbone that returns"),
        (build(backbone, 7), r"mine_here has a head that does not take features \[2, 24\]"),
        (fails, "mine_here: its build fails with KeyError: 'width'"),
        (build(nn.Identity, 36), r"mine_here has features of shape \[2, 1, 6, 6\]"),
    ],
    indirect=["named"],
)
def test_a_registered_network_is_tried_too(named, said, data, tmp_path):
    network = NetworkConfig(CLASSES, in_channels=1, architecture=named)
    settings = replace(config(), network=network)
    with pytest.raises(UserError, match=said):
        run(None, data, tmp_path, settings=settings)


@pytest.mark.parametrize("named", [build(lambda: compiled(backbone()))], indirect=True)
def test_a_registered_network_leaves_no_wrappers_in_checkpoints(named, data, tmp_path):
    settings = replace(config(), network=NetworkConfig(CLASSES, in_channels=1, architecture=named))
    result = run(None, data, tmp_path, settings=settings)
    assert not [name for name in load_file(result.last) if "_orig_mod" in name]
    x, _ = data.split("test")
    assert load_model(result.last)(x).shape == (len(x), CLASSES)


def test_other_classes_than_the_data_has_are_refused(data, tmp_path):
    settings = replace(config(), network=NetworkConfig(5, depth=4, width=2, stages=1))
    with pytest.raises(UserError, match="preact_resnet fails in eval mode"):
        run(None, data, tmp_path, settings=settings)
    network = NetworkConfig(5, depth=4, width=2, stages=1, in_channels=1)
    with pytest.raises(UserError, match="give its head 3 outputs"):
        run(None, data, tmp_path, settings=replace(settings, network=network))


# Arguments


@pytest.mark.parametrize("value", [2.5, 2.0, True, "2", None, [2], torch.tensor(2)])
@pytest.mark.parametrize(
    "name", ["epochs", "seed", "batch_size", "padding", "val_steps", "val_limit", "val_every"]
)
def test_counts_are_whole_numbers(name, value):
    with pytest.raises(UserError, match=f"{name} must be a whole number"):
        config(**{name: value})


@pytest.mark.parametrize("value", [True, "0.1", None, [0.1], 1e400, 10**400, float("nan")])
@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "ema_decay", "val_eps"])
def test_rates_are_finite_numbers(name, value):
    with pytest.raises(UserError, match=f"{name} must "):
        config(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("flip", 1, "flip must be True or False, not 1"),
        ("flip", None, "flip must be True or False"),
        ("precision", torch.float32, "precision torch.float32 is not one of float32"),
        ("precision", ["float32"], "precision .* is not one of"),
        ("seed", 2**63, "seed must be at most"),
        ("seed", -1, "seed must be a whole number of at least 0, not -1"),
        ("network", "resnet", "network must be a NetworkConfig, or None"),
        ("network", classifier(), "network must be a NetworkConfig, or None"),
    ],
)
def test_other_fields_of_a_configuration(name, value, said):
    with pytest.raises(UserError, match=said):
        replace(config(), **{name: value})


@pytest.mark.parametrize("name", ["num_classes", "depth", "width", "stages", "feature_dim"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "4", True])
def test_sizes_of_a_network_are_whole_numbers(name, value):
    with pytest.raises(UserError, match=f"{name} must be a whole number of at least 1"):
        NetworkConfig(**{"num_classes": 3, name: value})


def test_storage():
    for name, value in (("half", 1), ("half", None), ("shard_bytes", 0), ("shard_bytes", 1.5)):
        with pytest.raises(UserError, match=f"{name} must be"):
            Storage(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("config", {}, "config must be a TrainConfig"),
        ("dataset", [], "dataset must be a ldatlib.Dataset, not list"),
        ("dataset", torch.rand(4, 1, 6, 6), "dataset must be a ldatlib.Dataset, not Tensor"),
        ("checkpoint", None, "checkpoint must be a path, as text or a Path, not None"),
        ("checkpoint", "", "checkpoint must be a path"),
        ("checkpoint", b"net.safetensors", "checkpoint must be a path"),
        ("checkpoint", "a\0.safetensors", "checkpoint must be a path"),
        ("checkpoint", "net", "must be named NAME.safetensors, not net"),
        ("checkpoint", "net.pt", "must be named NAME.safetensors, not net.pt"),
        ("checkpoint", f"{'n' * 300}.safetensors", "cannot write .*name too long"),
        ("checkpoint", "/proc/none/net.safetensors", "cannot write to /proc/none: "),
        ("log_path", 3, "log_path must be a path"),
        ("log_path", "/proc/none/log.jsonl", "cannot write /proc/none/log.jsonl: "),
        ("on_epoch", "print", "on_epoch must be a function"),
        ("deadline", "soon", "deadline must be in seconds of time.time"),
        ("deadline", float("nan"), "deadline must be in seconds"),
        ("deadline", True, "deadline must be in seconds"),
        ("storage", {"half": True}, "storage must be a Storage"),
        ("device", "cuda:99", "no device 'cuda:99' here"),
        ("device", "gpu", "no device 'gpu' here"),
        ("device", "meta", "no device 'meta' here"),
        ("device", 1.5, "no device '1.5' here"),
        ("compile", "yes", "unknown compile 'yes'; known: auto, on, off"),
        ("model", None, "give either config.network or a model of your own"),
    ],
)
def test_arguments(name, value, said, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    required = {"config": config(), "dataset": data, "checkpoint": "net.safetensors"}
    options = {"model": classifier(), "device": "cpu"}
    (required if name in required else options)[name] = value
    with pytest.raises(UserError, match=said) as caught:
        train(*required.values(), **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_data_without_pixels_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="are not at hand"):
        run(classifier(), replace(data, at_hand=False), tmp_path)


@pytest.mark.parametrize(
    "taken", ["net.safetensors", "net.best.safetensors", "net.state.safetensors", "net.jsonl"]
)
def test_a_folder_in_the_way_is_found_first(taken, data, tmp_path):
    (tmp_path / taken).mkdir()
    with pytest.raises(UserError, match=f"{taken} is a folder; choose another name"):
        run(classifier(), data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [taken]


def test_a_file_for_a_folder_is_found_first(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to .*file"):
        run(classifier(), data, tmp_path / "file")
    with pytest.raises(UserError, match="cannot write .*file/log.jsonl"):
        run(classifier(), data, tmp_path, log_path=tmp_path / "file" / "log.jsonl")


def test_a_read_only_folder_is_found_first(data, tmp_path, monkeypatch):
    def touch(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "touch", touch)
    with pytest.raises(UserError, match="cannot write .*: Permission denied; .*another folder"):
        run(classifier(), data, tmp_path)


@pytest.mark.parametrize("name", ["net.safetensors", "net.best.safetensors"])
def test_a_log_does_not_overwrite_weights(name, data, tmp_path):
    with pytest.raises(UserError, match="the log would overwrite"):
        run(classifier(), data, tmp_path, log_path=tmp_path / name)


def test_paths_are_text_or_paths_from_home(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {"on_epoch": silent, "model": classifier(), "device": "cpu"}
    result = train(config(), data, "~/new/net.safetensors", log_path="~/logs/log.jsonl", **options)
    assert result.last == tmp_path / "new/net.safetensors"
    assert result.log_path == tmp_path / "logs/log.jsonl"
    assert json.loads(result.log_path.read_text())["epoch"] == 1
    assert load_model("~/new/net.safetensors", backbone()).header["epoch"] == 1


def test_a_deadline_in_the_past_is_one_step(data, tmp_path):
    for deadline in (0, time.time() - 100.0, -float("inf")):
        folder = tmp_path / str(deadline)
        with pytest.raises(OutOfTime, match="stopped in epoch 1 of 1, after step 1 of 3"):
            run(classifier(), data, folder, deadline=deadline)
