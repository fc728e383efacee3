"""When a test for gradient masking sounds, and how it says so."""

from torch import Tensor

from ldatlib.evaluation.robustness import share

ABOUT_NONE = 0.01

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


def against(name: str, right: Tensor, reported: Tensor, rival: Tensor | None, who: str, **more):
    """An attack on the ball, judged against the worst case and, where fair, against ``rival``."""
    misled, overstated = rival is not None and below(right, rival), below(right, reported)
    reason = f"leaves {percent(right)}; reported {percent(reported)}"
    if rival is not None:
        reason += f", {who} {percent(rival)}"
    numbers = {"robust_accuracy": share(right), "reported": share(reported)}
    if rival is not None:
        numbers["rival"] = share(rival)
    return report(name, misled, overstated, reason, **numbers, **more)
