"""(a) Algorithm 1 over K bare forward and input-gradient passes of the same network.

The aim is 1.05 at CIFAR's size: what is left is the arithmetic on the perturbation.
"""

import torch
import torch.nn.functional as F
from side_by_side import begin, measure, parser, table

from ldatlib.attacks import boundary_attack, frozen
from ldatlib.execution import place, prepare
from ldatlib.models import NetworkConfig, build_network

NETWORKS = {
    "PreAct ResNet-18, 32x32": (NetworkConfig(10, "gmm"), 64, 32),
    "the demo's, 8x8": (NetworkConfig(10, "gmm", 8, 16, 3, in_channels=1), 64, 8),
}
STEPS = 10


def bare(model, x, y) -> None:
    """K passes and nothing else: the loss is there to have a gradient."""
    with frozen(model), torch.enable_grad():
        for _ in range(STEPS):
            at = x.detach().requires_grad_(True)
            torch.autograd.grad(F.cross_entropy(model(at), y, reduction="sum"), at)


def main() -> None:
    options = parser(__doc__).parse_args()
    device = begin(options)
    for name, (config, batch, side) in NETWORKS.items():
        batch = 8 if options.quick else batch
        model = place(build_network(config), device)
        x = torch.rand(batch, config.in_channels, side, side, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.randint(10, (batch,), device=device)
        for precision in ("float32", "bfloat16"):
            prepare(model, device, precision=precision)
            candidates = {
                "K bare passes": lambda model=model, x=x, y=y: bare(model, x, y),
                "Algorithm 1": lambda model=model, x=x, y=y: boundary_attack(
                    model, x, y, num_steps=STEPS
                ),
            }
            print(f"{name}, batch {batch}, {precision}, K = {STEPS}\n")
            table(measure(candidates, device, options.rounds), "K bare passes", batch)


if __name__ == "__main__":
    main()
