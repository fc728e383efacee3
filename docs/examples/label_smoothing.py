"""PGD-AT with smoothed labels: a complete defence of one's own, loaded as a plug-in."""

from dataclasses import dataclass

import torch.nn.functional as F

from ldatlib.defences import Defence, accuracy, register_defence


@register_defence(
    "label_smoothing", "PGD-AT, smoothed labels", lambda budgets: {"adversary": budgets.pgd_linf()}
)
@dataclass(frozen=True)
class LabelSmoothing(Defence):
    """``CE(p', (1 - smoothing) y + smoothing / C)``: Szegedy et al. 2016 on PGD examples."""

    smoothing: float = 0.1

    passes = 3  # forward and backward of one image

    def __post_init__(self):
        super().__post_init__()
        self.check_number("smoothing", 0, 1)

    def loss(self, model, x, x_adv, y, *, progress, teacher=None):
        logits = model(x_adv)
        loss = F.cross_entropy(logits, y, label_smoothing=self.smoothing)
        return loss, {"adversarial_accuracy": accuracy(logits, y)}
