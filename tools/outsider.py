"""Does a search that an outsider writes in twenty lines beat "all attacks" of a finished run?

    python tools/outsider.py runs/demo --profile demo

For each network of notebook 09 and both norms: ``outsider`` below, written without this library's
searches, attacks the images that all attacks together left right. Four searches of four restarts,
each with its own random numbers; what one takes, on average and at most, and what all take
together, in points of all test images, is printed and written to data/results/outsider.json.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

RESULT = PROJECT / "data" / "results" / "outsider.json"
SEARCHES, RESTARTS = 4, 4


def outsider(model, x, y, eps, norm, restarts=RESTARTS):
    """Ascend the margin in a ball of three budgets, 20 steps; project into one; 40 more."""
    taken = torch.zeros(len(x), dtype=torch.bool)
    dims = tuple(range(1, x.dim()))

    def project(delta, radius):
        if norm == "linf":
            return delta.clamp(-radius, radius)
        return delta * (radius / delta.norm(2, dims, True).clamp_min(1e-12)).clamp(max=1)

    for _ in range(restarts):
        z = (x + project(torch.randn_like(x) * 3 * eps, 3 * eps)).clamp(0, 1)
        for radius, steps in ((3 * eps, 20), (eps, 40)):
            z = (x + project(z - x, radius)).clamp(0, 1)
            for step in range(steps + 1):
                z = z.detach().requires_grad_()
                logits = model(z)
                true = logits.gather(1, y[:, None])
                margin = logits.scatter(1, y[:, None], -torch.inf).amax(1) - true[:, 0]
                taken |= (margin > 0) & (radius == eps)
                gradient = torch.autograd.grad(margin.sum(), z)[0]
                if norm == "linf":
                    direction = gradient.sign()
                else:
                    direction = gradient / gradient.norm(2, dims, True).clamp_min(1e-12)
                size = radius * (1 - step / (steps + 1)) / 2
                z = (x + project(z.detach() + size * direction - x, radius)).clamp(0, 1)
    return taken


def cells(run) -> list[dict]:
    """A row a network and norm."""
    from ldatlib.report import comparisons

    trainings = run.select_seed(run.trainings())
    kinds = ("whitebox", "autoattack", "search", "masking", "adaptive")
    records = {kind: run.records(kind, trainings) for kind in kinds}
    rows = []
    for index, training in enumerate(trainings):
        table1, auto, *more = (records[kind][index] for kind in kinds)
        model = run.model(training).eval()
        for norm, eps in run.profile.budgets.items():
            left = comparisons.survivors(table1, auto, more, norm)["worst_case"]
            x, y = (values[left] for values in run.test_images(len(left), "cpu"))
            began, taken = time.perf_counter(), []
            for seed in range(SEARCHES):
                torch.manual_seed(seed)
                taken.append(outsider(model, x, y, eps, norm))
            one, points = [int(each.sum()) for each in taken], 100 / len(left)
            rows.append(
                {
                    "defence": table1.defence,
                    "norm": norm,
                    "images": len(left),
                    "all_attacks": round(int(left.sum()) * points, 2),
                    "one_search": [round(count * points, 2) for count in one],
                    "together": round(int(torch.stack(taken).any(0).sum()) * points, 2),
                    "seconds": round(time.perf_counter() - began, 1),
                }
            )
            print(*rows[-1].values(), flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--profile", default="demo")
    options = parser.parse_args()
    from ldatlib import open_run
    from ldatlib.files import write_json
    from ldatlib.study.provenance import provenance

    torch.set_num_threads(1)
    run = open_run(options.profile, {}, options.run)
    found = {"profile": options.profile, "searches": SEARCHES, "restarts": RESTARTS}
    found |= {"dataset": run.dataset.title, "fingerprint": run.dataset.fingerprint}
    rows = cells(run)
    write_json(RESULT, found | {"cells": rows, "provenance": provenance(torch.device("cpu"))})
    most = max(rows, key=lambda row: max(row["one_search"]))
    print(
        f"one search takes at most {max(most['one_search'])} points: {most['defence']}, "
        f"{most['norm']}; all {SEARCHES} together at most {max(r['together'] for r in rows)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
