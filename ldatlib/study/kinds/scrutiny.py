"""AutoAttack, and the tests for gradient masking.

All look at the same images, the first of the test split, so that what one finds counts for the
worst case of the others.
"""

import torch

from ldatlib.errors import OutOfTime
from ldatlib.evaluation import autoattack, cost, robustness
from ldatlib.evaluation.masking.bench import Effort
from ldatlib.evaluation.masking.examine import examine
from ldatlib.evaluation.masking.verdicts import below
from ldatlib.evaluation.robustness import from_bits, share
from ldatlib.files import load_tensors
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.study.kinds.white_box import WHITE_BOX, verdict
from ldatlib.study.settings import Profile
from ldatlib.study.trainings import Training
from ldatlib.study.workspace import Workspace

# Square moves tiles under L2, a fifth of the image's side each.
_SMALLEST = 5


def asked_of(profile: Profile) -> int:
    """How many images a profile wants scrutinised: of those of Table 1, with which it compares."""
    return min(profile.scrutiny_images, profile.eval_images)


def images_of(ws: Workspace) -> int:
    """How many images are scrutinised."""
    return min(asked_of(ws.profile), len(ws.dataset.labels["test"]))


def _eps(profile: Profile, norms: tuple[str, ...]) -> dict[str, float]:
    return {norm: profile.budgets[norm] for norm in norms}


class _WithSquare(Kind):
    """A kind among whose attacks is Square, in the norms of the setting that is named."""

    norms_setting = "scrutiny_norms"

    def obstacle(self, ws, training):
        height, width = ws.dataset.images["test"].shape[2:]
        if "l2" not in getattr(ws.profile, self.norms_setting) or min(height, width) >= _SMALLEST:
            return None
        return (
            f"{self.name}: Square under L2 needs images of {_SMALLEST}x{_SMALLEST} pixels or more, "
            f"these have {height}x{width}; choose --set {self.norms_setting}=linf, or larger images"
        )


class AutoAttack(_WithSquare):
    """AutoAttack's standard ensemble in the profile's ``autoattack_norms``."""

    norms_setting = "autoattack_norms"

    name = "autoattack"
    # It waits for no attack; beside the tests for masking it fills the cores.

    def compute(self, ws, training, device):
        model, p = ws.model(training), ws.profile
        x, y = ws.test_images(images_of(ws), device)
        norms, checks = {}, []

        def done(name: str) -> None:
            if ws.late:
                raise OutOfTime(f"autoattack {training.label} stopped after {name}")

        for norm, eps in _eps(p, p.autoattack_norms).items():
            path = self.images_path(ws, training, norm)
            result = autoattack.standard(
                model,
                x,
                y,
                eps=eps,
                norm=norm,
                batch_size=p.eval_batch,
                state=path,
                on_attack=done,
                processes=ws.processes,
            )
            norms[norm] = result.record
            key = f"{norm} AutoAttack"
            checks.append(robustness.inside_ball(x, result.x_adv, eps, norm, key))
            checks.append(robustness.finite_logits(model, result.x_adv, key))
            # Read back from the disk, in other batches than those of the attack.
            saved = load_tensors(path)[0]["x_adv"].to(device)
            checks.append(robustness.batch_agreement(model, saved, y, result.right, key))
            clean = from_bits(result.record["clean_right"]).to(device)
            checks.append(robustness.batch_agreement(model, x, y, clean, f"{norm} clean"))
            result.record["black_box"] = _black_box(result.record)
        return {
            "norms": norms,
            "images": len(y),
            "adversarial": {n: self.images_path(ws, training, n).name for n in norms},
            "self_checks": checks,
            "ok": all(check["passed"] for check in checks),
        }

    def line(self, record, training):
        norms = record.norms
        left = ", ".join(f"{n} {r.robust_accuracy.value:.1%}" for n, r in norms.items())
        return (
            f"AutoAttack on {training.label} leaves {left} in {record.seconds:.0f} s"
            f"{verdict(record)}"
        )

    def settings(self, ws, training):
        return {
            "eps": _eps(ws.profile, ws.profile.autoattack_norms),
            "attacks": list(autoattack.STANDARD),
            "images": asked_of(ws.profile),
            "batch_size": ws.profile.eval_batch,
        }

    def operations(self, ws, training):
        """As if no attack found anything."""
        targets = autoattack.most_targets(ws.dataset.num_classes)
        passes = cost.of_autoattack(autoattack.STANDARD, targets)
        images = images_of(ws) * len(ws.profile.autoattack_norms)
        return images * passes * operations.forward_of(ws, training)

    def products(self, ws, training):
        return tuple(self.images_path(ws, training, n) for n in ws.profile.autoattack_norms)

    def states(self, ws, training):
        # Its images are also the state from which an interrupted evaluation goes on.
        return self.products(ws, training)


def _black_box(record: dict) -> dict:
    """Square sees no gradient: what it finds after the others is a warning, as in the package."""
    *_, white, square = [from_bits(record["clean_right"])] + [
        from_bits(attack["right"]) for attack in record["attacks"].values()
    ]
    return {"found": share(white & ~square), "alarm": below(square, white)}


def siblings(ws: Workspace, training: Training) -> list[Training]:
    """Networks that an attacker without access could train: other seeds, else other defences.

    Of every other defence one network, of the same defence every other seed, and the PGD-AT
    surrogate, whose seed is its own.
    """
    others = [other for other in ws.trainings() if other.label != training.label]
    attackers = [t for t in others if t.name == training.name or t.config.seed == 0]
    return [*attackers, ws.surrogates()[1]]


class Masking(_WithSquare):
    """Tests for gradient masking, against the worst case of Table 1's attacks."""

    name = "masking"
    reads = (WHITE_BOX,)

    def compute(self, ws, training, device):
        model = ws.model(training)
        x, y = ws.test_images(images_of(ws), device)
        reported = WHITE_BOX.read(ws, training)
        networks = {a.label: ws.model(a) for a in siblings(ws, training)}
        partial, norms = ws.partial(self.path(ws, training)), {}
        for norm, eps in _eps(ws.profile, ws.profile.scrutiny_norms).items():
            if known := partial.find(norm):
                norms[norm] = known[1]["record"]
                continue
            columns = [c for k, c in reported.attacks.items() if k.startswith(norm)]
            right = torch.stack([from_bits(column.right) for column in columns]).all(0)
            x_seen, y_seen, right = x[: len(right)], y[: len(right)], right[: len(x)]
            norms[norm] = examine(
                model,
                x_seen,
                y_seen,
                right,
                eps=eps,
                norm=norm,
                siblings=networks,
                effort=_effort(ws.profile),
            )
            partial.keep(norm, {}, {"record": norms[norm]})
        checks = [check for record in norms.values() for check in record.pop("self_checks")]
        return {
            "norms": norms,
            "images": min(len(x), len(from_bits(reported.clean_right))),
            "self_checks": checks,
            "ok": all(check["passed"] for check in checks),
        }

    def line(self, record, training):
        alarms = {norm: found.alarms for norm, found in record.norms.items()}
        said = "; ".join(f"{n}: {', '.join(names) or 'no alarm'}" for n, names in alarms.items())
        return f"tested {training.label} for masking, {said}, in {record.seconds:.0f} s"

    def settings(self, ws, training):
        effort = _effort(ws.profile)
        return {
            "eps": _eps(ws.profile, ws.profile.scrutiny_norms),
            "images": asked_of(ws.profile),
            "effort": [effort.steps, effort.restarts, effort.queries, effort.batch_size],
            "siblings": {
                sibling.label: ws.training_key(sibling) for sibling in siblings(ws, training)
            },
        }

    def operations(self, ws, training):
        attackers = len(siblings(ws, training))
        passes = cost.of_masking(_effort(ws.profile), ws.dataset.num_classes, attackers)
        images = images_of(ws) * len(ws.profile.scrutiny_norms)
        return images * passes * operations.forward_of(ws, training)

    def needs(self, ws, training):
        attackers = [("train", sibling) for sibling in siblings(ws, training)]
        return [*super().needs(ws, training), *attackers]


def _effort(p: Profile) -> Effort:
    return Effort(
        steps=p.steps,
        restarts=p.masking_restarts,
        queries=p.masking_queries,
        batch_size=p.eval_batch,
    )


AUTOATTACK, MASKING = AutoAttack(), Masking()
