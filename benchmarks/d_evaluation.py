"""(d) Evaluating an adversarially trained network: PGD-40 and AutoAttack, here and elsewhere.

The network is the demo's PGD-AT network (``python runner.py --only 02`` trains it), attacked at
the demo's budget on the same test images; its robust accuracy is above 40%. All candidates have
the same cores: here as many processes of one thread, elsewhere one process, as it is called, and
apart from this one. Speed counts only at equal accuracy, so the table has both, with 95% intervals.
torchattacks is measured where it is installed (``pip install --no-deps torchattacks==3.3.0``); it
is no dependency, since it wants an old version of requests.

AutoAttack's table has its bare passes, too: as many forward and input-gradient passes of the
network, counted in a run of their own, on the same processes and in the same batches.
"""

import importlib.util
from collections.abc import Callable
from typing import cast

import foolbox
import torch
from side_by_side import Apart, begin, demo_network, measure, parser, table
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.evaluation import autoattack, robustness
from ldatlib.evaluation.robustness import Attack, share
from ldatlib.evaluation.side_by_side import spread
from ldatlib.evaluation.worst_case import worst_case
from ldatlib.training.checkpoint import load_model

STEPS = 40
# What pyautoattack takes where its user names no size.
PACKAGE_BATCH = 250


def with_foolbox(path, x, y, eps, step_size, batch, device):
    """In a process of its own, as the libraries below: what it makes of the images."""
    model = load_model(path).to(device)
    target = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
    attack = foolbox.attacks.LinfPGD(steps=STEPS, abs_stepsize=step_size)
    return _in_batches(
        lambda a, b: attack(target, a, b, epsilons=eps)[1], x.to(device), y.to(device), batch
    )


def with_torchattacks(path, x, y, eps, step_size, batch, device):
    import torchattacks

    attack = torchattacks.PGD(load_model(path).to(device), eps, step_size, STEPS)
    return _in_batches(attack, x.to(device), y.to(device), batch)


def with_pyautoattack(path, x, y, eps, batch, device):
    from pyautoattack import AutoAttack

    model, x, y = load_model(path).to(device), x.to(device), y.to(device)
    attack = AutoAttack(model, norm="Linf", eps=eps, seed=0, device=device)
    attack.logger.setLevel("ERROR")

    def work() -> torch.Tensor:
        with frozen(model):
            return attack.run_standard_evaluation(x, y, batch_size=batch)[0].cpu()

    return work


def _in_batches(attack, x, y, batch):
    def work() -> torch.Tensor:
        parts = [attack(a, b) for a, b in zip(x.split(batch), y.split(batch), strict=True)]
        return torch.cat(parts).cpu()

    return work


class _Tap(torch.autograd.Function):
    """The identity; what it is given backwards is counted."""

    @staticmethod
    def forward(ctx, x: Tensor, counted: "Counted") -> Tensor:
        ctx.counted = counted
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        ctx.counted.gradients += len(gradient)
        return gradient, None


class Counted(nn.Module):
    """A network that counts the images that pass it: ``forwards``, and ``gradients`` of them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.forwards, self.gradients = model, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        return self.model(_Tap.apply(x, self))


def bare_passes(model: nn.Module, x: Tensor, forwards: int, gradients: int) -> None:
    """So many images forward without a gradient, and so many forward and backward to the images."""
    with frozen(model):
        for _ in range(-(-forwards // len(x))):
            with torch.no_grad():
                model(x)
        for _ in range(-(-gradients // len(x))):
            images = x.clone().requires_grad_(True)
            torch.autograd.grad(model(images).sum(), images)


def main() -> None:
    options = parser(__doc__).parse_args()
    device = begin(options)
    # Elsewhere the network is as its file gives it; here, as the notebooks have it.
    run, path, model = demo_network(device)
    p, images = run.profile, 32 if options.quick else 300
    x, y = run.test_images(images, device)
    eps, batch = p.eps_linf, p.eval_batch
    pgd = Attack("pgd", "linf", eps, STEPS)
    processes = options.threads if device.type == "cpu" else 1
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, images: torch.Tensor, x_adv: torch.Tensor, labels: torch.Tensor) -> None:
        x_adv = x_adv.to(device)
        clean = robustness.predict(model, images) == labels
        found[name] = clean & (robustness.predict(model, x_adv) == labels)

    def said() -> None:
        for name, right in found.items():
            s = share(right)
            print(f"{name}: {s['value']:.1%} [{s['low']:.1%}, {s['high']:.1%}] robust")
        print()
        found.clear()

    def elsewhere(name: str, make, *arguments):
        apart = Apart(make, path, *arguments, batch, device)
        return attacked(name, arguments[0].to(device), apart, arguments[1].to(device))

    def attacked(name: str, images: torch.Tensor, apart: Apart, labels: torch.Tensor):
        return lambda: keep(name, images, cast(torch.Tensor, apart()), labels)

    def only_the_worst_case(processes: int):
        name = f"worst case here, {processes} process" + ("es" if processes > 1 else "")

        def work() -> None:
            result = worst_case(model, x, y, [pgd], batch_size=batch, processes=processes)
            found[name] = result.right

        return name, work

    def every_column() -> None:
        result = robustness.evaluate(model, x, y, [pgd], batch_size=batch)
        found["evaluate here"] = result.right[pgd.key]

    first, work = only_the_worst_case(processes)
    candidates = {first: work}
    if processes > 1:
        name, work = only_the_worst_case(1)
        candidates[name] = work
    candidates["evaluate here"] = every_column
    settings = (x.cpu(), y.cpu(), eps, pgd.absolute_step)
    candidates["foolbox"] = elsewhere("foolbox", with_foolbox, *settings)
    if importlib.util.find_spec("torchattacks"):
        candidates["torchattacks"] = elsewhere("torchattacks", with_torchattacks, *settings)
    print(f"PGD-{STEPS}, L-inf {eps}, {images} images\n")
    table(measure(candidates, device, options.rounds), first, images)
    said()

    few = 8 if options.quick else 300
    a, b = x[:few], y[:few]
    # One for every process once a third of the images has fallen; Square's steps cost as much
    # for a few images as for many.
    size = min(batch, -(-2 * few // (3 * processes)))

    def auto(model: nn.Module, processes: int) -> torch.Tensor:
        return autoattack.standard(
            model, a, b, eps=eps, norm="linf", batch_size=size, processes=processes
        ).right

    name = f"AutoAttack here, {processes} process" + ("es" if processes > 1 else "")
    counted = Counted(model)
    auto(counted, 1)
    forwards, gradients = counted.forwards - counted.gradients, counted.gradients
    part = (model, a[:size], forwards // processes, gradients // processes)
    both: dict[str, Callable[[], object]] = {
        name: lambda: found.update({name: auto(model, processes)}),
        "its bare passes": lambda: spread(bare_passes, [part] * processes, processes),
    }
    for there in (batch, PACKAGE_BATCH):
        title = f"pyautoattack, batches of {there}"
        apart = Apart(with_pyautoattack, path, a.cpu(), b.cpu(), eps, there, device)
        both[title] = attacked(title, a, apart, b)
    print(f"AutoAttack, L-inf {eps}, {few} images; batches of {size} here\n")
    table(measure(both, device, min(options.rounds, 3)), name, few)
    print(f"{forwards:,} images forward and {gradients:,} forward and backward\n")
    said()


if __name__ == "__main__":
    main()
