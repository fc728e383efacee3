"""Notebook 05: PGD in the place of Algorithm 1, like with like as far as it goes."""

from collections.abc import Mapping, Sequence

from ldatlib.defences.adversaries import PGD, Boundary
from ldatlib.report.claims import rules
from ldatlib.report.comparisons import right_images
from ldatlib.report.conclusions.saying import told_apart
from ldatlib.report.paired import pair
from ldatlib.report.words import column_title, trained_against
from ldatlib.study.records import Basic
from ldatlib.study.records.training import LogLine
from ldatlib.study.trainings import Training

OWN = "Algorithm 1"


def lengths(trainings: Mapping[str, Training], logs: Mapping[str, Sequence[LogLine]]) -> list[str]:
    """How long the examples are that each training saw; both by the attack's name.

    PGD's are as long as its budget lets them be, Algorithm 1's as the boundary is far.
    """
    found = []
    for name, training in trainings.items():
        adversary, last = training.config.defence.adversary, logs[name][-1]
        if "perturbation_norm" in last:
            limit = "at most the radius" if isinstance(adversary, Boundary) else "fixed budget"
            found.append(
                f"{name}: mean L2 length of the training examples {last['perturbation_norm']:.2f} "
                f"in the last epoch; {trained_against(adversary.as_dict())} ({limit})."
            )
    return found


def within_l2(trainings: Mapping[str, Training], records: Mapping[str, Basic]) -> list[str]:
    """Algorithm 1 against what was trained within L2, too, under PGD of either norm."""
    rivals = [
        name
        for name, training in trainings.items()
        if isinstance(training.config.defence.adversary, PGD)
        and training.config.defence.adversary.norm == "l2"
    ]
    cases = [(key, name) for key in ("l2_pgd", "linf_pgd") for name in rivals]
    supports = [
        rules.ahead(pair(right_images(records[OWN], key), right_images(records[name], key)))
        for key, name in cases
    ]
    sides = told_apart([f"{name} under {column_title(key)}" for key, name in cases], supports)
    return [f"Within L2 {OWN} is {sides.sentence('ahead of', 'behind')}"] if rivals else []
