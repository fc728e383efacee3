"""When a test for gradient masking sounds, and how it says so."""

from typing import Any

from torch import Tensor

from ldatlib.evaluation.robustness import share

ABOUT_NONE = 0.01
# The tests that ask McNemar: together they err on an honest network in at most 5% (Bonferroni).
# A loss or a step size that does better than PGD speaks against PGD alone, a start against searches
# inside the ball alone; a black box speaks against gradients.
_WHITE_BOX, _BLACK_BOX = ("dlr", "margin", "larger_balls", "step_size"), ("square", "transfer")
SIGNIFICANT = 0.05 / len(_WHITE_BOX + _BLACK_BOX)
# On many images any difference is significant, and networks that mask nothing lose some points to
# better losses (TRADES: 56.4% by its authors, 53.1% under AutoAttack; Croce and Hein 2020).
LARGE = 0.05
# Its rival is the same search from starts in the ball, not PGD: where that is stuck, it is so at a
# local maximum, and no gradient misleads.
_STUCK = "larger_balls"
# What an alarm may tell.
TELLS = ("misled", "overstated", "stuck")

TITLES = {
    "restarts": "CE, restarts",
    "dlr": "DLR, restarts",
    "margin": "C&W margin, restarts",
    "larger_balls": "starts from larger balls",
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


def mcnemar(right: Tensor, rival: Tensor, tried: int = 1) -> float:
    """How likely ``right`` would be this far below ``rival`` [N] by chance, on the same images.

    McNemar's exact test, one-sided, over the images on which they differ. Where ``right`` is the
    lowest of several tools that were ``tried``, times their number (Bonferroni).
    """
    from scipy.stats import binomtest

    fewer, more = int((rival & ~right).sum()), int((right & ~rival).sum())
    if fewer + more == 0:
        return 1.0
    p = binomtest(fewer, fewer + more, 0.5, alternative="greater").pvalue
    return min(float(p) * tried, 1.0)


def below(right: Tensor, reference: Tensor) -> bool:
    """Is the share of ``right`` below the lower end of the 95% interval of ``reference``?"""
    return share(right)["value"] < share(reference)["low"]


def some(affected: Tensor) -> bool:
    """Is a share that should be 0 above "about none", its 95% interval considered?"""
    return share(affected)["low"] > ABOUT_NONE


def of_pgd(test: str, overstated: bool) -> bool:
    """Whether the alarm of a test says no more than that PGD, or a search in the ball, misses."""
    return test in _WHITE_BOX and not overstated


def tells(test: str, misled: bool, overstated: bool) -> list[str]:
    """What a test tells, of ``TELLS``; nothing where it is silent.

    ``misled``: a gradient or a loss misleads, which is masking. ``overstated``: the reported worst
    case is too high. ``stuck``: a search from starts in the ball stays at local maxima, which is
    no masking; records have it as ``misled``, of starts from larger balls.
    """
    said = {"misled": misled and test != _STUCK, "overstated": overstated}
    said["stuck"] = misled and test == _STUCK
    return [kind for kind in TELLS if said[kind]]


def percent(right: Tensor) -> str:
    return f"{100 * right.double().mean().item():.1f}%"


def report(name: str, misled: bool, overstated: bool, reason: str, **numbers) -> dict:
    return {
        "test": name,
        "title": TITLES[name],
        "verdict": "alarm" if misled or overstated else "no alarm",
        "misled": bool(misled),
        "overstated": bool(overstated),
        "reason": reason,
        "numbers": numbers,
    }


def skipped(name: str, reason: str) -> dict:
    return report(name, False, False, reason) | {"verdict": "skipped"}


def against(
    name: str,
    right: Tensor,
    reported: Tensor,
    rival: Tensor | None = None,
    who: str = "",
    *,
    tried: int = 1,
    white_box: Tensor | None = None,
    **more,
) -> dict:
    """An attack on the ball, judged against the worst case and, where fair, against ``rival``.

    ``white_box`` [N]: right under all attacks that see gradients; given for one that sees none.
    """
    taken = reported & ~right
    reason = f"leaves {percent(right)}, {int(taken.sum())} of the reported {percent(reported)} fall"
    numbers: dict[str, Any] = {
        "robust_accuracy": share(right),
        "reported": share(reported),
        "taken": share(taken),
    }
    misled = False
    if rival is not None:
        p = mcnemar(right, rival, tried)
        gap = share(rival)["value"] - share(right)["value"]
        misled = p < SIGNIFICANT and gap > LARGE
        reason += f"; {who} {percent(rival)} (McNemar p = {p:.2g})"
        numbers |= {"rival": share(rival), "p_value": p}
    if white_box is not None:
        beyond = white_box & ~right
        misled |= some(beyond)
        reason += f"; takes {int(beyond.sum())} that no attack with gradients got"
        numbers["beyond_white_box"] = share(beyond)
    return report(name, misled, some(taken), reason, **numbers, **more)
