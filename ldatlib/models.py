"""Networks on [0,1] images: normalise, extract features, classify with one of two heads.

``Classifier`` joins any backbone that maps images to features with a linear or a
Gaussian-mixture head. Three kinds of backbone can be named in a configuration, beside those that
``register_network`` adds:

- ``preact_resnet``, the pre-activation residual network (He et al. 2016, "Identity mappings"):
  depth 18, width 64 and 4 stages is the paper's PreAct ResNet-18;
- ``wide_resnet`` (Zagoruyko & Komodakis 2016), the same blocks behind a narrow stem: depth 28,
  width 160 and 3 stages is WRN-28-10;
- ``resnet``, torchvision's network (He et al. 2015) with the stem for small images, a 3x3
  convolution without stride and no pooling: depth 50 is the paper's surrogate.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.registry import Registry, origin_of

HEADS = ("linear", "gmm")
_RESNET_DEPTHS = (18, 34, 50, 101, 152)
_WIDE_STEM = 16


class _Projection(nn.Conv2d):
    """A shortcut's 1x1 convolution, whose gradient is right on every processor.

    On processors with AVX2 and without AVX-512, oneDNN's weight gradient of a channels-last 1x1
    convolution with a stride and fewer than eight input channels is wrong, or crashes
    (https://github.com/uxlfoundation/oneDNN/issues/6035). Picking the pixels first avoids it.
    """

    def __init__(self, in_width: int, width: int, stride: int):
        super().__init__(in_width, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels >= 8:
            return super().forward(x)
        down, across = self.stride
        return F.conv2d(x[..., ::down, ::across], self.weight)


class PreActBlock(nn.Module):
    """BN-ReLU-conv, BN-ReLU-conv, plus the input; a projection starts from the activated input."""

    def __init__(self, in_width: int, width: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.projection = (
            _Projection(in_width, width, stride) if stride != 1 or in_width != width else None
        )

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        shortcut = x if self.projection is None else self.projection(active)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(active))))


class PreActResNet(nn.Module):
    """Backbone [N, in_channels, H, W] -> [N, D]: pooled features after the last BN-ReLU.

    ``feature_dim=None`` gives D = width * 2**(stages - 1) (512 for the paper's network); a number
    adds a linear map to that many dimensions, which is how notebook 01 makes features that can
    be drawn. ``stem_width`` is the width before the first stage, its own unless said;
    ``stem_stride=2`` halves the image at once, for a quarter of the operations.
    """

    def __init__(
        self,
        depth: int = 18,
        width: int = 64,
        stages: int = 4,
        in_channels: int = 3,
        feature_dim: int | None = None,
        stem_width: int | None = None,
        stem_stride: int = 1,
    ):
        super().__init__()
        blocks, rest = divmod(depth - 2, 2 * stages)
        if blocks < 1 or rest:
            raise UserError(
                f"a PreAct ResNet of {stages} stages has depth {2 * stages}n + 2 "
                f"({2 * stages + 2}, {4 * stages + 2}, ...), not {depth}"
            )
        channels = stem_width or width
        self.stem = nn.Conv2d(in_channels, channels, 3, stem_stride, 1, bias=False)
        layers = []
        for stage in range(stages):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(PreActBlock(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(channels)
        self.project = nn.Identity() if feature_dim is None else nn.Linear(channels, feature_dim)
        self.feature_dim = channels if feature_dim is None else feature_dim
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.project(F.relu(self.bn(self.blocks(self.stem(x)))).mean((2, 3)))


def _wide_resnet(config: "NetworkConfig") -> nn.Module:
    """Depth 6n + 4 by its authors' count: they count the projections of the three stages too."""
    if config.depth < 10 or (config.depth - 4) % 6 or config.stages != 3:
        raise UserError(
            "a wide ResNet has 3 stages and depth 6n + 4 (10, 16, 22, 28, ...), not "
            f"{config.stages} stages and depth {config.depth}"
        )
    return PreActResNet(
        config.depth - 2,
        config.width,
        3,
        config.in_channels,
        config.feature_dim,
        stem_width=_WIDE_STEM,
        stem_stride=config.stem_stride,
    )


def _resnet(config: "NetworkConfig") -> nn.Module:
    if config.depth not in _RESNET_DEPTHS or (config.width, config.stages) != (64, 4):
        raise UserError(
            f"a ResNet has depth {', '.join(map(str, _RESNET_DEPTHS))}, width 64 and 4 stages, not "
            f"depth {config.depth}, width {config.width} and {config.stages} stages"
        )
    import torchvision

    backbone = getattr(torchvision.models, f"resnet{config.depth}")()
    backbone.conv1 = nn.Conv2d(config.in_channels, 64, 3, config.stem_stride, 1, bias=False)
    nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
    backbone.maxpool = nn.Identity()
    channels = backbone.fc.in_features
    dim = config.feature_dim
    backbone.fc = nn.Identity() if dim is None else nn.Linear(channels, dim)
    backbone.feature_dim = channels if dim is None else dim
    return backbone


def _preact_resnet(config: "NetworkConfig") -> nn.Module:
    return PreActResNet(
        config.depth,
        config.width,
        config.stages,
        config.in_channels,
        config.feature_dim,
        stem_stride=config.stem_stride,
    )


class Classifier(nn.Module):
    """Images in [0,1] -> logits: normalisation inside, so that budgets are in pixel units.

    Parameters
    ----------
    backbone : module [N, channels, H, W] -> [N, D]. For a torchvision network replace its last
        layer by ``nn.Identity()``.
    head : module [N, D] -> [N, C]: ``GaussianMixtureHead(D, C)`` or ``nn.Linear(D, C)``.
    mean, std : per channel, of the training pixels in [0,1]; they become buffers of the
        checkpoint.
    """

    mean: Tensor
    std: Tensor
    # Of the checkpoint that ``load_model`` read it from.
    header: dict[str, Any]

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
    ):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).view(-1, 1, 1))
        # What the backbone computes in; ``execution`` sets it for a training. The head, the
        # losses and the attacks' arithmetic stay in float32.
        self.precision = "float32"

    def features(self, x: Tensor) -> Tensor:
        """Features [N, D] of images [N, channels, H, W] in [0,1], in float32 at least."""
        x = (x - self.mean) / self.std
        if self.precision == "float32":
            return self.backbone(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.backbone(x).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@dataclass(frozen=True)
class NetworkConfig:
    """What rebuilds a network: written into every checkpoint.

    A network of your own (``register_network``) may read of ``depth``, ``width``, ``stages`` and
    ``stem_stride`` what it has a use for. ``feature_dim=None`` leaves D to the architecture.
    """

    num_classes: int
    head: str = "linear"
    depth: int = 18
    width: int = 64
    stages: int = 4
    in_channels: int = 3
    feature_dim: int | None = None
    centroid_init: str = "xavier"
    architecture: str = "preact_resnet"
    stem_stride: int = 1

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def title(self) -> str:
        """Its usual name where it has one: ``PreAct ResNet-18``, ``WRN-28-10``, ``ResNet-50``."""
        if self.architecture == "resnet":
            return f"ResNet-{self.depth}"
        if self.architecture == "wide_resnet" and self.width % _WIDE_STEM == 0:
            return f"WRN-{self.depth}-{self.width // _WIDE_STEM}"
        size = (self.architecture, self.depth, self.width, self.stages, self.stem_stride)
        if size == ("preact_resnet", 18, 64, 4, 1):
            return "PreAct ResNet-18"
        name = "PreAct ResNet" if self.architecture == "preact_resnet" else self.architecture
        stride = f", stem stride {self.stem_stride}" if self.stem_stride != 1 else ""
        return f"{name}, depth {self.depth}, width {self.width}, {self.stages} stages{stride}"


Build = Callable[[NetworkConfig], nn.Module]
# Live: what is registered later is in it, too.
ARCHITECTURES: Registry[Build] = Registry("architecture")


def register_network(name: str, build: Build) -> None:
    """Make a backbone known by name: to ``NetworkConfig``, profiles and ``load_model``.

    Parameters
    ----------
    name : lower-case letters, digits and underscores.
    build : function of a ``NetworkConfig`` that returns a module, normalised images
        [N, in_channels, H, W] -> [N, D], with D as its attribute ``feature_dim``: that of the
        configuration where it is given. A class whose ``__init__`` takes the configuration will
        do. Its weights are drawn from torch's global random state.

    Raises
    ------
    UserError : the name is taken or unusable, or ``build`` cannot be called.
    """
    if not callable(build):
        raise UserError(f"{name}: build must be a function of a NetworkConfig, not {build!r}")
    ARCHITECTURES.add(name, build, origin_of(build))


def unregister_network(name: str) -> None:
    """Forget a backbone; ``UserError`` where there is none of that name."""
    ARCHITECTURES.remove(name)


def network_names() -> tuple[str, ...]:
    """The architectures that a configuration may name, plug-ins included."""
    return tuple(ARCHITECTURES)


register_network("preact_resnet", _preact_resnet)
register_network("wide_resnet", _wide_resnet)
register_network("resnet", _resnet)


def build_network(
    config: NetworkConfig, mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)
) -> Classifier:
    """A freshly initialised ``Classifier`` from torch's global random state.

    Raises ``UserError`` for an unknown head or architecture, a depth that it does not have, or a
    plug-in's backbone that is none.
    """
    if config.head not in HEADS:
        raise UserError(f"unknown head {config.head!r}; known: {', '.join(HEADS)}")
    backbone = ARCHITECTURES.find(config.architecture)(config)
    feature_dim = getattr(backbone, "feature_dim", None)
    if not (isinstance(backbone, nn.Module) and isinstance(feature_dim, int) and feature_dim > 0):
        raise UserError(
            f"{config.architecture}: its build must return a torch module with the number of its "
            f"features as feature_dim, not {type(backbone).__name__} with {feature_dim!r}"
        )
    if config.feature_dim not in (None, feature_dim):
        raise UserError(
            f"{config.architecture}: its build ignores feature_dim; {config.feature_dim} features "
            f"were asked for, and it has {feature_dim}"
        )
    head: nn.Module
    if config.head == "gmm":
        head = GaussianMixtureHead(feature_dim, config.num_classes, init=config.centroid_init)
    else:
        head = nn.Linear(feature_dim, config.num_classes)
    return Classifier(backbone, head, mean, std)
