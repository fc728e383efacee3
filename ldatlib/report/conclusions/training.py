"""Notebook 02: how long Algorithm 1's perturbations are, and whether centroids collapse."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ldatlib.defences.adversaries import Boundary
from ldatlib.evaluation.robustness import wilson_interval
from ldatlib.report import glossary
from ldatlib.study.records import Train
from ldatlib.study.records.training import LogLine
from ldatlib.study.trainings import Training


def perturbations(trainings: Iterable[Training], logs: Mapping[str, Any]) -> list[str]:
    """Mean L2 length in the first epoch and the last, of every training against an attack.

    ``logs``: by the training's name. Algorithm 1's beside its radius of projection, and apart for
    images right and wrong before the attack where the log tells them apart: their mean is neither.
    """
    found = []
    for training in trainings:
        log: Sequence[LogLine] = logs[training.name]
        if "attack_norm" not in log[-1]:
            continue
        first, last = log[0], log[-1]
        text = (
            f"{glossary.defence(training.name)}: mean length {first['attack_norm']:.2f} in the "
            f"first epoch, {last['attack_norm']:.2f} in the last"
        )
        adversary = training.config.defence.adversary
        if isinstance(adversary, Boundary):
            text += f"; projection radius {adversary.radius:g}"
            if "attack_norm_right" in last:
                text += f"; in the last epoch {_apart(last)}"
            # Of a network that is attacked nowhere nothing can be cut.
            if last["attack_norm"] > 0:
                cut = 1 - last["perturbation_norm"] / last["attack_norm"]
                text += f"; projection and pixel range take {cut:.0%} of the mean"
        found.append(text + ".")
    return found


def _apart(line: LogLine) -> str:
    """Lengths around right and wrong images, and how many of each exceed the radius."""
    share = {"right": line["attacked_right"], "wrong": 1 - line["attacked_right"]}
    return ", ".join(
        f"{line[f'attack_norm_{side}']:.2f} around the {share[side]:.0%} {side} before the attack "
        f"({line[f'projected_{side}']:.0%} of them beyond the radius)"
        for side in ("right", "wrong")
    )


def centroids(records: Iterable[Train], logs: Mapping[str, Any], classes: int) -> list[str]:
    """Has the likelihood term won against the classifier? Of every training with centroids."""
    found = []
    for record in records:
        log: Sequence[LogLine] = logs[record.defence]
        distances = [line.get("smallest_centroid_distance") for line in log]
        if None in distances:
            continue
        largest = max(d for d in distances if d is not None)
        clean = float(record.last["val_clean_accuracy"])
        low, _ = wilson_interval(round(clean * record.val_images), record.val_images)
        won = (
            "no better than guessing: the likelihood term has won"
            if low <= 1 / classes
            else "the classifier holds"
        )
        found.append(
            f"{glossary.defence(record.defence)}: smallest centroid distance {largest:.2f} at "
            f"most, {distances[-1]:.2f} at the end; validation clean accuracy {clean:.1%}, {won}."
        )
    return found
