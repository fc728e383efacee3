"""AutoAttack's standard ensemble (Croce and Hein 2020), attack by attack, through pyautoattack.

The four attacks run in the package's order, each on the images that the ones before left right:
APGD on the cross-entropy, APGD on the targeted DLR loss, targeted FAB, Square with 5000 queries.
What is added here: the state is saved after every attack, so that an interrupted evaluation goes
on where it stopped and ends at the same images; with fewer than ten classes every wrong class is a
target; and an attack whose loss is undefined for so few classes is left out and named.

The figures are those of the package run directly, image by image, for the same seed, batch size
and order.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ldatlib.attacks import NORMS, finite, frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.entry import gated, said
from ldatlib.evaluation.gate.wrappers import draw_from
from ldatlib.evaluation.named_attacks import PACKAGE_NORMS, check_square
from ldatlib.evaluation.partial import identity
from ldatlib.evaluation.robustness import predict, share, to_bits
from ldatlib.evaluation.side_by_side import check_processes, sends_elsewhere, spread
from ldatlib.execution import full_precision
from ldatlib.files import as_path, check_writable, load_tensors, save_tensors

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
TITLES = {"apgd-ce": "APGD-CE", "apgd-t": "APGD-T", "fab-t": "FAB-T", "square": "Square"}
# The fewest classes for which an attack is defined: the targeted DLR loss divides by the gap
# between the largest logit and the mean of the third and the fourth.
FEWEST_CLASSES = {"apgd-t": 4}
_MOST_TARGETS = 9


@dataclass
class Result:
    """``x_adv`` [N, ...], ``right`` [N] bool under all attacks, and the ``record`` for JSON.

    ``x_adv`` is the clean image where no attack found anything.
    """

    x_adv: Tensor
    right: Tensor
    record: dict


@gated
def standard(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str,
    batch_size: int = 128,
    seed: int = 0,
    attacks: Sequence[str] = STANDARD,
    state: str | Path | None = None,
    on_attack: Callable[[str], None] | None = None,
    processes: int = 1,
    eot: int | None = None,
    of: str | None = None,
) -> Result:
    """Run the standard ensemble, each attack on the images still right.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits [N, classes].
    eps : in pixel units, more than 0; ``norm`` is ``"linf"`` or ``"l2"``.
    attacks : a part of ``STANDARD``, in its order. The whole is what is called AutoAttack.
    state : a file that holds what is done. Where it exists, and belongs to this evaluation, its
        attacks are not run again; it is written after every attack and left behind.
    on_attack : called with an attack's name when it is done; not for those found in ``state``.
    processes : on the CPU, processes of one thread that share the batches of an attack; the images
        found are the same.
    eot : passes over which a randomised model, refused otherwise, is averaged.
    of : tells of which model and images a ``state`` is; by their ``identity`` unless given.

    Returns
    -------
    Result, whose record has ``clean_accuracy``, ``robust_accuracy``, the images still right after
    each attack (``attacks``, in order) and the package's own warnings there, ``skipped``
    (name -> reason), settings, seconds, and ``gate``, what was said before all.

    Raises
    ------
    UserError : what the gate refuses (``docs/gate.md``), unknown norm or attack, a budget that is
        not positive, a ``state`` of another evaluation, less than one process or several on
        another device than the CPU.
    """
    _check(eps, norm, attacks)
    check_processes(processes, x.device)
    if "square" in attacks:
        check_square(x, norm)
    if state is not None:
        state = as_path(state, "state")
        check_writable(state)
    with torch.random.fork_rng(), frozen(model):
        classes = classes_of(model, x)
        targets = most_targets(classes)
        settings = {"eps": eps, "norm": norm, "batch_size": batch_size, "seed": seed}
        settings |= {"attacks": list(attacks), "targets": targets, "queries": 5000}
        settings |= {"eot": eot} if eot else {}
        skipped = {
            name: f"its loss needs {FEWEST_CLASSES[name]} classes, there are {classes}"
            for name in attacks
            if classes < FEWEST_CLASSES.get(name, 2)
        }
        of = of or identity(model, x, y)
        tensors, header = _begin(model, x, y, batch_size, state, settings | {"of": of})
        for name in attacks:
            if name in header["done"] or name in skipped:
                continue
            started = time.perf_counter()
            draw_from(model, STANDARD.index(name))
            warned = _run(model, x, y, name, tensors, settings, processes)
            seconds = round(time.perf_counter() - started, 3)
            done = {"right": to_bits(tensors["right"]), "seconds": seconds, "warnings": warned}
            header["done"][name] = done
            if state is not None:
                save_tensors(state, tensors, header)
            if on_attack:
                on_attack(name)
    right = tensors["right"]
    record = {
        "clean_accuracy": share(tensors["clean"]),
        "robust_accuracy": share(right),
        "clean_right": to_bits(tensors["clean"]),
        "right": to_bits(right),
        "attacks": header["done"],
        "skipped": skipped,
        "settings": settings,
        "gate": said(),
    }
    return Result(tensors["x_adv"].to(x.device), right.to(x.device), record)


def most_targets(classes: int) -> int:
    """Wrong classes that the targeted attacks aim at: nine, as in the package, or all."""
    return min(_MOST_TARGETS, classes - 1)


def _check(eps: float, norm: str, attacks: Sequence[str]) -> None:
    if norm not in NORMS:
        raise UserError(f"unknown norm {norm!r}; known: {', '.join(NORMS)}")
    if not 0 < eps < float("inf"):
        raise UserError(f"AutoAttack needs an eps above 0, not {eps}")
    for name in attacks:
        if name not in STANDARD:
            raise UserError(f"unknown attack {name!r} of AutoAttack; known: {', '.join(STANDARD)}")
    if list(attacks) != [name for name in STANDARD if name in attacks]:
        raise UserError(f"AutoAttack's attacks run in the order {', '.join(STANDARD)}")


def classes_of(model: nn.Module, x: Tensor) -> int:
    """How many classes the model tells apart, asked with one image of ``x``."""
    with torch.no_grad():
        return model(x[:1]).shape[1]


def _begin(model, x, y, batch_size, state, settings) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of the state: read from its file, or those of the very beginning."""
    if state is not None and state.is_file():
        tensors, header = load_tensors(state)
        # Read as JSON gives it back: tuples have become lists.
        if header.get("settings") != json.loads(json.dumps(settings)):
            raise UserError(f"{state} is the state of another evaluation; delete it")
        if not _is_state(tensors, header, x):
            raise UserError(f"{state} lacks something of a state of AutoAttack; delete it")
        return tensors, header
    clean = (predict(model, x, batch_size) == y).cpu()
    tensors = {"x_adv": x.detach().cpu().clone(), "clean": clean, "right": clean.clone()}
    return tensors, {"kind": "autoattack", "settings": settings, "done": {}}


def _is_state(tensors: dict[str, Tensor], header: dict, x: Tensor) -> bool:
    """Images and bits of the kind that ``_run`` changes, and what each attack has left."""
    wanted = {"x_adv": (x.shape, x.dtype)}
    wanted |= {name: (x.shape[:1], torch.bool) for name in ("clean", "right")}
    found = {name: (value.shape, value.dtype) for name, value in tensors.items()}
    done = header.get("done")
    if found != wanted or not isinstance(done, dict):
        return False
    return all(
        isinstance(d, dict) and {"right", "seconds", "warnings"} <= set(d) for d in done.values()
    )


def _run(model, x, y, name, tensors, settings, processes) -> list[str]:
    """One attack on the images still right; what it fools goes into ``tensors``.

    Returns what the package warned of.
    """
    # The package splits the images still right into the same batches, and seeds every batch anew:
    # one attack alone on them, batch by batch, is that attack within the whole.
    rows = tensors["right"].nonzero().squeeze(1)
    batches = rows.split(settings["batch_size"]) if len(rows) else ()
    parts = ((model, x[b.to(x.device)], y[b.to(x.device)], name, settings) for b in batches)
    warned: list[str] = []
    for batch, result in zip(batches, spread(_batch, parts, processes), strict=True):
        x_adv, fooled, texts = result
        if sends_elsewhere():
            # Other machines round otherwise: what counts is what the model here says.
            images = x_adv.to(x.device)
            fooled &= (predict(model, images, len(images)) != y[batch.to(x.device)]).cpu()
        tensors["x_adv"][batch[fooled]] = x_adv[fooled]
        tensors["right"][batch[fooled]] = False
        warned += [text for text in texts if text not in warned]
    return warned


def _batch(model, x, y, name, settings) -> tuple[Tensor, Tensor, list[str]]:
    """The package's images of one batch, which of them fool the model, and its warnings."""
    from pyautoattack import AutoAttack

    package = AutoAttack(
        model,
        norm=PACKAGE_NORMS[settings["norm"]],
        eps=settings["eps"],
        seed=settings["seed"],
        version="standard",
        device=x.device,
    )
    package.attacks_to_run = [name]
    package.apgd_targeted.n_target_classes = settings["targets"]
    package.fab.n_target_classes = settings["targets"]
    with frozen(model), full_precision(model), _heard(package.logger) as warned:
        x_adv, predicted = package.run_standard_evaluation(x, y, batch_size=len(x))
    return x_adv.detach().cpu(), ((predicted != y) & finite(x_adv)).cpu(), warned


class _Ear(logging.Handler):
    """Collects warnings, each once."""

    def __init__(self, texts: list[str]):
        super().__init__(logging.WARNING)
        self.texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().removesuffix(" See flags_doc.md for details.")
        # It counts the images anew at every step.
        text = re.sub(r"there are \d+ points", "there are points", text)
        if text not in self.texts:
            self.texts.append(text)


@contextmanager
def _heard(logger: logging.Logger) -> Iterator[list[str]]:
    """The package's warnings, which are not shown inside."""
    ear, level, propagate = _Ear([]), logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel("WARNING")
    logger.propagate = False
    try:
        yield ear.texts
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)
        logger.propagate = propagate
