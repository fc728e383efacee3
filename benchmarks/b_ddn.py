"""(b) Algorithm 1 against foolbox's DDN, the attack it comes from, with the same steps.

Once like for like: the same network, precision and layout, parameters frozen. Once each as its
users call it: foolbox in a process of its own, in float32, on a model whose parameters ask for
gradients; Algorithm 1 with the precision that a training here chooses.
"""

from collections.abc import Callable

import foolbox
import torch
from side_by_side import Apart, begin, measure, parser, table

from ldatlib.attacks import boundary_attack, frozen
from ldatlib.execution import place, prepare
from ldatlib.models import NetworkConfig, build_network

STEPS = 10


def ddn(model, x, y) -> None:
    target = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device=x.device)
    attack = foolbox.attacks.DDNAttack(steps=STEPS)
    attack.run(target, x, foolbox.criteria.Misclassification(y))


def ddn_frozen(model, x, y) -> None:
    with frozen(model):
        ddn(model, x, y)


def ddn_as_called(x, y, device):
    x, y = x.to(device), y.to(device)
    model = build_network(NetworkConfig(10)).to(device)
    return lambda: ddn(model, x, y)


def main() -> None:
    options = parser(__doc__).parse_args()
    device = begin(options)
    batch = 8 if options.quick else 64
    ours = place(build_network(NetworkConfig(10)), device)
    execution = prepare(ours, device, precision="auto")
    x, y = torch.rand(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    last = x.contiguous(memory_format=torch.channels_last)
    print(f"PreAct ResNet-18, batch {batch}, {STEPS} steps; here: {execution.precision}\n")
    like = {
        "foolbox DDN, same precision, frozen": lambda: ddn_frozen(ours, last, y),
        "Algorithm 1": lambda: boundary_attack(ours, last, y, num_steps=STEPS),
    }
    table(measure(like, device, options.rounds), "Algorithm 1", batch)
    called: dict[str, Callable[[], object]] = {
        "foolbox DDN, as called": Apart(ddn_as_called, x.cpu(), y.cpu(), device),
        "Algorithm 1": lambda: boundary_attack(ours, last, y, num_steps=STEPS),
    }
    table(measure(called, device, options.rounds), "Algorithm 1", batch)


if __name__ == "__main__":
    main()
