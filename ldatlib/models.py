"""Networks on [0,1] images: normalise, extract features, classify with one of two heads.

``Classifier`` joins any backbone that maps images to features with a linear or a
Gaussian-mixture head. Its own backbone is the pre-activation residual network (He et al. 2016,
"Identity mappings"), with depth, width and the number of stages as parameters: depth 18, width 64
and 4 stages is the paper's PreAct ResNet-18.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.gmm import GaussianMixtureHead

HEADS = ("linear", "gmm")


class PreActBlock(nn.Module):
    """BN-ReLU-conv, BN-ReLU-conv, plus the input; a projection starts from the activated input."""

    def __init__(self, in_width: int, width: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.projection = (
            nn.Conv2d(in_width, width, 1, stride, bias=False)
            if stride != 1 or in_width != width
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        shortcut = x if self.projection is None else self.projection(active)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(active))))


class PreActResNet(nn.Module):
    """Backbone [N, in_channels, H, W] -> [N, D]: pooled features after the last BN-ReLU.

    ``feature_dim=None`` gives D = width * 2**(stages - 1) (512 for the paper's network); a number
    adds a linear map to that many dimensions, which is how notebook 01 makes features that can
    be drawn.
    """

    def __init__(
        self,
        depth: int = 18,
        width: int = 64,
        stages: int = 4,
        in_channels: int = 3,
        feature_dim: int | None = None,
    ):
        super().__init__()
        blocks, rest = divmod(depth - 2, 2 * stages)
        if blocks < 1 or rest:
            raise UserError(
                f"a PreAct ResNet of {stages} stages has depth {2 * stages}n + 2 "
                f"({2 * stages + 2}, {4 * stages + 2}, ...), not {depth}"
            )
        self.stem = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        layers, channels = [], width
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

    def features(self, x: Tensor) -> Tensor:
        """Features [N, D] of images [N, channels, H, W] in [0,1]."""
        return self.backbone((x - self.mean) / self.std)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@dataclass(frozen=True)
class NetworkConfig:
    """What rebuilds a network: written into every checkpoint."""

    num_classes: int
    head: str = "linear"
    depth: int = 18
    width: int = 64
    stages: int = 4
    in_channels: int = 3
    feature_dim: int | None = None
    centroid_init: str = "xavier"

    def as_dict(self) -> dict:
        return asdict(self)


def build_network(
    config: NetworkConfig, mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)
) -> Classifier:
    """A freshly initialised ``Classifier`` from torch's global random state.

    Raises ``UserError`` for an unknown head or a depth that its stages do not give.
    """
    if config.head not in HEADS:
        raise UserError(f"unknown head {config.head!r}; known: {', '.join(HEADS)}")
    backbone = PreActResNet(
        config.depth, config.width, config.stages, config.in_channels, config.feature_dim
    )
    if config.head == "gmm":
        head = GaussianMixtureHead(
            backbone.feature_dim, config.num_classes, init=config.centroid_init
        )
    else:
        head = nn.Linear(backbone.feature_dim, config.num_classes)
    return Classifier(backbone, head, mean, std)


def default_device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def place(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The model on a device, convolutions channels-last: the faster layout on CPU and GPU."""
    return model.to(device, memory_format=torch.channels_last)
