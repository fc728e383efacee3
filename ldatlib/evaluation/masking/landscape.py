"""What the logits and their gradients look like around the images, and on ever larger balls."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ldatlib.attacks import l2_norm, per_image, unit_direction
from ldatlib.evaluation.ascent import margins
from ldatlib.evaluation.gate.wrappers import Averaged
from ldatlib.evaluation.masking.bench import Bench, Scaled, cross_entropy
from ldatlib.evaluation.masking.verdicts import percent, report, some
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import BATCH_AGREEMENT, share
from ldatlib.evaluation.search import strongest

# Libraries add 1e-12 to the norm before they divide by it: a shorter gradient moves nothing.
VANISHING = 1e-12
# From 0.01 to 100, as powers of two: a scaled logit is then exact, and so is what must not change.
SCALES = tuple(2.0**power for power in (-7, -4, 0, 4, 7))
FAR_SCALES = (SCALES[0], 1.0, SCALES[-1])
SURFACE = tuple(position / 4 for position in range(-4, 5))
QUANTILES = (0.1, 0.5, 0.9)


def growing_eps_test(bench: Bench) -> dict:
    """PGD on ever larger balls, until the last holds every image there is."""
    pixels = bench.x[0].numel()
    limit = 1.0 if bench.norm == "linf" else math.sqrt(pixels)
    doublings = max(math.ceil(math.log2(limit / bench.eps)), 1)
    budgets = [bench.eps * 2**k for k in range(doublings)] + [max(limit, bench.eps)]
    points, left = [], []
    for eps in budgets:
        attack = bench.library(Attack("pgd", bench.norm, eps, bench.effort.steps))
        left.append(bench.leaves(attack, eps=eps))
        points.append({"eps": eps, "robust_accuracy": share(left[-1])})
    alarm = some(left[-1])
    reason = f"PGD leaves {percent(left[-1])} where the ball holds every image (eps {limit:.3g})"
    if alarm:
        level = points[-1]["robust_accuracy"]
        flat = [p["eps"] for p in points if p["robust_accuracy"]["low"] <= level["high"]]
        reason += f": a plateau from eps {flat[0]:.3g} on"
    return report("growing_eps", alarm, False, reason, points=points)


def rescaled_test(bench: Bench, reported: Tensor) -> dict:
    """Logits times a number: the same classifier, so nothing real can change.

    DLR and margin are blind to the scale and must leave the same images. The cross-entropy is
    not; it counts where it takes images that nothing got without rescaling. Of a randomised model
    that alone is judged.
    """
    worst = torch.stack([reported, *bench.right.values()]).all(0)
    attacks = {
        "ce": bench.library(Attack("pgd", bench.norm, bench.eps, bench.effort.steps)),
        "margin": bench.search(lambda model, x, y: [strongest(model, y)]),
    }
    if bench.classes >= 3:
        attacks["dlr"] = bench.apgd("dlr", 1)
    left = {
        name: {
            scale: bench.leaves(attack, Scaled(bench.model, scale))
            for scale in (SCALES if name == "ce" else FAR_SCALES)
        }
        for name, attack in attacks.items()
    }
    same = {
        name: min(float((right == by_scale[1.0]).double().mean()) for right in by_scale.values())
        for name, by_scale in left.items()
        if name != "ce"
    }
    # Two searches of a randomised model draw differently: that they differ says nothing.
    moved = not isinstance(bench.model, Averaged) and min(same.values()) < BATCH_AGREEMENT
    scale = min(SCALES, key=lambda s: int(left["ce"][s].sum()))
    taken = worst & ~left["ce"][scale]
    reason = (
        f"CE at best {percent(left['ce'][scale])} (scale {scale:g}) takes {int(taken.sum())} of "
        f"the unscaled worst case {percent(worst)}; "
        + ", ".join(f"{n.upper()} same on {100 * s:.1f}% of images" for n, s in same.items())
    )
    shares = {
        name: {f"{scale:g}": share(right) for scale, right in by_scale.items()}
        for name, by_scale in left.items()
    }
    numbers = {"scales": shares, "same": same, "unscaled_worst_case": share(worst)}
    return report("rescaled", moved, some(taken), reason, **numbers, taken=share(taken))


def _gradient(bench: Bench, images: Tensor, loss: Callable) -> Tensor:
    parts = []
    size = bench.effort.batch_size
    for part, labels in zip(images.split(size), bench.y[bench.clean].split(size), strict=True):
        with torch.enable_grad():
            part = part.detach().requires_grad_(True)
            parts.append(torch.autograd.grad(loss(bench.model(part), labels).sum(), part)[0])
    return torch.cat(parts)


def gradients_test(bench: Bench) -> dict:
    """Length of the input gradient where PGD starts; too short a one moves nothing."""
    starts = bench.starts()[bench.clean]
    numbers, gone = {}, {}
    for name, loss in (("ce", cross_entropy), ("margin", margins)):
        gradient = _gradient(bench, starts, loss)
        length = l2_norm(gradient.double()).nan_to_num(0, 0, 0)
        gone[name] = length < VANISHING
        low, middle, high = length.quantile(length.new_tensor([0.05, 0.5, 0.95])).tolist()
        numbers[name] = {"q05": low, "median": middle, "q95": high, "vanishing": share(gone[name])}
    reason = "; ".join(
        f"{name.upper()}: median {n['median']:.2g}, vanishing in {percent(gone[name])}"
        for name, n in numbers.items()
    )
    return report("gradients", any(some(g) for g in gone.values()), False, reason, **numbers)


def surface_test(bench: Bench) -> tuple[dict, dict]:
    """The margin along the gradient and along a random direction, quantiles over images.

    A step of a quarter of the budget along the gradient must raise the margin, and more than one
    along a random direction, for more images than a coin would.
    """
    x, y = bench.x[bench.clean], bench.y[bench.clean]
    gradient = _gradient(bench, x, cross_entropy)
    generator = torch.Generator(x.device).manual_seed(bench.effort.seed)
    noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    if bench.norm == "linf":
        uphill, random = gradient.sign(), noise.sign()
    else:
        uphill = unit_direction(gradient, torch.zeros_like(gradient))
        random = noise / per_image(l2_norm(noise), noise)

    def height(a: float, b: float) -> Tensor:
        images = (x + bench.eps * (a * uphill + b * random)).clamp(0, 1)
        with torch.no_grad():
            parts = zip(
                images.split(bench.effort.batch_size), y.split(bench.effort.batch_size), strict=True
            )
            return torch.cat([margins(bench.model(part), labels) for part, labels in parts])

    along = {
        "gradient": [height(position, 0) for position in SURFACE],
        "random": [height(0, position) for position in SURFACE],
    }
    here, quarter = SURFACE.index(0), SURFACE.index(0.25)
    climbed = along["gradient"][quarter]
    steeper = (climbed > along["gradient"][here]) & (climbed > along["random"][quarter])
    counted = share(steeper)
    reason = (
        f"the gradient raises the margin more than a random direction in {percent(steeper)} of "
        f"images [{100 * counted['low']:.0f}%, {100 * counted['high']:.0f}%]"
    )
    surface = {"positions": list(SURFACE)} | {
        name: [_quantiles(heights) for heights in several] for name, several in along.items()
    }
    # A coin says 50%: a direction that is not better than that is no gradient.
    return surface, report("surface", counted["low"] <= 0.5, False, reason, steeper=counted)


def _quantiles(heights: Tensor) -> dict[str, float]:
    # Beside an image a model may have logits that are no numbers.
    heights = heights.double().nan_to_num()
    low, middle, high = heights.quantile(heights.new_tensor(QUANTILES)).tolist()
    return {"low": round(low, 5), "median": round(middle, 5), "high": round(high, 5)}
