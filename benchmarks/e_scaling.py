"""(e) Images per second and memory of an LDAT training step, over batch sizes and widths."""

import resource
from functools import partial

import torch
from c_training_step import STEPS, ldat_step, optimiser
from side_by_side import begin, measure, parser

from ldatlib.defences import make_defence
from ldatlib.execution import place, prepare
from ldatlib.models import NetworkConfig, build_network

SIZES = [(16, 64), (16, 128), (16, 256), (32, 128), (64, 64), (64, 128)]


def memory(device: torch.device) -> float:
    """GiB: of the card at most since the last reset, of the process at most so far on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    options = parser(__doc__).parse_args()
    device = begin(options)
    sizes = [(8, 8)] if options.quick else SIZES
    if device.type == "cuda":
        sizes = [*sizes, (64, 256), (64, 512), (64, 1024), (160, 128)]
    defence = make_defence("ldat", eps_linf=8 / 255, eps_l2=0.5, radius=1.5, num_steps=STEPS)
    print("| width | batch | precision | images/s | GiB |")
    print("| ---: | ---: | --- | ---: | ---: |")
    for width, batch in sizes:
        x = torch.rand(batch, 3, 32, 32, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.randint(10, (batch,), device=device)
        for precision in ("float32", "bfloat16"):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            model = place(build_network(NetworkConfig(10, "gmm", width=width)), device)
            prepare(model, device, precision=precision)
            sgd = optimiser(model)
            step = partial(ldat_step, model, defence, sgd, x, y)
            best = min(measure({"step": step}, device, max(2, options.rounds // 2))["step"])
            print(
                f"| {width} | {batch} | {precision} | {batch / best:.1f} | {memory(device):.2f} |"
            )


if __name__ == "__main__":
    main()
