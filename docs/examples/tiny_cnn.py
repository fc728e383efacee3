"""Three convolutions: a network of one's own, loaded as a plug-in; ``architecture=tiny_cnn``."""

from torch import nn

from ldatlib.models import register_network


class TinyCNN(nn.Module):
    """Images [N, in_channels, H, W] -> features [N, D]; D is four times the width unless given."""

    def __init__(self, config):
        super().__init__()
        width = config.width
        self.feature_dim = config.feature_dim or 4 * width
        self.layers = nn.Sequential(
            *(nn.Conv2d(config.in_channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU()),
            *(nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.BatchNorm2d(4 * width), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, self.feature_dim)),
        )

    def forward(self, x):
        return self.layers(x)


register_network("tiny_cnn", TinyCNN)
