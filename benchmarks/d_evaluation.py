"""(d) Evaluating an adversarially trained network: PGD-40 and AutoAttack, here and elsewhere.

The network is the demo's Standard defence (``python runner.py --only 02`` trains it), attacked at
the demo's budget on the same test images. Speed counts only at equal accuracy, so the table has
both. torchattacks is measured where it is installed; it is no dependency.
"""

import importlib.util

import foolbox
import torch
from side_by_side import begin, measure, parser, table

from ldatlib import autoattack, robustness
from ldatlib.attacks import frozen
from ldatlib.execution import default_device
from ldatlib.experiments import open_run
from ldatlib.robustness import Attack

STEPS = 40


def main() -> None:
    options = parser(__doc__).parse_args()
    options.device = str(default_device())
    device = begin(options)
    run = open_run("demo")
    arm = run.arm("standard")
    if not run.jobs_of("train", [arm])[0].done:
        raise SystemExit("train the network first: python runner.py --only 02")
    model = run.model(arm)
    p, images = run.profile, 32 if options.quick else 300
    x, y = run.test_images(images, device)
    eps, step, batch = p.eps_linf, p.eps_linf / 4, p.eval_batch
    found: dict[str, float] = {}

    def keep(name: str, x_adv: torch.Tensor) -> None:
        right = (robustness.predict(model, x) == y) & (robustness.predict(model, x_adv) == y)
        found[name] = right.float().mean().item()

    def ours() -> None:
        result = robustness.evaluate(model, x, y, [Attack("pgd", "linf", eps, STEPS)])
        keep("here, self-checks included", result.x_adv["linf_pgd"])

    def in_batches(name, attack) -> None:
        parts = [attack(a, b) for a, b in zip(x.split(batch), y.split(batch), strict=True)]
        keep(name, torch.cat(parts))

    def with_foolbox() -> None:
        target = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
        attack = foolbox.attacks.LinfPGD(steps=STEPS, abs_stepsize=step)
        in_batches("foolbox", lambda a, b: attack(target, a, b, epsilons=eps)[1])

    candidates = {"here, self-checks included": ours, "foolbox": with_foolbox}
    if importlib.util.find_spec("torchattacks"):
        import torchattacks

        def with_torchattacks() -> None:
            in_batches("torchattacks", torchattacks.PGD(model, eps, step, STEPS))

        candidates["torchattacks"] = with_torchattacks
    print(f"PGD-{STEPS}, L-inf {eps}, {images} images\n")
    seconds = measure(candidates, device, options.rounds)
    table(seconds, "here, self-checks included", images)
    print("robust accuracy:", ", ".join(f"{k} {v:.1%}" for k, v in found.items()), "\n")

    few = 8 if options.quick else 100
    a, b = x[:few], y[:few]

    def auto() -> None:
        result = autoattack.standard(model, a, b, eps=eps, norm="linf", batch_size=batch)
        found["AutoAttack here"] = result.right.float().mean().item()

    def package() -> None:
        from pyautoattack import AutoAttack

        attack = AutoAttack(model, norm="Linf", eps=eps, seed=0, device=device)
        attack.logger.setLevel("ERROR")
        with frozen(model):
            x_adv, _ = attack.run_standard_evaluation(a, b, batch_size=batch)
        found["pyautoattack"] = (robustness.predict(model, x_adv) == b).float().mean().item()

    print(f"AutoAttack standard, L-inf {eps}, {few} images\n")
    rounds = max(1, options.rounds // 3)
    seconds = measure({"AutoAttack here": auto, "pyautoattack": package}, device, rounds)
    table(seconds, "AutoAttack here", few)
    print("robust accuracy:", ", ".join(f"{k} {v:.1%}" for k, v in found.items() if "uto" in k))


if __name__ == "__main__":
    main()
