"""(g) What it is worth on a CPU to keep the memory of freed tensors: forward and input gradient.

Two processes with the same network and images, one as glibc has it, one with ``keep_pages``, as
every network that ``place`` has placed. Elsewhere than on glibc, and on a GPU, both are the same.
"""

import torch
import torch.nn.functional as F
from side_by_side import Apart, begin, measure, parser, table

from ldatlib.attacks import frozen
from ldatlib.execution import keep_pages
from ldatlib.models import NetworkConfig, build_network

NETWORKS = {
    "the demo's, 8x8": (NetworkConfig(10, "gmm", 8, 16, 3, in_channels=1), 8, (64, 300)),
    "PreAct ResNet-18, 32x32": (NetworkConfig(10, "gmm"), 32, (64, 128)),
}
PASSES = 5


def passes(config, side, batch, precision, kept, device):
    if kept:
        keep_pages()
    model = build_network(config).to(device).to(memory_format=torch.channels_last)
    model.precision = precision
    x = torch.rand(batch, config.in_channels, side, side, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,), device=device)

    def work() -> None:
        with frozen(model), torch.enable_grad():
            for _ in range(PASSES):
                at = x.detach().requires_grad_(True)
                torch.autograd.grad(F.cross_entropy(model(at), y, reduction="sum"), at)

    return work


def main() -> None:
    options = parser(__doc__).parse_args()
    if not keep_pages():
        raise SystemExit("no glibc here, or a variable sets it up: there is nothing to compare")
    device = begin(options)
    for name, (config, side, batches) in NETWORKS.items():
        for batch in [8] if options.quick else batches:
            for precision in ("float32", "bfloat16"):
                print(f"{name}, batch {batch}, {precision}, {PASSES} passes\n")
                candidates = {
                    title: Apart(passes, config, side, batch, precision, kept, device)
                    for title, kept in (("as glibc has it", False), ("pages kept", True))
                }
                table(measure(candidates, device, options.rounds), "pages kept", batch * PASSES)


if __name__ == "__main__":
    main()
