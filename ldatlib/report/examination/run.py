"""``ldatlib.examine``: any model, any detector, one call."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from ldatlib.data.names import check_line
from ldatlib.errors import UserError
from ldatlib.evaluation.detection import Score
from ldatlib.evaluation.examination import examine as evaluation
from ldatlib.evaluation.examination.siblings import Siblings
from ldatlib.report.examination.announce import Announcer, Say
from ldatlib.report.examination.result import Examination
from ldatlib.study.provenance import provenance
from ldatlib.study.records.examination import Examination as Record


def examine(
    model: Any,
    x: Any,
    y: Any,
    eps: Mapping[str, float],
    *,
    effort: str = "standard",
    score: Score | None = None,
    accept: float = 0.95,
    x_val: Any = None,
    y_val: Any = None,
    siblings: Siblings = (),
    eot: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    processes: int = 1,
    state: str | Path | None = None,
    time_limit: float | None = None,
    say: Say | None = None,
    progress: bool | None = None,
    class_names: Sequence[str] = (),
    source: str = "a model given in Python",
    data: str = "images given in Python",
    threshold_data: str | None = None,
    command: str | None = None,
) -> Examination:
    """What is left of a model under everything that is here, and whether to believe it.

    Table 1's attacks, a search from larger balls, AutoAttack and the tests for gradient masking, on
    any module or function from images [N, C, H, W] in [0,1] to logits [N, classes]; what is handed
    over is checked before the first attack, and nothing of it is changed (docs/examine.md).

    Parameters
    ----------
    model, x, y : the model, test images and classes [N]; tensors or numpy arrays.
    eps : budget by norm in pixel units, ``{"linf": 8 / 255, "l2": 0.5}`` or one of them.
    effort : ``"quick"``, ``"standard"`` or ``"thorough"``.
    score : where the model is also a detector: ``"posterior"``, ``"log_likelihood"``, or a function
        of model and images [n, C, H, W] to [n], greater where it is surer.
    accept : share of right images that the detector accepts, in (0, 1). Its threshold is frozen on
        ``x_val`` and ``y_val``; without them on every second image, the others are attacked.
    siblings : other networks of the same task, by name (``{"other": net}``) or in a list, for the
        test by transfer: their adversarial images are shown to the model.
    eot : passes over which a randomised model, refused otherwise, is averaged.
    processes : on the CPU, processes of one thread that share the images of an attack.
    state : a folder that keeps finished attacks: the same call goes on where it was interrupted.
    time_limit : seconds after which it stops with ``OutOfTime``, after the attack that reaches it.
    say : called with a line at a time: findings, cost before it starts, progress.
    progress : whether a bar of forward passes shows the time left; None: where stderr is a
        terminal. In a notebook it is a widget.
    class_names : of the classes 0, 1, ..., for pictures.
    source, data, command : the model, the images and how to repeat it, in words for the record;
        ``threshold_data`` those of ``x_val``.

    Returns
    -------
    Examination: ``record``, ``verdict``, ``frame(name)``, ``figure(name)``, ``save(folder)``.

    Raises
    ------
    UserError : bad input, one line with the remedy, before anything is computed.
    """
    names = list(class_names)
    words = {"source": source, "data": data, "threshold_data": threshold_data or data}
    for what, text in (*words.items(), *(("class name", n) for n in names)):
        check_line(what, text)
    if time_limit is not None and not time_limit > 0:
        raise UserError(f"time_limit is in seconds, above 0, not {time_limit!r}")
    bar = sys.stderr.isatty() if progress is None else progress
    with Announcer(say, bar) as announcer:
        found = evaluation.examine(
            model,
            x,
            y,
            eps=eps,
            effort=effort,
            score=score,
            accept=accept,
            x_val=x_val,
            y_val=y_val,
            siblings=siblings,
            batch_size=batch_size,
            seed=seed,
            processes=processes,
            eot=eot,
            state=state,
            deadline=None if time_limit is None else time.time() + time_limit,
            on_plan=announcer.plan,
            on_progress=announcer.done,
        )
    if len(names) > found.record["num_classes"]:
        names = []  # of other classes: pictures call them by number
    if threshold_data is None and x_val is not None:
        threshold_data = "images given in Python"
    known = {"source": source, "data": data, "command": command, "class_names": names}
    known |= {"threshold_data": threshold_data}
    content = found.record | known | {"provenance": provenance(found.x.device)}
    record = msgspec.convert(content | {"seconds": _seconds(found.record)}, Record)

    def here(images: Tensor) -> Tensor:
        return images.detach().cpu()

    x_adv = {norm: here(images) for norm, images in found.x_adv.items()}
    return Examination(record, here(found.x), here(found.y), x_adv)


def _seconds(record: dict[str, Any]) -> float:
    """What all parts took, however often they were interrupted."""
    total = 0.0
    for norm in record["norms"].values():
        total += sum(turn["seconds"] or 0 for turn in norm["turns"])
        total += sum(part["seconds"] for part in (norm["masking"], norm["detector"]) if part)
    return round(total, 3)
