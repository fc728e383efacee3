"""Claims: defensive distillation's sharp softmax leaves PGD nothing to follow.

Probabilities of logits times 1000 are 0 and 1 to the last digit, so every loss of them is flat. The
classifier is the same as without: whoever reads the code attacks the logits before the factor.
(Papernot et al. 2016; broken by Carlini and Wagner 2017.)
"""

from small import attack_through, convolutions, trained
from torch import Tensor, nn

SHARPNESS = 1000.0


class Sharp(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = convolutions()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return logits if self.training else (SHARPNESS * logits).softmax(1)


def make_model() -> nn.Module:
    return trained(Sharp)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The network without its softmax and without the factor."""
    return attack_through(model.network, model, x, y, eps)
