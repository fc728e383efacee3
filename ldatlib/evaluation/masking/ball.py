"""Stronger and different attacks on the same ball, beside the usual ones."""

from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.evaluation.ascent import margins, ranked_wrong
from ldatlib.evaluation.masking.bench import Bench, cross_entropy
from ldatlib.evaluation.masking.verdicts import against, skipped
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import share
from ldatlib.evaluation.search import RADII, towards

# A rival of DLR and margin, which are blind to the size of the logits.
ORDINARY = "CE in the same search, on logits of ordinary size,"
STEP_SIZES = (1 / 16, 1 / 8, 1 / 2, 1.0)


def restarts_test(bench: Bench, reported: Tensor) -> dict:
    right = bench.run("restarts", bench.apgd("ce", bench.effort.restarts))
    return against("restarts", right, reported, pgd=share(bench.pgd))


def dlr_test(bench: Bench, reported: Tensor) -> dict:
    if bench.classes < 3:
        return skipped("dlr", f"the DLR loss needs 3 classes, there are {bench.classes}")
    right = bench.run("dlr", bench.apgd("dlr", bench.effort.restarts))
    usual = bench.apgd("ce", bench.effort.restarts)
    rival = bench.run("restarts_scaled", usual, bench.ordinary())
    return against("dlr", right, reported, rival, ORDINARY)


def margin_test(bench: Bench, reported: Tensor) -> dict:
    """The loss alone is another one: the cross-entropy is searched from larger balls, too."""
    right = bench.run("margin", bench.search(bench.repeated(margins)))
    usual = bench.search(bench.repeated(cross_entropy))
    rival = bench.run("ce_scaled", usual, bench.ordinary())
    return against("margin", right, reported, rival, ORDINARY)


def larger_balls_test(bench: Bench, reported: Tensor) -> dict:
    """The same search of the margin, all its steps in the ball itself: is it stuck there?"""
    rival = bench.run("rim", bench.search(bench.repeated(margins), radii=(1.0,)))
    who = "the margin from starts in the ball itself"
    return against("larger_balls", bench.right["margin"], reported, rival, who, radii=list(RADII))


def targeted_test(bench: Bench, reported: Tensor) -> dict:
    """One search a class: more effort than PGD, so it speaks of the worst case alone."""

    def objectives(model, x, y):
        with torch.no_grad():
            ranked = ranked_wrong(model(x), y)
        return [towards(model, y, target) for target in ranked.unbind(1)]

    right = bench.run("targeted", bench.search(objectives))
    return against("targeted", right, reported, targets=bench.classes - 1)


def step_size_test(bench: Bench, reported: Tensor) -> dict:
    tried = {}
    for factor in STEP_SIZES:
        spec = Attack("pgd", bench.norm, bench.eps, bench.effort.steps, factor * bench.eps)
        tried[f"step_size_{factor:g}"] = bench.run(f"step_size_{factor:g}", bench.library(spec))
    name = min(tried, key=lambda key: int(tried[key].sum()))
    sweep = {key.removeprefix("step_size_"): share(right) for key, right in tried.items()}
    judged: dict[str, Any] = {"tried": len(tried), "sweep": sweep}
    return against("step_size", tried[name], reported, bench.pgd, "PGD", **judged)


def iterations_test(bench: Bench, reported: Tensor) -> dict:
    spec = Attack("pgd", bench.norm, bench.eps, 10 * bench.effort.steps)
    # What PGD has fooled is fooled; the others are attacked for longer.
    right = bench.run("iterations", bench.library(spec), among=bench.pgd)
    more: dict[str, Any] = {"iterations": spec.steps, "pgd": share(bench.pgd)}
    return against("iterations", right, reported, **more)


WHITE_BOX = (
    restarts_test,
    dlr_test,
    margin_test,
    larger_balls_test,
    targeted_test,
    step_size_test,
    iterations_test,
)


def square_test(bench: Bench, reported: Tensor, white_box: Tensor) -> dict:
    """``white_box`` [N]: right under all attacks that see gradients."""
    spec = Attack("square", bench.norm, bench.eps, bench.effort.queries)
    right = bench.run("square", bench.library(spec))
    more: dict[str, Any] = {"white_box": white_box, "queries": spec.steps}
    return against("square", right, reported, bench.pgd, "PGD", **more)


def transfer_test(
    bench: Bench, reported: Tensor, white_box: Tensor, siblings: dict[str, nn.Module]
) -> dict:
    if not siblings:
        return skipped("transfer", "there is no sibling network in this run")
    spec = Attack("pgd", bench.norm, bench.eps, bench.effort.steps)
    tried = {
        name: bench.run(f"transfer_{name}", bench.library(spec), sibling)
        for name, sibling in siblings.items()
    }
    name = min(tried, key=lambda key: int(tried[key].sum()))
    sources = {key: share(right) for key, right in tried.items()}
    more: dict[str, Any] = {"tried": len(tried), "white_box": white_box, "sources": sources}
    found = against("transfer", tried[name], reported, bench.pgd, "PGD", **more)
    return {**found, "reason": f"strongest source {name}: {found['reason']}"}
