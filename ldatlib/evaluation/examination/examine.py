"""Everything that is here against one model: what is left, and whether to believe it.

In each norm Table 1's attacks, the cheapest first, the search from larger balls and AutoAttack
meet the images that those before them left right; then the tests for masking look at images from
all over the data, and where there is a score, the attack on the detector at all of them. The
lowest number known is the number.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.attacks import NORMS, frozen
from ldatlib.errors import UserError, check_deadline
from ldatlib.evaluation.autoattack import classes_of
from ldatlib.evaluation.detection import Score
from ldatlib.evaluation.examination import parts, verdict
from ldatlib.evaluation.examination.detector import Detector, detector_of
from ldatlib.evaluation.examination.effort import Effort, Planned, effort_of, plan
from ldatlib.evaluation.gate.entry import gated, said
from ldatlib.evaluation.gate.wrappers import draw_from
from ldatlib.evaluation.partial import Partial, identity
from ldatlib.evaluation.robustness import predict, share, to_bits
from ldatlib.evaluation.side_by_side import check_processes
from ldatlib.execution import full_precision
from ldatlib.files import as_path, check_writable

# Raised where the same settings give other numbers: what an older version kept is not found.
NUMERICS = 2


@dataclass(frozen=True)
class Examined:
    """The ``record``, ready for JSON, the images and classes as they were attacked, and by norm
    the images that were found [N, ...].

    An image of ``x_adv`` is the clean one where attacks with columns of their own found nothing;
    what a test for masking found is in the record alone.
    """

    record: dict
    x: Tensor
    y: Tensor
    x_adv: dict[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """An attack is done: its norm and name, images still right, passes to go at most."""

    norm: str
    name: str
    left: int | None
    passes_left: int


@gated
def examine(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: Mapping[str, float],
    effort: str = "standard",
    score: Score | None = None,
    accept: float = 0.95,
    x_val: Tensor | None = None,
    y_val: Tensor | None = None,
    batch_size: int = 128,
    seed: int = 0,
    processes: int = 1,
    eot: int | None = None,
    state: str | Path | None = None,
    deadline: float | None = None,
    on_plan: Callable[[list[dict[str, str]], list[Planned]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Examined:
    """Examine a model on its test images.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits [N, classes]; any module or function. Nothing of
        it is changed.
    eps : budget by norm, ``{"linf": 8 / 255, "l2": 0.5}`` or one of them; in pixel units, above 0.
    effort : ``"quick"``, ``"standard"`` or ``"thorough"`` (``effort.EFFORTS``).
    score : the model is also a detector that rejects images below a threshold of this score: as of
        ``rejection.reject``. The threshold accepts a share ``accept`` of the right images of
        ``x_val``, ``y_val``; without them every second image of ``x`` freezes it, and the detector
        is attacked on the others.
    processes : on the CPU, processes of one thread that share the images of an attack.
    eot : passes over which a randomised model, refused otherwise, is averaged.
    state : a folder that keeps what is done, attack by attack, so that an examination that was
        interrupted goes on; at ``deadline`` (seconds of ``time.time()``) it ends by itself with
        ``OutOfTime``.
    on_plan : called once, before the first attack, with what the gate has said and the parts and
        their cost.
    on_progress : called after every attack.

    Returns
    -------
    Examined; fields of its record are those of ``study.records.examination.Examination`` but for
    provenance.

    Raises
    ------
    UserError : what the gate refuses (``docs/gate.md``), before anything is computed; an unknown
        norm or effort, a budget that is not positive, a score that the model does not have or that
        cannot be attacked on such images.
    """
    tries, budgets = effort_of(effort), check_budgets(eps)
    check_processes(processes, x.device)
    check_deadline(deadline)
    if state is not None:
        state = as_path(state, "state")
        check_writable(state / "partial")
    with torch.random.fork_rng(), frozen(model), full_precision(model):
        clean, detector, classes, planned = _prepared(
            *(model, x, y, tries, budgets),
            *(score, accept, x_val, y_val, batch_size, eot),
        )
        settings = {
            "eps": budgets,
            "effort": {"name": effort, **tries.as_dict()},
            "detector": detector.settings() if detector else None,
            "batch_size": batch_size,
            "attack_seed": seed,
            "processes": processes,
            "eot": eot,
        }
        key = _key(model, x, y, settings, detector)
        partial = None if state is None else Partial(state, f"examination-{key}", deadline)
        if on_plan:
            on_plan(said(), planned)
        bench = parts.Bench(
            model, x, y, clean, tries, batch_size, seed, processes, classes, partial
        )
        bench.tell = _teller(planned, on_progress)
        norms, x_adv, checks = {}, {}, bench.clean_checks()
        for norm, budget in budgets.items():
            norms[norm], x_adv[norm], more = _of_norm(bench, norm, budget, detector)
            checks += more
    record: dict[str, Any] = {
        "key": key,
        "images": len(x),
        "shape": list(x.shape[1:]),
        "num_classes": classes,
        "fingerprint": _digest(x, y),
        "weights": _digest(*model.state_dict().values()) if model.state_dict() else None,
        "settings": settings,
        "gate": said(),
        "clean_accuracy": share(clean),
        "clean_right": to_bits(clean),
        "norms": norms,
        "passes": sum(part.total for part in planned),
        "not_tried": _not_tried(tries, norms, detector),
        "self_checks": checks,
        "ok": all(check["passed"] for check in checks),
    }
    record["doubts"] = verdict.doubts(record)
    return Examined(record, x, y, x_adv)


@gated
def survey(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: Mapping[str, float],
    effort: str = "standard",
    score: Score | None = None,
    accept: float = 0.95,
    x_val: Tensor | None = None,
    y_val: Tensor | None = None,
    batch_size: int = 128,
    seed: int = 0,
    eot: int | None = None,
) -> tuple[list[dict[str, str]], list[Planned]]:
    """What ``examine`` would say before its first attack: the gate's findings, parts and cost.

    Parameters and errors are those of ``examine``.
    """
    tries, budgets = effort_of(effort), check_budgets(eps)
    with torch.random.fork_rng(), frozen(model), full_precision(model):
        *_, planned = _prepared(
            *(model, x, y, tries, budgets),
            *(score, accept, x_val, y_val, batch_size, eot),
        )
    return said(), planned


def _prepared(
    model, x, y, tries, budgets, score, accept, x_val, y_val, batch_size, eot
) -> tuple[Tensor, Detector | None, int, list[Planned]]:
    """Which images are right without an attack, the detector, the classes, the plan."""
    draw_from(model, 0)
    clean = predict(model, x, batch_size) == y
    detector = detector_of(model, x, y, clean, score, accept, x_val, y_val, list(budgets))
    classes = classes_of(model, x)
    planned = plan(
        tries,
        budgets,
        images=int(clean.sum()),
        shape=tuple(x.shape[1:]),
        classes=classes,
        eot=eot,
        score=score,
        detector_images=len(detector.rows) if detector else 0,
    )
    return clean, detector, classes, planned


def check_budgets(eps: object) -> dict[str, float]:
    """Budgets by norm, L-inf first; ``UserError`` where they are none."""
    if not isinstance(eps, Mapping) or not eps or not set(eps) <= set(NORMS):
        raise UserError(f'eps is a budget by norm, such as {{"linf": 8 / 255}}, not {eps!r}')
    for norm, value in eps.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < float("inf"):
            raise UserError(f"the budget of {norm} must be above 0, in pixel units, not {value!r}")
        if norm == "linf" and value > 1:
            raise UserError(f"an L-inf budget of {value:g} is all of [0,1]; write 8 / 255 for 8")
    return {norm: float(eps[norm]) for norm in NORMS if norm in eps}


def _of_norm(
    bench: parts.Bench, norm: str, eps: float, detector: Detector | None
) -> tuple[dict, Tensor, list[dict]]:
    """The entry of one norm, the images found, and self-checks."""
    ball = bench.ball(norm, eps)
    ball.attack()
    ball.search()
    ball.autoattack()
    ball.check()
    tests, why = ball.masking()
    found = ball.detector(detector) if detector else None
    entry = {"eps": eps} | verdict.of_norm(ball.right, ball.turns, tests)
    entry |= {"turns": ball.turns, "masking": tests, "no_masking": why, "detector": found}
    return entry | {"skipped": ball.skipped}, ball.x_adv, ball.checks


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _key(model, x, y, settings: dict, detector: Detector | None) -> str:
    """Ten digits that tell examinations apart: what is kept under another key is not found."""
    digest = hashlib.sha256(json.dumps([NUMERICS, settings], sort_keys=True).encode())
    digest.update(identity(model, x, y).encode())
    with torch.no_grad():
        if not model.state_dict():  # a function that hides its network is known by what it says
            digest.update(_digest(model(x[:32])).encode())
        if detector:
            digest.update(_digest(*detector.seen(model)).encode())
    return digest.hexdigest()[:10]


def _teller(planned: list[Planned], on_progress: Callable[[Progress], None] | None) -> parts.Tell:
    """Announces attacks; all of a part's passes are to go until its last attack is done."""
    going, told = list(planned), Counter[tuple[str, str]]()

    def tell(norm: str, part: str, name: str, left: int | None) -> None:
        while going and (going[0].norm, going[0].part) != (norm, part):
            going.pop(0)
        told[norm, part] += 1
        if going and told[norm, part] == going[0].attacks:
            going.pop(0)
        if on_progress:
            on_progress(Progress(norm, name, left, sum(part.total for part in going)))

    return tell


def _not_tried(effort: Effort, norms: dict[str, dict], detector: Detector | None) -> list[str]:
    """What was left out, and why, in words."""
    left_out = [
        f"{norm}: {name}, {why}"
        for norm, of in norms.items()
        for name, why in of["skipped"].items()
    ]
    if detector is None:
        left_out.append("a detector: no score was given")
    return [
        *left_out,
        "transfer from networks of the same task: none was given",
        "an attack written for this very defence, by somebody who has read its code",
    ]
