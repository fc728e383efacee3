"""Everything that is here against one model: what is left, and whether to believe it.

In each norm Table 1's attacks, the cheapest first, the search from larger balls and AutoAttack
meet the images that those before them left right; then the tests for masking look at images from
all over the data, and where there is a score, the attack on the detector at all of them. The
lowest number known is the number.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.attacks import frozen
from ldatlib.errors import UserError, check_deadline
from ldatlib.evaluation.autoattack import classes_of
from ldatlib.evaluation.detection import Score
from ldatlib.evaluation.examination import parts, verdict
from ldatlib.evaluation.examination.budgets import check_budgets, findings
from ldatlib.evaluation.examination.detector import Detector, detector_of
from ldatlib.evaluation.examination.effort import Planned, effort_of, plan
from ldatlib.evaluation.examination.progress import Progress, teller
from ldatlib.evaluation.examination.siblings import Siblings, siblings_of
from ldatlib.evaluation.gate.entry import LOOKED_AT, gated, said
from ldatlib.evaluation.gate.outputs import differ
from ldatlib.evaluation.gate.wrappers import Averaged, draw_from
from ldatlib.evaluation.partial import Partial, digest_of, identity, weights_of
from ldatlib.evaluation.robustness import predict, share, to_bits
from ldatlib.evaluation.side_by_side import check_processes
from ldatlib.execution import full_precision, keep_pages
from ldatlib.files import as_path, check_writable

# Raised where the same settings give other numbers, or parts of another shape: what an older
# version kept is not found.
NUMERICS = 2
# How far the logits by which a model is known again may differ on another device.
_SAME = 1e-3


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
    siblings: Siblings = (),
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
    siblings : other networks of the same task, by name or in a sequence: images crafted on them are
        shown to the model, as a test for masking. With ``eot`` randomised ones are averaged, too.
    processes : on the CPU, processes of one thread that share the images of an attack.
    eot : passes over which a randomised model, and looks over which a randomised ``score`` is
        averaged; both are refused otherwise.
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
        norm or effort, a budget that is not positive or holds every image, a score that the model
        does not have or that cannot be attacked on such images; of siblings as
        ``siblings.siblings_of``.
    """
    tries, budgets = effort_of(effort), check_budgets(eps, x)
    check_processes(processes, x.device)
    # numpy's numbers are none of JSON's.
    batch_size, seed, processes = int(batch_size), int(seed), int(processes)
    keep_pages()
    check_deadline(deadline)
    if state is not None:
        state = as_path(state, "state")
        check_writable(state / "partial")
    with torch.random.fork_rng(), frozen(model), full_precision(model):
        clean, detector, others, doubted, classes, planned = _prepared(
            *(model, x, y, tries, budgets),
            *(score, accept, x_val, y_val, siblings, batch_size, eot, seed),
        )
        settings = {
            "eps": budgets,
            "effort": {"name": effort, **tries.as_dict()},
            "detector": detector.settings() if detector else None,
            "siblings": {name: weights_of(other) for name, other in others.items()},
            "batch_size": batch_size,
            "attack_seed": seed,
            "processes": processes,
            "eot": eot,
        }
        weights = weights_of(model)
        key = _key(model, x, y, settings, detector, others)
        partial = None if state is None else Partial(state, f"examination-{key}", deadline)
        if state is not None:
            _check_same(Partial(state, f"examination-{key}"), model, x)
        if on_plan:
            on_plan(said() + doubted, planned)
        bench = parts.Bench(
            *(model, x, y, clean, tries, batch_size, seed, processes, classes, partial),
            siblings=others,
            tell=teller(planned, on_progress),
            of=identity(model, x, y),
        )
        norms, x_adv, checks = {}, {}, bench.clean_checks()
        for norm, budget in budgets.items():
            norms[norm], x_adv[norm], more = _of_norm(bench, norm, budget, detector)
            checks += more
    record: dict[str, Any] = {
        "key": key,
        "images": len(x),
        "shape": list(x.shape[1:]),
        "num_classes": classes,
        "fingerprint": digest_of(x, y),
        "weights": weights,
        "settings": settings,
        "gate": said() + doubted,
        "clean_accuracy": share(clean),
        "clean_right": to_bits(clean),
        "norms": norms,
        "passes": sum(part.total for part in planned),
        "not_tried": _not_tried(norms, detector, others),
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
    siblings: Siblings = (),
    batch_size: int = 128,
    seed: int = 0,
    eot: int | None = None,
) -> tuple[list[dict[str, str]], list[Planned]]:
    """What ``examine`` would say before its first attack: the gate's findings, parts and cost.

    Parameters and errors are those of ``examine``.
    """
    tries, budgets = effort_of(effort), check_budgets(eps, x)
    with torch.random.fork_rng(), frozen(model), full_precision(model):
        *_, doubted, _, planned = _prepared(
            *(model, x, y, tries, budgets),
            *(score, accept, x_val, y_val, siblings, batch_size, eot, seed),
        )
    return said() + doubted, planned


def _prepared(
    model, x, y, tries, budgets, score, accept, x_val, y_val, siblings, batch_size, eot, seed
) -> tuple[Tensor, Detector | None, dict[str, nn.Module], list[dict[str, str]], int, list[Planned]]:
    """Images right without an attack, the detector, siblings and findings, classes, the plan."""
    draw_from(model, 0)
    clean = predict(model, x, batch_size) == y
    detector = detector_of(
        *(model, x, y, clean, score, accept, x_val, y_val, list(budgets)),
        batch_size=batch_size,
        eot=eot,
        seed=seed,
    )
    classes = classes_of(model, x)
    others, doubted = siblings_of(siblings, model, x, y, classes, eot)
    averaged = any(isinstance(net, Averaged) for net in (model, *others.values()))
    planned = plan(
        tries,
        budgets,
        images=int(clean.sum()),
        shape=tuple(x.shape[1:]),
        classes=classes,
        eot=eot if averaged else None,
        detector=detector,
        siblings=len(others),
    )
    of_score = [asdict(finding) for finding in detector.findings] if detector else []
    return clean, detector, others, findings(budgets) + doubted + of_score, classes, planned


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


def _key(
    model, x, y, settings: dict, detector: Detector | None, others: dict[str, nn.Module]
) -> str:
    """Ten digits that tell examinations apart: what is kept under another key is not found."""
    digest = hashlib.sha256(json.dumps([NUMERICS, settings], sort_keys=True).encode())
    digest.update(identity(model, x, y).encode())
    with torch.no_grad():
        for seen in (model, *others.values()):
            if not seen.state_dict():  # a function that hides its network is known by what it says
                digest.update(digest_of(seen(x[:LOOKED_AT])).encode())
        if detector:
            digest.update(digest_of(*detector.seen(model)).encode())
    return digest.hexdigest()[:10]


def _check_same(partial: Partial, model: nn.Module, x: Tensor) -> None:
    """Raises ``UserError`` where what is kept is of another model with the same weights."""
    draw_from(model, 0)
    with torch.no_grad():
        logits = model(x[:LOOKED_AT]).cpu()
    known = partial.find("logits")
    if known is None:
        partial.keep("logits", {"logits": logits}, {})
        return
    kept = known[0].get("logits")
    if kept is None or kept.shape != logits.shape or differ(kept, logits, _SAME).any():
        raise UserError(
            f"{partial.folder} holds the state of a model with the same weights that gives other "
            "logits for the same images (has its code changed?); delete it, or choose another "
            "folder"
        )


def _not_tried(
    norms: dict[str, dict], detector: Detector | None, others: dict[str, nn.Module]
) -> list[str]:
    """What was left out, and why, in words."""
    left_out = [
        f"{norm}: {name}, {why}"
        for norm, of in norms.items()
        for name, why in of["skipped"].items()
    ]
    if detector is None:
        left_out.append("a detector: no score was given")
    if not others:
        left_out.append("transfer from networks of the same task: none was given")
    return [
        *left_out,
        "an attack written for this very defence, by somebody who has read its code",
    ]
