"""Attacks with full access to the network: Table 1, its worst case, Table 3 and Figure 6."""

import torch

from ldatlib.attacks import NORMS
from ldatlib.evaluation import robustness, worst_case
from ldatlib.evaluation.named_attacks import Attack, table1_attacks
from ldatlib.files import load_tensors, save_tensors
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.study.settings import Profile


def table1_of(profile: Profile) -> tuple[Attack, ...]:
    """Table 1's attacks at the budgets of a profile."""
    return table1_attacks(
        profile.eps_linf,
        profile.eps_l2,
        steps=profile.steps,
        cw_step_size=profile.cw_step_size,
        fab_targets=profile.fab_targets,
    )


def pgd_of(profile: Profile) -> list[Attack]:
    """PGD in both norms: enough for Table 3 and Figure 6."""
    return [Attack("pgd", norm, eps, profile.steps) for norm, eps in profile.budgets.items()]


def searches_of(profile: Profile) -> list[Attack]:
    """The search from larger balls, in both norms."""
    effort = {"steps": profile.search_steps, "restarts": profile.search_restarts}
    return [Attack("margin", norm, eps, **effort) for norm, eps in profile.budgets.items()]


def verdict(record) -> str:
    return "" if record.ok else " SELF-CHECK FAILED"


class WhiteBox(Kind):
    """Table 1's attacks on the test images, each with a column of its own."""

    name = "whitebox"

    def compute(self, ws, training, device):
        p = ws.profile
        model = ws.model(training)
        x, y = ws.test_images(p.eval_images, device)
        result = robustness.evaluate(
            model,
            x,
            y,
            table1_of(p),
            batch_size=p.eval_batch,
            partial=ws.partial(self.path(ws, training)),
        )
        path, kept = self.images_path(ws, training), slice(p.saved_images)
        tensors = {"x": x[kept], "y": y[kept]}
        tensors |= {key: images[kept] for key, images in result.x_adv.items()}
        save_tensors(path, tensors, {"kind": "adversarial", "label": training.label})
        saved, _ = load_tensors(path)
        for key, right in result.right.items():
            images = saved[key].to(device)
            check = robustness.rescore(model, images, y[kept], right[kept], key)
            result.record["self_checks"].append(check)
        result.record["ok"] = all(check["passed"] for check in result.record["self_checks"])
        return {**result.record, "checkpoint": "last", "adversarial": path.name}

    def line(self, record, training):
        worst = ", ".join(f"{n} {w.value:.1%}" for n, w in record.worst_case.items())
        clean = record.clean_accuracy.value
        return (
            f"attacked {training.label}: clean {clean:.1%}, worst case {worst} "
            f"in {record.seconds:.0f} s{verdict(record)}"
        )

    def settings(self, ws, training):
        p = ws.profile
        return {
            "attacks": table1_of(p),
            "images": p.eval_images,
            "batch_size": p.eval_batch,
            "saved": p.saved_images,
        }

    def operations(self, ws, training):
        p = ws.profile
        return operations.of_attacks(ws, training, table1_of(p), p.eval_images)

    def products(self, ws, training):
        return (self.images_path(ws, training),)

    def images(self, ws, training) -> dict[str, torch.Tensor]:
        """Those images: ``x``, ``y`` and one entry an attack, by its key."""
        tensors = load_tensors(self.images_path(ws, training))[0]
        # Published ones are float16.
        return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


class WorstCase(Kind):
    """The worst case of Table 1's attacks and the search, without columns; a command's alone."""

    name = "worst_case"

    def compute(self, ws, training, device):
        model, p = ws.model(training), ws.profile
        x, y = ws.test_images(p.eval_images, device)
        norms = {}
        for norm in NORMS:
            attacks = [attack for attack in self.attacks(p) if attack.norm == norm]
            result = worst_case.worst_case(
                model, x, y, attacks, batch_size=p.eval_batch, processes=ws.processes
            )
            norms[norm] = result.record
        return {"norms": norms, "ok": all(record["ok"] for record in norms.values())}

    def line(self, record, training):
        norms = record.norms
        left = ", ".join(f"{n} {r.robust_accuracy.value:.1%}" for n, r in norms.items())
        clean = norms[NORMS[0]].clean_accuracy.value
        return (
            f"worst case of {training.label}: clean {clean:.1%}, {left} in "
            f"{record.seconds:.0f} s{verdict(record)}"
        )

    def settings(self, ws, training):
        p = ws.profile
        return {"attacks": self.attacks(p), "images": p.eval_images, "batch_size": p.eval_batch}

    def operations(self, ws, training):
        p = ws.profile
        return operations.of_attacks(ws, training, self.attacks(p), p.eval_images)

    @staticmethod
    def attacks(profile: Profile) -> tuple[Attack, ...]:
        return (*table1_of(profile), *searches_of(profile))


class Basic(Kind):
    """Natural accuracy and PGD in both norms, on test images."""

    name = "basic"
    split = "test"
    announced = "attacked"

    def limit(self, ws) -> int | None:
        return ws.profile.eval_images

    def compute(self, ws, training, device):
        x, y = (v.to(device) for v in ws.dataset.split(self.split, self.limit(ws)))
        result = robustness.evaluate(
            ws.model(training), x, y, pgd_of(ws.profile), batch_size=ws.profile.eval_batch
        )
        return {"split": self.split, **result.record}

    def line(self, record, training):
        found = ", ".join(
            f"{key} {column.robust_accuracy.value:.1%}" for key, column in record.attacks.items()
        )
        return (
            f"{self.announced} {training.label}: clean {record.clean_accuracy.value:.1%}, "
            f"{found} in {record.seconds:.0f} s"
        )

    def settings(self, ws, training):
        return {
            "attacks": pgd_of(ws.profile),
            "images": self.limit(ws),
            "batch_size": ws.profile.eval_batch,
        }

    def operations(self, ws, training):
        images = self.limit(ws) or ws.profile.val_size
        return operations.of_attacks(ws, training, pgd_of(ws.profile), images)


class Validation(Basic):
    """The same on all validation images: what a setting may be chosen by."""

    name = "validation"
    split = "val"
    announced = "validated"

    def limit(self, ws):
        return None


WHITE_BOX, WORST_CASE, BASIC, VALIDATION = WhiteBox(), WorstCase(), Basic(), Validation()
