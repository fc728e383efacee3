"""The worst case of several attacks, for the least time: what ``robustness.evaluate`` does not say.

``evaluate`` gives every attack a column of its own, so every attack meets every image, and images
are kept as the attack ends. Where only the worst case is asked for, an image that has fallen needs
no second attack. Here each attack, the cheapest first, meets the images that those before it left
right; and PGD lets go of an image at its first wrong iterate and takes the next one in its place,
so that its batches stay full. An image that any iterate fools has fallen, so this worst case is at
most that of the last iterates.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldatlib.attacks import frozen, project, random_in_ball, unit_direction
from ldatlib.errors import UserError
from ldatlib.evaluation.cost import forward_equivalents
from ldatlib.evaluation.gate.entry import gated, said
from ldatlib.evaluation.gate.wrappers import draw_from
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.partial import Partial
from ldatlib.evaluation.robustness import (
    batch_agreement,
    check_attacks,
    finite_logits,
    inside_ball,
    predict,
    share,
    to_bits,
)
from ldatlib.evaluation.running import run_restarts
from ldatlib.evaluation.search import bookkeeping
from ldatlib.evaluation.side_by_side import check_processes, spread
from ldatlib.execution import full_precision

# Many short restarts find more than few long ones, for as many passes (``docs/evaluation.md``).
SEARCH_STEPS = 25


@dataclass(frozen=True)
class WorstCase:
    """``right`` [N] bool under all attacks; ``x_adv`` [N, ...], clean where nothing was found."""

    right: Tensor
    x_adv: Tensor
    record: dict


@gated
def worst_case(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attacks: Iterable[Attack],
    *,
    batch_size: int = 128,
    seed: int = 0,
    processes: int = 1,
    eot: int | None = None,
    search: bool = True,
    on_attack: Callable[[str, int], None] | None = None,
    partial: Partial | None = None,
) -> WorstCase:
    """Images right under every one of the attacks of one ball, and under a search for the rest.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits; any ``nn.Module``. Used in eval mode and in
        float32, left as it was.
    attacks : of one norm and one budget.
    processes : on the CPU, processes of one thread that share the images. What PGD finds does not
        depend on it beyond rounding; attacks that draw random numbers a batch draw others.
    eot : passes over which a randomised model, refused otherwise, is averaged.
    search : whether the search from larger balls (``Attack("margin", ...)``) takes the last turn,
        where it is not among the attacks.
    on_attack : called after every turn with the attack's key and the number of images still right.
    partial : keeps what every turn has left, and finds it again, so that an evaluation that was
        interrupted goes on.

    Returns
    -------
    WorstCase whose ``record`` holds, ready for JSON: ``clean_accuracy`` and ``robust_accuracy``
    (value, 95% Wilson interval, count); ``attacks``, in the order of their turns, with settings,
    the images that each left right as bits, and seconds, and of a search the new images of each of
    its ``restarts`` and whether it ``converged``; ``self_checks``, whose failure turns ``ok``
    false.

    Raises
    ------
    UserError : what the gate refuses (``docs/gate.md``), no attacks, attacks of several balls,
        less than one process, or several on another device than the CPU.
    """
    attacks = list(check_attacks(attacks, x))
    balls = {(attack.norm, attack.eps) for attack in attacks}
    if len(balls) != 1:
        raise UserError(f"a worst case is of one norm and one eps, not of {len(balls)}")
    check_processes(processes, x.device)
    ((norm, eps),) = balls
    with frozen(model), full_precision(model):
        clean = predict(model, x, batch_size) == y
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        if search and not any(attack.searches for attack in attacks):
            attacks.append(Attack("margin", norm, eps, SEARCH_STEPS))
        attacks.sort(key=lambda a: (a.searches, forward_equivalents(a, classes)))
        right, x_adv, turns = clean.clone(), x.clone(), []
        for number, attack in enumerate(attacks):
            name = f"{number}-{attack.key}"
            if known := _kept(partial, name, x, clean):
                right, x_adv, turn = known
                turns.append(turn)
                continue
            started = time.perf_counter()
            draw_from(model, number)
            rows = right.nonzero().squeeze(1)
            # Every process gets images from all over the data set.
            parts = [p for p in (rows[i::processes] for i in range(processes)) if len(p)]
            start = _start(x, attack, seed)
            work = [
                (model, x[part], y[part], start[part], attack, batch_size, seed) for part in parts
            ]
            by = torch.full_like(y, -1)
            for part, results in zip(parts, spread(_found, work, processes), strict=True):
                found, restart = (tensor.to(x.device) for tensor in results)
                fallen = predict(model, found, batch_size) != y[part]
                right[part[fallen]] = False
                x_adv[part[fallen]], by[part[fallen]] = found[fallen], restart[fallen]
            turns.append(
                {
                    "attack": attack.key,
                    "settings": attack.as_dict() | {"step_size": attack.absolute_step},
                    "right": to_bits(right),
                    "seconds": round(time.perf_counter() - started, 3),
                    **(bookkeeping(by, attack.restarts) if attack.searches else {}),
                }
            )
            if on_attack:
                on_attack(attack.key, int(right.sum()))
            if partial:
                partial.keep(name, {"right": right, "x_adv": x_adv}, {"turn": turns[-1]})
        draw_from(model, len(attacks))
        key = f"{norm} worst case"
        checks = [
            inside_ball(x, x_adv, eps, norm, key),
            finite_logits(model, x_adv, key),
            batch_agreement(model, x_adv, y, right, key),
        ]
    record = {
        "clean_accuracy": share(clean),
        "clean_right": to_bits(clean),
        "robust_accuracy": share(right),
        "right": to_bits(right),
        "attacks": turns,
        "self_checks": checks,
        "ok": all(check["passed"] for check in checks),
        "batch_size": batch_size,
        "attack_seed": seed,
        "processes": processes,
        "gate": said(),
    }
    return WorstCase(right, x_adv, record)


def _kept(partial: Partial | None, name: str, x: Tensor, clean: Tensor) -> tuple | None:
    """What a turn has left: ``right``, ``x_adv`` and its entry; None where nothing fits."""
    tensors, header = (partial and partial.find(name)) or ({}, {})
    right, x_adv, turn = tensors.get("right"), tensors.get("x_adv"), header.get("turn")
    if right is None or x_adv is None or not isinstance(turn, dict):
        return None
    fits = (right.shape, right.dtype) == (clean.shape, clean.dtype)
    if not fits or (x_adv.shape, x_adv.dtype) != (x.shape, x.dtype):
        return None
    return right.to(x.device), x_adv.to(x.device), turn


def _start(x: Tensor, attack: Attack, seed: int) -> Tensor:
    """Where PGD starts; drawn for all images, so that none depends on the fate of the others."""
    generator = torch.Generator(x.device).manual_seed(seed)
    return (x + random_in_ball(x, attack.eps, attack.norm, generator)).clamp(0, 1)


def _found(model, x, y, start, attack: Attack, batch_size: int, seed: int) -> tuple:
    """Images, and the restart that found each, as ``run_restarts`` has them."""
    with frozen(model), full_precision(model):
        if attack.method == "pgd":
            return _pgd(model, x, y, start, attack, batch_size), torch.full_like(y, -1)
        return run_restarts(model, x, y, attack, batch_size=batch_size, seed=seed)


def _pgd(model, x: Tensor, y: Tensor, start: Tensor, attack: Attack, batch_size: int) -> Tensor:
    """Each image's first wrong iterate, ``x`` where there is none; ``model`` is frozen."""
    eps, norm, step = attack.eps, attack.norm, attack.absolute_step
    found = x.clone()
    rows, images, taken = y.new_zeros(0), x[:0], y.new_zeros(0)
    waiting = torch.arange(len(x), device=x.device)
    while True:
        new, waiting = waiting.tensor_split([batch_size - len(rows)])
        rows, images = torch.cat([rows, new]), torch.cat([images, start[new]])
        taken = torch.cat([taken, torch.zeros_like(new)])
        if not len(rows):
            return found
        with torch.enable_grad():
            images.requires_grad_(True)
            logits = model(images)
            loss = F.cross_entropy(logits, y[rows], reduction="sum")
            gradient = torch.autograd.grad(loss, images)[0]
        images = images.detach()
        fallen = logits.detach().argmax(1) != y[rows]
        found[rows[fallen]] = images[fallen]
        going = (~fallen & (taken < attack.steps)).nonzero().squeeze(1)
        rows, images, taken = rows[going], images[going], taken[going] + 1
        gradient = gradient[going]
        # Where the gradient vanishes the image stays where it is.
        still = torch.zeros_like(gradient)
        along = gradient.sign() if norm == "linf" else unit_direction(gradient, still)
        delta = images + step * along - x[rows]
        images = (x[rows] + project(delta, eps, norm)).clamp(0, 1)
