"""Black-box attacks: images crafted on one network, shown to the others. Tables 4 and 5."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ldatlib.evaluation import robustness
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.study.settings import Profile


def transfer_attacks(profile: Profile) -> list[Attack]:
    """The columns of Tables 4 and 5."""
    eps = profile.eps_linf
    return [
        Attack("fgsm", "linf", eps, 1),
        # Ten steps that together reach the rim of the ball, as MI-FGSM's paper has them.
        Attack("mi_fgsm", "linf", eps, 10, step_size=eps / 10),
        Attack("pgd", "linf", eps, profile.steps),
    ]


def _each(count: Callable[[Tensor], Any], right: dict[str, dict[str, Tensor]]) -> dict:
    return {label: {k: count(v) for k, v in found.items()} for label, found in right.items()}


class Transfer(Kind):
    """Every test image is attacked on the source, right or wrong there; each target is shown it."""

    name = "transfer"

    def compute(self, ws, training, device):
        x, y = ws.test_images(ws.profile.eval_images, device)
        source, batch = ws.model(training), ws.profile.eval_batch
        clean = robustness.predict(source, x) == y
        models = {target.label: ws.model(target) for target in ws.trainings()}
        right = {
            label: {"clean": robustness.predict(model, x) == y} for label, model in models.items()
        }
        partial = ws.partial(self.path(ws, training))
        for attack in transfer_attacks(ws.profile):
            if known := partial.find(attack.key):
                x_adv = known[0]["x_adv"].to(device)
            else:
                x_adv = robustness.run_attack(source, x, y, attack, batch_size=batch)
                partial.keep(attack.key, {"x_adv": x_adv}, {})
            for label, model in models.items():
                # An image that the target gets wrong anyway counts as wrong, as everywhere.
                still = robustness.predict(model, x_adv) == y
                right[label][attack.key] = still & right[label]["clean"]
        return {
            "source_accuracy": robustness.share(clean),
            "targets": _each(robustness.share, right),
            "right": _each(robustness.to_bits, right),
        }

    def line(self, record, training):
        shown = len(record.targets)
        return f"transferred from {training.label} to {shown} networks in {record.seconds:.0f} s"

    def settings(self, ws, training):
        return {
            "attacks": transfer_attacks(ws.profile),
            "images": ws.profile.eval_images,
            "batch_size": ws.profile.eval_batch,
            "targets": {target.label: ws.training_key(target) for target in ws.trainings()},
        }

    def operations(self, ws, training):
        p = ws.profile
        return operations.of_attacks(ws, training, transfer_attacks(p), p.eval_images)

    def needs(self, ws, training):
        return [*super().needs(ws, training), *(("train", target) for target in ws.trainings())]


TRANSFER = Transfer()
