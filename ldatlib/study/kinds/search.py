"""The search from larger balls, on every test image that Table 1's attacks have left right."""

import torch
from torch import Tensor

from ldatlib.evaluation import robustness
from ldatlib.evaluation.robustness import from_bits, predict, share, to_bits
from ldatlib.files import load_tensors, save_tensors
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.study.kinds.white_box import WHITE_BOX, searches_of, verdict


class Search(Kind):
    """What a stronger search takes from Table 1's worst case, in both norms."""

    name = "search"
    # Beside the rest of notebook 09 it fills the cores.
    reads = (WHITE_BOX,)

    def compute(self, ws, training, device):
        p, model = ws.profile, ws.model(training)
        x, y = ws.test_images(p.eval_images, device)
        table1 = WHITE_BOX.read(ws, training).attacks
        partial = ws.partial(self.path(ws, training))
        norms, tensors, checks = {}, {}, []
        for attack in searches_of(p):
            columns = [c for key, c in table1.items() if key.startswith(attack.norm)]
            right = torch.stack([from_bits(column.right) for column in columns]).all(0)
            reported, rows = share(right), right.nonzero().squeeze(1)
            # What has fallen is not shown to a dearer attack; nothing may be left.
            column, fallen = {"restarts": [0] * attack.restarts, "converged": True}, rows[:0]
            tensors[attack.norm] = x[:0]
            if len(rows):
                settings = {"batch_size": p.eval_batch, "partial": partial}
                result = robustness.evaluate(model, x[rows], y[rows], [attack], **settings)
                column, still = result.record["attacks"][attack.key], result.right[attack.key].cpu()
                fallen, right[rows] = rows[~still], still
                tensors[attack.norm] = result.x_adv[attack.key].cpu()[~still]
                more = result.record["self_checks"]
                checks += [c | {"name": f"search, {c['name']}"} for c in more]
            tensors[f"{attack.norm}_rows"] = fallen
            norms[attack.norm] = {
                "reported": reported,
                "robust_accuracy": share(right),
                "right": to_bits(right),
                "restarts": column["restarts"],
                "converged": column["converged"],
                "settings": attack.as_dict(),
            }
        path = self.images_path(ws, training)
        save_tensors(path, tensors, {"kind": "adversarial", "label": training.label})
        saved, _ = load_tensors(path)
        checks += [_fooled(model, saved, y.cpu(), norm, device) for norm in norms]
        return {
            "norms": norms,
            "images": len(y),
            "adversarial": path.name,
            "self_checks": checks,
            "ok": all(check["passed"] for check in checks),
        }

    def line(self, record, training):
        found = ", ".join(
            f"{norm} {of.reported.value:.1%} -> {of.robust_accuracy.value:.1%}"
            + ("" if of.converged else " (not converged)")
            for norm, of in record.norms.items()
        )
        seconds = f"{record.seconds:.0f} s"
        return f"searched {training.label} from larger balls: {found} in {seconds}{verdict(record)}"

    def settings(self, ws, training):
        p = ws.profile
        return {"attacks": searches_of(p), "images": p.eval_images, "batch_size": p.eval_batch}

    def operations(self, ws, training):
        """As if Table 1's attacks had found nothing."""
        p = ws.profile
        return operations.of_attacks(ws, training, searches_of(p), p.eval_images)

    def products(self, ws, training):
        return (self.images_path(ws, training),)


def _fooled(model, saved: dict[str, Tensor], y: Tensor, norm: str, device) -> dict:
    """Self-check: every saved image, read back, is misclassified."""
    images, rows = saved[norm], saved[f"{norm}_rows"]
    wrong = predict(model, images.to(device)).cpu() != y[rows] if len(rows) else rows > 0
    return {
        "name": f"search, {norm}: the saved images are misclassified",
        "passed": bool(wrong.all()),
        "value": float(wrong.sum()),
    }


SEARCH = Search()
