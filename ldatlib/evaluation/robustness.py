"""Measure robustness: the paper's attacks through foolbox and pyautoattack, and honest counting.

Robust accuracy is a share of *all* images, those already wrong included as wrong; they are not
attacked. Each attack returns its image, whatever it thinks of it; here that image is put inside
the ball and the pixel range, run through the network once more, and only then counted. Budgets are
in pixel units of [0,1] images, float32 throughout.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ldatlib.attacks import NORMS, frozen, l2_norm
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.entry import gated, said
from ldatlib.evaluation.gate.wrappers import Averaged
from ldatlib.evaluation.named_attacks import Attack, apgd_loss, check_square
from ldatlib.evaluation.partial import Partial
from ldatlib.evaluation.running import run_restarts
from ldatlib.evaluation.search import bookkeeping
from ldatlib.execution import full_precision

# Rounding of x + delta in float32 moves a pixel by up to 6e-8; L2 sums some thousand of them.
BALL_TOLERANCE = 1e-5
BATCH_AGREEMENT = 0.995
# Two means of random passes differ on the images near a tie.
RANDOM_AGREEMENT = 0.9


def wilson_interval(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, both ends in [0,1]."""
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def share(right: Tensor) -> dict:
    """A proportion as records hold it: ``value`` in [0,1], 95% interval, and its denominator."""
    successes, count = int(right.sum()), len(right)
    low, high = wilson_interval(successes, count)
    return {"value": successes / count, "low": low, "high": high, "count": count}


def predict(model: nn.Module, x: Tensor, batch_size: int = 256) -> Tensor:
    """Predicted classes [N]."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(batch_size)])


@gated
def run_attack(
    model: nn.Module, x: Tensor, y: Tensor, attack: Attack, *, batch_size: int = 128, seed: int = 0
) -> Tensor:
    """The attack's images [N, C, H, W], inside the ball and [0,1]; ``x`` where it found nothing.

    Deterministic for the same seed, batch size and order, on the CPU. Torch's global random state
    is left as it was. The model is used in eval mode and left as it was.
    """
    (attack,) = check_attacks([attack], x)
    return run_restarts(model, x, y, attack, batch_size=batch_size, seed=seed)[0]


@dataclass
class Evaluation:
    """What ``evaluate`` measured. ``right`` has a bool tensor [N] per attack key."""

    record: dict
    right: dict[str, Tensor]
    x_adv: dict[str, Tensor]


@gated
def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attacks: Iterable[Attack],
    *,
    batch_size: int = 128,
    seed: int = 0,
    on_attack: Callable[[str], None] | None = None,
    partial: Partial | None = None,
    eot: int | None = None,
) -> Evaluation:
    """Attack a model with each attack and count what is left.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits [N, classes]; any module or function.
    attacks : their keys must differ.
    on_attack : called with an attack's key when it is done.
    partial : keeps each attack's images as soon as it is done, and finds them again, so that an
        evaluation that was interrupted goes on.
    eot : evaluate a randomised model, which is refused otherwise, as the mean of its probabilities
        over so many passes.

    Returns
    -------
    Evaluation whose ``record`` holds, ready for JSON: ``clean_accuracy``; per attack
    ``robust_accuracy`` (value, 95% Wilson interval, count), seconds, settings and the images still
    right (as a string of 0 and 1), and of a search the new images of each of its ``restarts`` and
    whether it ``converged``; ``worst_case`` per norm: right under every attack of that norm;
    ``self_checks``, whose failure turns ``ok`` false; and ``gate``, what was said before all.

    Raises
    ------
    UserError : what the gate refuses (``docs/gate.md``), or two attacks of one key.
    """
    attacks = check_attacks(attacks, x)
    if not isinstance(partial, Partial | None):
        raise UserError(f"partial must be a Partial, not {partial!r}")
    keys = [attack.key for attack in attacks]
    if len(set(keys)) < len(keys):
        raise UserError(f"two attacks share a key among {', '.join(keys)}; run them one by one")
    with frozen(model), full_precision(model):
        clean = predict(model, x, batch_size) == y
        right: dict[str, Tensor] = {}
        x_adv: dict[str, Tensor] = {}
        columns: dict[str, dict] = {}
        for attack in attacks:
            x_adv[attack.key], restart, seconds = _attacked(
                model, x, y, clean, attack, batch_size, seed, partial
            )
            right[attack.key] = clean & (predict(model, x_adv[attack.key], batch_size) == y)
            columns[attack.key] = {
                "settings": attack.as_dict() | {"step_size": attack.absolute_step},
                "robust_accuracy": share(right[attack.key]),
                "seconds": seconds,
                "right": to_bits(right[attack.key]),
            }
            if attack.searches:
                # What its own batches alone call wrong is not counted.
                found = restart.masked_fill(right[attack.key], -1)
                columns[attack.key] |= bookkeeping(found, attack.restarts)
            if attack.method == "apgd":
                columns[attack.key]["settings"]["loss"] = apgd_loss(model, x)
            if on_attack:
                on_attack(attack.key)
        worst = {}
        for norm in NORMS:
            of_norm = [right[a.key] for a in attacks if a.norm == norm]
            if of_norm:
                worst[norm] = share(torch.stack(of_norm).all(0))
        checks = _self_checks(model, x, y, clean, attacks, right, x_adv, batch_size, seed)
    record = {
        "clean_accuracy": share(clean),
        "clean_right": to_bits(clean),
        "attacks": columns,
        "worst_case": worst,
        "self_checks": checks,
        "ok": all(check["passed"] for check in checks),
        "batch_size": batch_size,
        "attack_seed": seed,
        "gate": said(),
    }
    return Evaluation(record, right, x_adv)


def _attacked(model, x, y, clean, attack, batch_size, seed, partial) -> tuple:
    """Images, the restart that found each, and seconds; only what is right is attacked.

    Found where it was kept.
    """
    if known := _kept(partial, attack, x, y):
        return known
    started = time.perf_counter()
    x_adv, restart = x.clone(), torch.full_like(y, -1)
    x_adv[clean], restart[clean] = run_restarts(
        model, x[clean], y[clean], attack, batch_size=batch_size, seed=seed
    )
    seconds = round(time.perf_counter() - started, 3)
    if partial:
        tensors = {"x_adv": x_adv, "restart": restart}
        partial.keep(attack.key, tensors, {"seconds": seconds})
    return x_adv, restart, seconds


def _kept(partial: Partial | None, attack: Attack, x: Tensor, y: Tensor) -> tuple | None:
    """What ``_attacked`` returns, where it was kept; None where nothing fits, which is replaced."""
    tensors, header = (partial and partial.find(attack.key)) or ({}, {})
    # Not there where an earlier version kept it: such an attack has no restarts.
    restart = tensors.get("restart", torch.full_like(y, -1))
    x_adv, seconds = tensors.get("x_adv"), header.get("seconds")
    fits = x_adv is not None and _alike(x_adv, x) and _alike(restart, y)
    if not fits or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        return None
    return x_adv.to(x.device), restart.to(x.device), seconds


def _alike(kept: Tensor, wanted: Tensor) -> bool:
    finite = bool(kept.isfinite().all())
    return kept.shape == wanted.shape and kept.dtype == wanted.dtype and finite


def check_attacks(attacks: Iterable[Attack], x: Tensor) -> tuple[Attack, ...]:
    """The attacks, where all are some that these images can take; ``UserError`` names another."""
    found = tuple(attacks) if isinstance(attacks, Iterable) else (attacks,)
    for attack in found:
        if not isinstance(attack, Attack):
            raise UserError(
                f'attacks are a list of Attack("pgd", "linf", 8 / 255) and the like, not {attack!r}'
            )
        if attack.method == "square":
            check_square(x, attack.norm)
    return found


def _self_checks(model, x, y, clean, attacks, right, x_adv, batch_size, seed) -> list[dict]:
    checks = []
    pgd = [attack for attack in attacks if attack.method == "pgd"] or [Attack("pgd", "linf", 0)]
    unmoved = run_attack(
        model, x, y, replace(pgd[0], eps=0.0, steps=1), batch_size=batch_size, seed=seed
    )
    still = int((predict(model, unmoved, batch_size) == y).sum())
    checks.append(
        {
            "name": "a budget of 0 gives the clean accuracy",
            "passed": abs(still - int(clean.sum())) <= may_differ(model) * len(y),
            "value": still / len(y),
        }
    )
    for name, images in {"clean": x, **x_adv}.items():
        checks.append(finite_logits(model, images, name))
    for attack in attacks:
        images = x_adv[attack.key]
        checks.append(inside_ball(x, images, attack.eps, attack.norm, attack.key))
        checks.append(batch_agreement(model, images, y, right[attack.key], attack.key))
    return checks


def may_differ(model: nn.Module) -> float:
    """The share of the images on which two evaluations of the model may differ."""
    return 1 - RANDOM_AGREEMENT if isinstance(model, Averaged) else 0.0


def inside_ball(x: Tensor, x_adv: Tensor, eps: float, norm: str, key: str) -> dict:
    """Self-check: every perturbation is inside its ball, every pixel in [0,1]."""
    delta = x_adv - x
    size = l2_norm(delta) if norm == "l2" else delta.flatten(1).abs().amax(1)
    excess = float(size.max()) - eps
    inside = excess <= BALL_TOLERANCE and x_adv.min() >= 0 and x_adv.max() <= 1
    return {"name": f"{key}: inside the ball and [0,1]", "passed": bool(inside), "value": excess}


def finite_logits(model: nn.Module, images: Tensor, key: str, batch_size: int = 256) -> dict:
    """Self-check: no logit is NaN or infinite; such an image would count as anything."""
    with torch.no_grad():
        finite = torch.cat([model(part).isfinite().all(1) for part in images.split(batch_size)])
    return {
        "name": f"{key}: logits are finite",
        "passed": bool(finite.all()),
        "value": float(finite.float().mean()),
    }


def batch_agreement(
    model: nn.Module,
    images: Tensor,
    y: Tensor,
    right: Tensor,
    key: str,
    among: Tensor | None = None,
) -> dict:
    """Self-check: the same images in other batches and another order are judged alike.

    ``among`` [N]: those that were looked at; ``right`` is False elsewhere.
    """
    again = predict(model, images.flip(0), 37).flip(0) == y
    again = again if among is None else again & among
    agreement = float((again == right).double().mean())
    return {
        "name": f"{key}: other batches agree",
        "passed": agreement >= min(BATCH_AGREEMENT, 1 - may_differ(model)),
        "value": agreement,
    }


def rescore(model: nn.Module, images: Tensor, y: Tensor, right: Tensor, key: str) -> dict:
    """Self-check: saved adversarial images, read back, give the recorded number."""
    again = int((predict(model, images) == y).sum())
    return {
        "name": f"{key}: the saved images re-score to the reported number",
        "passed": again == int(right.sum()),
        "value": again / len(y),
    }


def to_bits(right: Tensor) -> str:
    """A bool tensor [N] as a record holds it."""
    return "".join("1" if value else "0" for value in right.tolist())


def from_bits(bits: str) -> Tensor:
    """The bool tensor [N] that a record holds as a string of 0 and 1."""
    return torch.tensor([bit == "1" for bit in bits])
