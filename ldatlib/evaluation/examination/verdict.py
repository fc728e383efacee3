"""What follows from what was measured: the lowest number, and whether to believe it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ldatlib.evaluation.masking.verdicts import of_pgd
from ldatlib.evaluation.robustness import share, to_bits

# What the gate says of a model that makes its robustness hard to believe. Probabilities do not:
# their logarithm is evaluated.
GATE_DOUBTS = (
    *("randomised", "score randomised", "gradient", "input"),
    *("chance", "shifted", "constant", "batch", "budget", "dark"),
)


def of_norm(
    right: Tensor, turns: Sequence[Mapping[str, Any]], masking: Mapping[str, Any] | None
) -> dict:
    """The verdict in one norm, for JSON.

    ``strongest`` is the last attack that took an image from all before it, without which the number
    would be higher; None where nothing fell. The search has ``converged`` where its last restart
    found nothing, and nothing after it did either. ``alarms``: tests for masking that sound, of
    ``tests`` that were run.
    """
    taken = [turn for turn in turns if turn["taken"]]
    reasons = _not_converged(turns)
    tests = masking["tests"] if masking else []
    return {
        "robust_accuracy": share(right),
        "right": to_bits(right),
        "strongest": taken[-1]["attack"] if taken else None,
        "converged": not reasons,
        "not_converged": reasons,
        "alarms": list(masking["alarms"]) if masking else [],
        "tests": sum(test["verdict"] != "skipped" for test in tests),
    }


def _not_converged(turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why more may be found; empty where the search has converged."""
    searched = [number for number, turn in enumerate(turns) if turn["family"] == "search"]
    if not searched:
        return ["no search was made"]
    (at,) = searched
    reasons = []
    if not turns[at]["converged"]:
        reasons.append(f"the search's last restart still took {turns[at]['restarts'][-1]}")
    later: dict[str, int] = {}
    for turn in turns[at + 1 :]:
        if turn["taken"]:
            later[turn["family"]] = later.get(turn["family"], 0) + turn["taken"]
    names = {"autoattack": "AutoAttack", "masking": "the tests for masking"}
    return reasons + [f"{names[f]} took {number} after the search" for f, number in later.items()]


def doubts(record: Mapping[str, Any]) -> list[str]:
    """Names of what speaks against the numbers of a whole examination, each once.

    ``gate: NAME``, ``NORM: not converged``, ``NORM: masking NAME``, ``NORM: detector without
    gradient`` (Square alone has attacked its score), ``self-check: NAME``. Tests for masking that
    say no more than that PGD, or a search inside the ball, misses something are left out.
    """
    found = [f"gate: {said['name']}" for said in record["gate"] if said["name"] in GATE_DOUBTS]
    for norm, of in record["norms"].items():
        found += [] if of["converged"] else [f"{norm}: not converged"]
        tests = of["masking"]["tests"] if of["masking"] else []
        found += [
            f"{norm}: masking {test['test']}"
            for test in tests
            if test["verdict"] == "alarm" and not of_pgd(test["test"], test["overstated"])
        ]
        if (of.get("detector") or {}).get("differentiable") is False:
            found.append(f"{norm}: detector without gradient")
    found += [f"self-check: {c['name']}" for c in record["self_checks"] if not c["passed"]]
    return list(dict.fromkeys(found))
