"""Stronger and different attacks on the same ball, beside the usual ones."""

import torch
from torch import Tensor, nn

from ldatlib.evaluation.ascent import ascend, margins, random_start
from ldatlib.evaluation.masking.bench import Bench
from ldatlib.evaluation.masking.verdicts import against, skipped
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import share

STEP_SIZES = (1 / 16, 1 / 8, 1 / 2, 1.0)


def restarts_test(bench: Bench, reported: Tensor) -> dict:
    right = bench.run("restarts", bench.apgd("ce", bench.effort.restarts))
    return against("restarts", right, reported, None, "", pgd=share(bench.pgd))


def dlr_test(bench: Bench, reported: Tensor) -> dict:
    with torch.no_grad():
        classes = bench.model(bench.x[:1]).shape[1]
    if classes < 3:
        return skipped("dlr", f"the DLR loss needs 3 classes, there are {classes}")
    right = bench.run("dlr", bench.apgd("dlr", bench.effort.restarts))
    return against("dlr", right, reported, bench.right["restarts"], "CE with as many restarts")


def margin_test(bench: Bench, reported: Tensor) -> dict:
    right = bench.run("margin", bench.ascent(margins, bench.effort.restarts))
    return against("margin", right, reported, bench.right["restarts"], "CE with as many restarts")


def targeted_test(bench: Bench, reported: Tensor) -> dict:
    """One search a class: more effort than PGD, so it speaks of the worst case alone."""
    with torch.no_grad():
        classes = bench.model(bench.x[:1]).shape[1]

    def attack(model, x, y):
        with torch.no_grad():
            ranked = model(x).scatter(1, y.unsqueeze(1), float("-inf")).argsort(1, descending=True)
        found, done = x.clone(), torch.zeros_like(y, dtype=torch.bool)
        generator = torch.Generator(x.device).manual_seed(bench.effort.seed)
        for rank in range(classes - 1):
            start = random_start(x, bench.eps, bench.norm, generator)
            rows = (~done).nonzero().squeeze(1)

            def objective(images, within, rows=rows, rank=rank):
                logits, at = model(images), rows[within]
                pair = logits.gather(1, torch.stack([ranked[at, rank], y[at]], 1))
                return pair[:, 0] - pair[:, 1], margins(logits, y[at])

            ball = {"eps": bench.eps, "norm": bench.norm, "num_steps": bench.effort.steps}
            images, merit = ascend(objective, x[rows], start=start[rows], goal=0, **ball)
            found[rows], done[rows] = images, merit > 0
        return found

    right = bench.run("targeted", bench.batched(attack))
    return against("targeted", right, reported, None, "", targets=classes - 1)


def step_size_test(bench: Bench, reported: Tensor) -> dict:
    tried = {}
    for factor in STEP_SIZES:
        spec = Attack("pgd", bench.norm, bench.eps, bench.effort.steps, factor * bench.eps)
        tried[f"step_size_{factor:g}"] = bench.run(f"step_size_{factor:g}", bench.library(spec))
    name = min(tried, key=lambda key: int(tried[key].sum()))
    sweep = {key.removeprefix("step_size_"): share(right) for key, right in tried.items()}
    return against("step_size", tried[name], reported, bench.pgd, "PGD", sweep=sweep)


def iterations_test(bench: Bench, reported: Tensor) -> dict:
    spec = Attack("pgd", bench.norm, bench.eps, 10 * bench.effort.steps)
    # What PGD has fooled is fooled; the others are attacked for longer.
    right = bench.run("iterations", bench.library(spec), among=bench.pgd)
    more = {"iterations": spec.steps, "pgd": share(bench.pgd)}
    return against("iterations", right, reported, None, "", **more)


WHITE_BOX = (restarts_test, dlr_test, margin_test, targeted_test, step_size_test, iterations_test)


def square_test(bench: Bench, reported: Tensor) -> dict:
    spec = Attack("square", bench.norm, bench.eps, bench.effort.queries)
    right = bench.run("square", bench.library(spec))
    return against("square", right, reported, bench.pgd, "PGD", queries=spec.steps)


def transfer_test(bench: Bench, reported: Tensor, siblings: dict[str, nn.Module]) -> dict:
    if not siblings:
        return skipped("transfer", "there is no sibling network in this run")
    spec = Attack("pgd", bench.norm, bench.eps, bench.effort.steps)
    tried = {
        name: bench.run(f"transfer_{name}", bench.library(spec), sibling)
        for name, sibling in siblings.items()
    }
    name = min(tried, key=lambda key: int(tried[key].sum()))
    sources = {key: share(right) for key, right in tried.items()}
    found = against("transfer", tried[name], reported, bench.pgd, "PGD", sources=sources)
    return {**found, "reason": f"strongest source {name}: {found['reason']}"}
