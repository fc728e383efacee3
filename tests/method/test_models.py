"""The networks: shapes, sizes, normalisation, and the head on somebody else's backbone."""

import os
import subprocess
import sys

import pytest
import torch
import torchvision
from tiny import PROJECT
from torch.utils.flop_counter import FlopCounterMode

from ldatlib import Classifier, GaussianMixtureHead, boundary_attack
from ldatlib.errors import UserError
from ldatlib.execution import place
from ldatlib.models import NetworkConfig, PreActBlock, PreActResNet, build_network

# PreActResNet18 of github.com/kuangliu/pytorch-cifar, which has no batch norm before the pooling.
PUBLISHED_PARAMETERS = 11_171_146
LAST_BATCH_NORM = 2 * 512


@pytest.fixture(scope="module")
def preact_resnet18():
    return build_network(NetworkConfig(num_classes=10)).eval()


def test_parameters_of_preact_resnet18(preact_resnet18):
    count = sum(parameter.numel() for parameter in preact_resnet18.parameters())
    assert count == PUBLISHED_PARAMETERS + LAST_BATCH_NORM


def test_operations_of_preact_resnet18(preact_resnet18):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        preact_resnet18(torch.rand(1, 3, 32, 32))
    multiply_adds = counter.get_total_flops() / 2
    assert multiply_adds == pytest.approx(0.56e9, rel=0.01)


# Published: WRN-28-10 36.5 million parameters (Zagoruyko & Komodakis 2016, Table 5, with 10 and
# 100 classes); ResNet-50 with the stem for CIFAR, as in github.com/kuangliu/pytorch-cifar.
LARGE = {
    "WRN-28-10": (dict(architecture="wide_resnet", depth=28, width=160, stages=3), 10, 36_479_194),
    "WRN-28-10, 100": (
        dict(architecture="wide_resnet", depth=28, width=160, stages=3),
        100,
        36_536_884,
    ),
    "WRN-16-4": (dict(architecture="wide_resnet", depth=16, width=64, stages=3), 10, 2_748_890),
    "ResNet-50": (dict(architecture="resnet", depth=50), 10, 23_520_842),
    "ResNet-18": (dict(architecture="resnet", depth=18), 10, 11_173_962),
}
# Multiply-adds of one forward pass of a 32x32 image.
OPERATIONS = {"WRN-28-10": 5.24e9, "ResNet-50": 1.30e9, "ResNet-18": 0.56e9}


@pytest.mark.parametrize("name", LARGE)
def test_parameters_and_operations_of_the_published_networks(name):
    settings, classes, parameters = LARGE[name]
    config = NetworkConfig(num_classes=classes, **settings)
    with torch.device("meta"):
        network = build_network(config).eval()
    assert config.title == name.split(",")[0]
    assert sum(p.numel() for p in network.parameters()) == parameters
    if name in OPERATIONS:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.rand(1, 3, 32, 32, device="meta"))
        assert counter.get_total_flops() / 2 == pytest.approx(OPERATIONS[name], rel=0.01)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (dict(architecture="wide_resnet", depth=27, stages=3), "depth 6n"),
        (dict(architecture="wide_resnet", depth=28, stages=4), "3 stages"),
        (dict(architecture="resnet", depth=20), "a ResNet has depth 18, 34"),
        (dict(architecture="resnet", depth=50, width=32), "width 64"),
        (dict(architecture="vgg"), "known: preact_resnet, wide_resnet, resnet"),
    ],
)
def test_networks_that_do_not_exist(settings, says):
    with pytest.raises(UserError, match=says):
        build_network(NetworkConfig(num_classes=10, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        dict(architecture="resnet", depth=18),
        dict(architecture="wide_resnet", depth=10, width=16, stages=3),
        dict(depth=8, width=8, stages=3, stem_stride=2),
    ],
)
def test_every_kind_of_network_trains_and_can_be_drawn(settings):
    for dimension in (None, 2):
        config = NetworkConfig(
            num_classes=3, head="gmm", in_channels=1, feature_dim=dimension, **settings
        )
        network = build_network(config)
        x = torch.rand(4, 1, 16, 16)
        features = network.features(x)
        assert features.shape == (4, dimension or network.backbone.feature_dim)
        network(x).sum().backward()
        assert network.backbone.feature_dim == network.head.feature_dim


def test_a_stem_of_stride_2_takes_a_quarter_of_the_operations():
    counts = []
    for stride in (1, 2):
        with torch.device("meta"):
            network = build_network(NetworkConfig(num_classes=10, stem_stride=stride))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.rand(1, 3, 32, 32, device="meta"))
        counts.append(counter.get_total_flops())
    assert counts[0] / counts[1] == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize(
    ("depth", "width", "stages", "channels", "side", "feature_dim"),
    [(4, 4, 1, 1, 8, 4), (8, 4, 3, 3, 9, 16), (10, 2, 2, 3, 8, 4), (18, 2, 4, 1, 32, 16)],
)
def test_feature_shape(depth, width, stages, channels, side, feature_dim):
    backbone = PreActResNet(depth, width, stages, channels)
    assert backbone.feature_dim == feature_dim
    assert backbone(torch.rand(5, channels, side, side)).shape == (5, feature_dim)
    convolutions = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len([c for c in convolutions if c.kernel_size == (3, 3)]) == depth - 1


def test_every_stage_after_the_first_halves_the_image():
    backbone = PreActResNet(8, 2, 3, 1)
    assert backbone.blocks(backbone.stem(torch.rand(1, 1, 16, 16))).shape == (1, 8, 4, 4)


@pytest.mark.parametrize(("width", "stride"), [(4, 1), (8, 2), (8, 1)])
def test_shortcut_starts_before_or_after_the_activation(width, stride):
    block = PreActBlock(4, width, stride).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.normal_(block.bn1.bias)
    x = torch.randn(2, 4, 6, 6)
    if (width, stride) == (4, 1):
        assert torch.equal(block(x), x)
    else:
        torch.testing.assert_close(block(x), block.projection(block.bn1(x).relu()))


SHORTCUT_GRADIENTS = """
import torch
from ldatlib.models import PreActBlock

def gradients(module, x, upstream):
    return torch.autograd.grad(module(x), (x, module.weight), upstream)

for channels in (2, 3, 4, 7, 8):
    for side in (2, 8, 32):
        module = PreActBlock(channels, 2 * channels, 2).projection
        module.to(memory_format=torch.channels_last)
        x = torch.randn(32, channels, side, side).contiguous(memory_format=torch.channels_last)
        upstream = torch.randn(32, 2 * channels, side // 2, side // 2)
        found = gradients(module, x.requires_grad_(), upstream)
        exact = gradients(module.double(), x.detach().double().requires_grad_(), upstream.double())
        for one, other in zip(found, exact, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["AVX2", "ALL"])
def test_gradients_of_the_shortcut_are_right_on_every_processor(instructions):
    """With AVX2 and a plain strided convolution they were not: wrong, or a crash, or no end."""
    subprocess.run(
        [sys.executable, "-c", SHORTCUT_GRADIENTS],
        check=True,
        cwd=PROJECT,
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instructions},
        timeout=300,
    )


def test_features_are_not_negative_unless_projected():
    x = torch.rand(5, 1, 8, 8)
    assert PreActResNet(4, 4, 1, 1)(x).min() >= 0
    plane = PreActResNet(4, 4, 1, 1, feature_dim=2)
    assert plane.feature_dim == 2 and plane(x).shape == (5, 2)


@pytest.mark.parametrize(("depth", "stages"), [(17, 4), (2, 1), (12, 4), (9, 3)])
def test_depth_must_fit_the_stages(depth, stages):
    with pytest.raises(UserError, match=rf"{stages} stages .* not {depth}"):
        PreActResNet(depth, 4, stages)


@pytest.mark.parametrize(("head", "parameter"), [("linear", "weight"), ("gmm", "means")])
def test_heads(head, parameter):
    model = build_network(NetworkConfig(7, head, 4, 4, 1, 1))
    assert model(torch.rand(3, 1, 8, 8)).shape == (3, 7)
    assert getattr(model.head, parameter).shape == (7, 4)


def test_unknown_head():
    with pytest.raises(UserError, match="'cosine'.*linear, gmm"):
        build_network(NetworkConfig(10, "cosine"))


def test_normalisation_is_inside():
    mean, std = [0.2, 0.5, 0.7], [0.1, 0.3, 0.2]
    config = NetworkConfig(10, depth=4, width=4, stages=1)
    model = build_network(config, mean, std).eval()
    x = torch.rand(2, 3, 8, 8)
    normalised = torchvision.transforms.functional.normalize(x, mean, std)
    torch.testing.assert_close(model.features(x), model.backbone(normalised))
    torch.testing.assert_close(model(x), model.head(model.backbone(normalised)))
    assert {"mean", "std"} <= model.state_dict().keys()


def test_shifted_statistics_undo_a_shift_of_the_pixels():
    model = build_network(NetworkConfig(10, depth=4, width=4, stages=1), [0.5], [0.25]).eval()
    x = torch.rand(2, 3, 8, 8)
    before = model(x)
    model.mean += 0.1
    model.std *= 2
    torch.testing.assert_close(model(2 * x - 0.4), before, rtol=1e-4, atol=1e-5)


def test_place_changes_the_layout_alone():
    model = build_network(NetworkConfig(10, depth=4, width=4, stages=1)).eval()
    x = torch.rand(2, 3, 8, 8)
    before = model(x)
    placed = place(model, "cpu")
    assert placed.backbone.stem.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(placed(x), before)


def test_own_backbone_with_the_head_trains_and_is_attacked():
    net = torchvision.models.resnet18(weights=None)
    net.fc = torch.nn.Identity()
    model = Classifier(net, GaussianMixtureHead(512, 10))

    x, y = torch.rand(4, 3, 32, 32), torch.arange(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.head.means.clone()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    assert loss.isfinite() and not torch.equal(model.head.means, before)

    x_adv = boundary_attack(model, x, y, num_steps=2, radius=0.5)
    norms = (x_adv - x).flatten(1).norm(dim=1)
    assert x_adv.shape == x.shape and norms.gt(0).all() and norms.le(0.5 + 1e-5).all()
    assert model.training
