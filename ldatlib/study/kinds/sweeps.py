"""Robust accuracy over budgets and over iterations: Figures 4 and 5."""

from dataclasses import replace

from ldatlib.evaluation import robustness
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.study.settings import Profile


class _Sweep(Kind):
    """One attack at growing strength, the same images for all."""

    over: str

    def attacks(self, profile: Profile) -> list[Attack]:
        raise NotImplementedError

    def compute(self, ws, training, device):
        model, p = ws.model(training), ws.profile
        x, y = ws.test_images(p.sweep_images, device)
        partial, points = ws.partial(self.path(ws, training)), []
        for number, attack in enumerate(self.attacks(p)):
            record = robustness.evaluate(
                model, x, y, [attack], batch_size=p.eval_batch, partial=partial.of(str(number))
            ).record
            column = record["attacks"][attack.key]
            points.append(
                {
                    **attack.as_dict(),
                    "robust_accuracy": column["robust_accuracy"],
                    "right": column["right"],
                    "ok": record["ok"],
                }
            )
        return {"points": points, "ok": all(point["ok"] for point in points)}

    def line(self, record, training):
        return f"swept {training.label} over {self.over} in {record.seconds:.0f} s"

    def settings(self, ws, training):
        p = ws.profile
        return {
            "attacks": self.attacks(p),
            "images": p.sweep_images,
            "batch_size": p.eval_batch,
        }

    def operations(self, ws, training):
        p = ws.profile
        return operations.of_attacks(ws, training, self.attacks(p), p.sweep_images)


class SweepEps(_Sweep):
    """Figure 4: PGD at growing budgets, both norms."""

    name = "sweep_eps"
    over = "budgets"

    def attacks(self, profile):
        return [
            Attack("pgd", norm, budget * factor, profile.steps)
            for norm, budget in profile.budgets.items()
            for factor in profile.sweep_eps
        ]


class SweepSteps(_Sweep):
    """Figure 5: PGD (L-inf) and C&W (L2) at growing numbers of iterations."""

    name = "sweep_steps"
    over = "iterations"

    def attacks(self, profile):
        p = profile
        pgd = [Attack("pgd", "linf", p.eps_linf, steps) for steps in p.sweep_steps]
        cw = Attack("cw", "l2", p.eps_l2, cw_step_size=p.cw_step_size)
        return pgd + [replace(cw, steps=steps) for steps in p.sweep_cw_steps]


SWEEP_EPS, SWEEP_STEPS = SweepEps(), SweepSteps()
