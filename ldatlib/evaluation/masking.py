"""Is the robustness real, or do the gradients only lead nowhere? Tests for gradient masking.

Each test puts a stronger or a different tool beside the usual one and counts what is left, after
the lists of Athalye, Carlini and Wagner 2018 and Carlini et al. 2019, "On evaluating adversarial
robustness". Two questions, one rule:

- **misled**: does a tool of no more effort, or of less knowledge, leave fewer images right than the
  cross-entropy with as many restarts (PGD), the attack of most of the paper's tables and figures?
- **overstated**: does any tool leave fewer images right than the reported worst case? Restarts,
  more iterations and a search for every class are more effort, and speak of this alone.

Fewer means: below the lower end of the other share's 95% Wilson interval. A share that no attack
should leave (images right although the ball holds every image; images without a gradient) is
*about none* where its interval reaches down to 1%. Either answer "yes" is an alarm.
"""

import math
from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldatlib.attacks import NORMS, frozen, l2_norm, per_image, unit_direction
from ldatlib.errors import UserError
from ldatlib.evaluation.ascent import ascend, margins, random_start
from ldatlib.evaluation.masking_searches import Bench, Effort
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import BATCH_AGREEMENT, share, to_bits

ABOUT_NONE = 0.01
# Libraries add 1e-12 to the norm before they divide by it: a shorter gradient moves nothing.
VANISHING = 1e-12
# From 0.01 to 100, as powers of two: a scaled logit is then exact, and so is what must not change.
SCALES = tuple(2.0**power for power in (-7, -4, 0, 4, 7))
FAR_SCALES = (SCALES[0], 1.0, SCALES[-1])
STEP_SIZES = (1 / 16, 1 / 8, 1 / 2, 1.0)
SURFACE = tuple(position / 4 for position in range(-4, 5))

TITLES = {
    "restarts": "CE, restarts",
    "dlr": "DLR, restarts",
    "margin": "C&W margin, restarts",
    "targeted": "every class a target",
    "step_size": "other step sizes",
    "iterations": "ten times the iterations",
    "square": "Square (black box)",
    "transfer": "transfer from a sibling",
    "growing_eps": "eps until nothing is left",
    "rescaled": "rescaled logits",
    "gradients": "gradient norms",
    "surface": "loss along the gradient",
}


def below(right: Tensor, reference: Tensor) -> bool:
    """Is the share of ``right`` below the lower end of the 95% interval of ``reference``?"""
    return share(right)["value"] < share(reference)["low"]


def some(affected: Tensor) -> bool:
    """Is a share that should be 0 above "about none", its 95% interval considered?"""
    return share(affected)["low"] > ABOUT_NONE


def examine(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    reported: Tensor,
    *,
    eps: float,
    norm: str,
    siblings: dict[str, nn.Module] | None = None,
    effort: Effort | None = None,
) -> dict:
    """All tests of one network in one norm, as a record for JSON.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits.
    reported : bool [N], the images right in the worst case that is to be judged.
    eps : in pixel units, above 0.
    siblings : networks of the same task, by name, on which images are crafted and then shown to
        ``model``. Without any, the transfer test is skipped.

    Returns
    -------
    ``tests``: a dictionary a test with ``test``, ``verdict`` ("alarm", "no alarm", "skipped"),
    ``misled`` and ``overstated`` (bool), ``reason`` and ``numbers``; ``alarms``: names of those
    that sound; ``right``: the images right under each attack on the ball itself, as bits;
    ``surface``, for the figure; ``self_checks``. Where no image is classified correctly, every
    test is skipped.

    Raises
    ------
    UserError : a budget that is not positive, an unknown norm, or another number of verdicts than
        of images.
    """
    if not 0 < eps < float("inf"):
        raise UserError(f"masking is tested at an eps above 0, not {eps}")
    if norm not in NORMS:
        raise UserError(f"unknown norm {norm!r}; known: {', '.join(NORMS)}")
    if len(reported) != len(x):
        raise UserError(f"{len(reported)} reported verdicts for {len(x)} images")
    with frozen(model), torch.random.fork_rng():
        bench = Bench(model, x, y, eps, norm, effort or Effort())
        if not bench.clean.any():
            return _nothing_to_attack(bench)
        bench.pgd = bench.run("pgd", bench.library(Attack("pgd", norm, eps, bench.effort.steps)))
        reported = reported.to(x.device) & bench.clean
        bench.check_nothing()
        tests = [test(bench, reported) for test in _WHITE_BOX]
        tests += [_square(bench, reported), _transfer(bench, reported, siblings or {})]
        tests += [_growing_eps(bench), _rescaled(bench, reported), _gradients(bench)]
        surface, test = _surface(bench)
        tests.append(test)
    return _header(bench) | {
        "pgd": share(bench.pgd),
        "reported": share(reported),
        "tests": tests,
        "alarms": [test["test"] for test in tests if test["verdict"] == "alarm"],
        "right": {name: to_bits(right) for name, right in bench.right.items()},
        "surface": surface,
        "self_checks": bench.checks,
    }


def _header(bench: Bench) -> dict:
    return {
        "norm": bench.norm,
        "eps": bench.eps,
        "images": len(bench.x),
        "clean_accuracy": share(bench.clean),
        "effort": asdict(bench.effort),
    }


def _nothing_to_attack(bench: Bench) -> dict:
    reason = "no image is classified correctly: there is nothing to attack"
    nothing = share(bench.clean)
    return _header(bench) | {
        "pgd": nothing,
        "reported": nothing,
        "tests": [_skipped(name, reason) for name in TITLES],
        "alarms": [],
        "right": {},
        "surface": None,
        "self_checks": [],
    }


def _percent(right: Tensor) -> str:
    return f"{100 * right.double().mean().item():.1f}%"


def _test(name: str, misled: bool, overstated: bool, reason: str, **numbers) -> dict:
    return {
        "test": name,
        "title": TITLES[name],
        "verdict": "alarm" if misled or overstated else "no alarm",
        "misled": bool(misled),
        "overstated": bool(overstated),
        "reason": reason,
        "numbers": numbers,
    }


def _against(name: str, right: Tensor, reported: Tensor, rival: Tensor | None, who: str, **more):
    """An attack on the ball, judged against the worst case and, where fair, against ``rival``."""
    misled, overstated = rival is not None and below(right, rival), below(right, reported)
    reason = f"leaves {_percent(right)}; reported {_percent(reported)}"
    if rival is not None:
        reason += f", {who} {_percent(rival)}"
    numbers = {"robust_accuracy": share(right), "reported": share(reported)}
    if rival is not None:
        numbers["rival"] = share(rival)
    return _test(name, misled, overstated, reason, **numbers, **more)


def _restarts(bench: Bench, reported: Tensor) -> dict:
    right = bench.run("restarts", bench.apgd("ce", bench.effort.restarts))
    return _against("restarts", right, reported, None, "", pgd=share(bench.pgd))


def _dlr(bench: Bench, reported: Tensor) -> dict:
    with torch.no_grad():
        classes = bench.model(bench.x[:1]).shape[1]
    if classes < 3:
        return _skipped("dlr", f"the DLR loss needs 3 classes, there are {classes}")
    right = bench.run("dlr", bench.apgd("dlr", bench.effort.restarts))
    return _against("dlr", right, reported, bench.right["restarts"], "CE with as many restarts")


def _margin(bench: Bench, reported: Tensor) -> dict:
    right = bench.run("margin", bench.ascent(margins, bench.effort.restarts))
    return _against("margin", right, reported, bench.right["restarts"], "CE with as many restarts")


def _targeted(bench: Bench, reported: Tensor) -> dict:
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
    return _against("targeted", right, reported, None, "", targets=classes - 1)


def _step_size(bench: Bench, reported: Tensor) -> dict:
    tried = {}
    for factor in STEP_SIZES:
        spec = Attack("pgd", bench.norm, bench.eps, bench.effort.steps, factor * bench.eps)
        tried[f"step_size_{factor:g}"] = bench.run(f"step_size_{factor:g}", bench.library(spec))
    name = min(tried, key=lambda key: int(tried[key].sum()))
    sweep = {key.removeprefix("step_size_"): share(right) for key, right in tried.items()}
    return _against("step_size", tried[name], reported, bench.pgd, "PGD", sweep=sweep)


def _iterations(bench: Bench, reported: Tensor) -> dict:
    spec = Attack("pgd", bench.norm, bench.eps, 10 * bench.effort.steps)
    # What PGD has fooled is fooled; the others are attacked for longer.
    right = bench.run("iterations", bench.library(spec), among=bench.pgd)
    more = {"iterations": spec.steps, "pgd": share(bench.pgd)}
    return _against("iterations", right, reported, None, "", **more)


_WHITE_BOX = (_restarts, _dlr, _margin, _targeted, _step_size, _iterations)


def _square(bench: Bench, reported: Tensor) -> dict:
    spec = Attack("square", bench.norm, bench.eps, bench.effort.queries)
    right = bench.run("square", bench.library(spec))
    return _against("square", right, reported, bench.pgd, "PGD", queries=spec.steps)


def _transfer(bench: Bench, reported: Tensor, siblings: dict[str, nn.Module]) -> dict:
    if not siblings:
        return _skipped("transfer", "there is no sibling network in this run")
    spec = Attack("pgd", bench.norm, bench.eps, bench.effort.steps)
    tried = {
        name: bench.run(f"transfer_{name}", bench.library(spec), sibling)
        for name, sibling in siblings.items()
    }
    name = min(tried, key=lambda key: int(tried[key].sum()))
    sources = {key: share(right) for key, right in tried.items()}
    found = _against("transfer", tried[name], reported, bench.pgd, "PGD", sources=sources)
    return {**found, "reason": f"strongest source {name}: {found['reason']}"}


def _skipped(name: str, reason: str) -> dict:
    return _test(name, False, False, reason) | {"verdict": "skipped"}


def _growing_eps(bench: Bench) -> dict:
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
    reason = f"PGD leaves {_percent(left[-1])} where the ball holds every image (eps {limit:.3g})"
    if alarm:
        level = points[-1]["robust_accuracy"]
        flat = [p["eps"] for p in points if p["robust_accuracy"]["low"] <= level["high"]]
        reason += f": a plateau from eps {flat[0]:.3g} on"
    return _test("growing_eps", alarm, False, reason, points=points)


class _Scaled(nn.Module):
    def __init__(self, model: nn.Module, scale: float):
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.model(x)


def _rescaled(bench: Bench, reported: Tensor) -> dict:
    """Logits times a number: the same classifier, so nothing real can change.

    DLR and margin are blind to the scale and must leave the same images. The cross-entropy is
    not; it counts where it gets below everything that was found without rescaling.
    """
    worst = torch.stack([reported, *bench.right.values()]).all(0)
    with torch.no_grad():
        classes = bench.model(bench.x[:1]).shape[1]
    attacks = {
        "ce": bench.library(Attack("pgd", bench.norm, bench.eps, bench.effort.steps)),
        "margin": bench.ascent(margins, 1),
    }
    if classes >= 3:
        attacks["dlr"] = bench.apgd("dlr", 1)
    left = {
        name: {
            scale: bench.leaves(attack, _Scaled(bench.model, scale))
            for scale in (SCALES if name == "ce" else FAR_SCALES)
        }
        for name, attack in attacks.items()
    }
    same = {
        name: min(float((right == by_scale[1.0]).double().mean()) for right in by_scale.values())
        for name, by_scale in left.items()
        if name != "ce"
    }
    moved = min(same.values()) < BATCH_AGREEMENT
    scale = min(SCALES, key=lambda s: int(left["ce"][s].sum()))
    overstated = below(left["ce"][scale], worst)
    reason = (
        f"CE at best {_percent(left['ce'][scale])} (scale {scale:g}), unscaled worst case "
        f"{_percent(worst)}; "
        + ", ".join(f"{n.upper()} same on {100 * s:.1f}% of images" for n, s in same.items())
    )
    shares = {
        name: {f"{scale:g}": share(right) for scale, right in by_scale.items()}
        for name, by_scale in left.items()
    }
    numbers = {"scales": shares, "same": same, "unscaled_worst_case": share(worst)}
    return _test("rescaled", moved, overstated, reason, **numbers)


def _gradient(bench: Bench, images: Tensor, loss: Callable) -> Tensor:
    parts = []
    size = bench.effort.batch_size
    for part, labels in zip(images.split(size), bench.y[bench.clean].split(size), strict=True):
        with torch.enable_grad():
            part = part.detach().requires_grad_(True)
            parts.append(torch.autograd.grad(loss(bench.model(part), labels).sum(), part)[0])
    return torch.cat(parts)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def _gradients(bench: Bench) -> dict:
    """Length of the input gradient where PGD starts; too short a one moves nothing."""
    starts = bench.starts()[bench.clean]
    numbers, gone = {}, {}
    for name, loss in (("ce", _cross_entropy), ("margin", margins)):
        gradient = _gradient(bench, starts, loss)
        length = l2_norm(gradient.double()).nan_to_num(0, 0, 0)
        gone[name] = length < VANISHING
        low, middle, high = length.quantile(length.new_tensor([0.05, 0.5, 0.95])).tolist()
        numbers[name] = {"q05": low, "median": middle, "q95": high, "vanishing": share(gone[name])}
    reason = "; ".join(
        f"{name.upper()}: median {n['median']:.2g}, vanishing in {_percent(gone[name])}"
        for name, n in numbers.items()
    )
    return _test("gradients", any(some(g) for g in gone.values()), False, reason, **numbers)


def _surface(bench: Bench) -> tuple[dict, dict]:
    """The margin on the plane of the gradient and of a random direction, the mean over images.

    A step of a quarter of the budget along the gradient must raise the margin, and more than one
    along a random direction, for more images than a coin would.
    """
    x, y = bench.x[bench.clean], bench.y[bench.clean]
    gradient = _gradient(bench, x, _cross_entropy)
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

    grid = [[round(float(height(a, b).double().mean()), 5) for b in SURFACE] for a in SURFACE]
    climbed, here = height(0.25, 0), height(0, 0)
    steeper = (climbed > here) & (climbed > height(0, 0.25))
    counted = share(steeper)
    reason = (
        f"the gradient raises the margin more than a random direction in {_percent(steeper)} of "
        f"images [{100 * counted['low']:.0f}%, {100 * counted['high']:.0f}%]"
    )
    surface = {"positions": list(SURFACE), "margin": grid}
    # A coin says 50%: a direction that is not better than that is no gradient.
    return surface, _test("surface", counted["low"] <= 0.5, False, reason, steeper=counted)
