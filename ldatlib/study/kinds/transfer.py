"""Black-box attacks: images crafted on one network, shown to the others. Tables 4 and 5."""

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


class Transfer(Kind):
    """Every test image is attacked on the source, right or wrong there; each target is shown it."""

    name = "transfer"

    def compute(self, ws, training, device):
        x, y = ws.test_images(ws.profile.eval_images, device)
        source, batch = ws.model(training), ws.profile.eval_batch
        clean = robustness.predict(source, x) == y
        targets = {}
        models = {target.label: ws.model(target) for target in ws.trainings()}
        for label, model in models.items():
            targets[label] = {"clean": robustness.share(robustness.predict(model, x) == y)}
        for attack in transfer_attacks(ws.profile):
            x_adv = robustness.run_attack(source, x, y, attack, batch_size=batch)
            for label, model in models.items():
                # An image that the target gets wrong anyway counts as wrong, as everywhere.
                right = robustness.predict(model, x_adv) == y
                right &= robustness.predict(model, x) == y
                targets[label][attack.key] = robustness.share(right)
        return {"source_accuracy": robustness.share(clean), "targets": targets}

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
