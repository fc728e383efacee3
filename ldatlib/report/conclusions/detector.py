"""Notebooks 07 and 08: which way scores point, what confidence tells, what a threshold buys."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ldatlib.evaluation import detection
from ldatlib.report import detector, glossary
from ldatlib.report.claims import rules
from ldatlib.report.claims.rules import Support
from ldatlib.report.comparisons import share
from ldatlib.report.conclusions.saying import listed, told_apart
from ldatlib.report.words import NO_THRESHOLD, NORMS, NOT_FROZEN, set_title
from ldatlib.study.records import Detection

# They look for the nearest wrong image and stop there; the others walk as far as they may.
STOP = ("fab", "deepfool", "cw", "ddn")


def direction(record: Detection) -> list[str]:
    """Does a score tell natural from adversarial, and which way? Mann-Whitney, by attack."""
    from scipy.stats import mannwhitneyu

    found = []
    for score in record.scores:
        titles, supports = [], []
        for name in detector.attacked_sets(record):
            good, bad = detector.groups(record, score, name)
            if name != "clean" and len(good) and len(bad):
                above = detection.roc(good, bad)["auc"] > 0.5
                titles.append(set_title(name))
                supports.append(rules.directed(mannwhitneyu(good, bad).pvalue, above))
        sides = told_apart(titles, supports)
        found.append(
            f"The {glossary.title(score)} of successful adversarial images is "
            + sides.sentence(
                "lower than of natural ones, as a threshold needs it, under",
                "HIGHER, so that a threshold rejects the wrong images, under",
                "not told apart under",
            )
        )
    return found


def confident_successes(record: Detection) -> list[str]:
    """How many successful images of each attack the paper's threshold lets through."""
    clean_right = detector.scored(record, "posterior", "clean")[1]
    shares: dict[bool, list[tuple[float, str]]] = {True: [], False: []}
    for name in detector.attacked_sets(record):
        scores, right = detector.scored(record, "posterior", name)
        success = clean_right & ~right
        if name == "clean" or not success.any():
            continue
        passed = (scores[success] >= detection.PAPER_THRESHOLD).double().mean().item()
        text = f"{set_title(name)} {passed:.0%}"
        shares[name.partition("_")[2] in STOP].append((passed, text))
    found = []
    for stops, title in ((True, "stop behind the boundary"), (False, "walk on")):
        if shares[stops]:
            texts = ", ".join(text for _, text in shares[stops])
            found.append(f"Successes at 0.6 or more of attacks that {title}: {texts}.")
    if all(shares.values()):
        most, least = max(shares[True])[0], min(shares[False])[0]
        clear = most < least
        found.append(
            "Confidence tells the two kinds apart: every attack that walks on gets a larger share "
            "through."
            if clear
            else "Confidence does not tell the two kinds apart: some attack that stops gets no "
            "smaller a share through than one that walks on."
        )
    return found


def thresholds(record: Detection, score: str = "posterior") -> list[str]:
    """What each threshold costs on clean images and what it does to the worst cases."""
    found = []
    before = detector.outcomes(record, score, None)
    missed_before = detector.missed_at_worst(record, score, None)
    attacks = [name for name in before if name != "clean"]
    for title, cut in detector.thresholds(record, score).items():
        if title == NO_THRESHOLD:
            continue
        after = detector.outcomes(record, score, cut)
        clean = after["clean"]
        better = sum(
            after[name].defence_success.value > before[name].defence_success.value
            for name in attacks
        )
        missed = detector.missed_at_worst(record, score, cut)
        norms = ", ".join(
            f"{NORMS[norm]} {100 * missed_before[norm].value:.1f}% to "
            f"{100 * missed[norm].value:.1f}%"
            for norm in missed
        )
        found.append(
            f"At {title}: {100 * clean.rejection.value:.1f}% of the clean images rejected "
            f"({100 * clean.rejection.low:.1f} to {100 * clean.rejection.high:.1f}), "
            f"{clean.counts.rejected_right} of them though right; defence success is higher under "
            f"{better} of {len(attacks)} attacks; missed in the worst case, {norms}."
        )
    return found


def _robust(record: Detection, norm: str, cut: float) -> tuple[Tensor, Tensor, Tensor]:
    """Robust without rejection, with it, and with no attacked image refused: bool [N].

    Under all ordinary attacks of a norm.
    """
    clean, clean_right = detector.scored(record, "posterior", "clean")
    names = [n for n in detector.attacked_sets(record) if n.startswith(f"{norm}_")]
    scored = [detector.scored(record, "posterior", name) for name in names]
    missed = torch.stack([(scores >= cut) & ~right for scores, right in scored]).any(0)
    plain = torch.stack([right for _, right in scored]).all(0) & clean_right
    answered = torch.stack([scores >= cut for scores, _ in scored]).all(0)
    robust = clean_right & (clean >= cut) & ~missed
    return plain, robust, robust & answered


def gains(records: Mapping[str, Detection], own: str) -> list[str]:
    """What rejection adds to robust accuracy, network by network, and whether ``own`` gains most.

    And what is left of it if no attacked image may be refused: rejection counts those as kept.
    At each network's own threshold, which accepts 95% of its right validation images; against
    Table 1's attacks, which do not know it. Gains of two networks: the same images, Wilcoxon.
    """
    found = []
    for norm, title in NORMS.items():
        gained: dict[str, np.ndarray] = {}
        texts, strict = [], []
        for name, record in records.items():
            cut = detector.frozen_threshold(record, "posterior")
            if cut is None:
                continue
            several = plain, robust, _ = _robust(record, norm, cut)
            gained[name] = (robust.int() - plain.int()).numpy()
            without, kept, unrefused = (100 * share(images).value for images in several)
            texts.append(f"{glossary.defence(name)} {without:.0f}% to {kept:.0f}%")
            strict.append(f"{glossary.defence(name)} {unrefused:.0f}%")
        if texts:
            found.append(f"{title}, robust accuracy without and with rejection: {listed(texts)}.")
            found.append(f"{title}, if no attacked image may be refused: {listed(strict)}.")
        if own not in gained:
            continue
        others = [name for name in gained if name != own]
        supports: list[Support] = [rules.larger(gained[own], gained[name]) for name in others]
        sides = told_apart([glossary.defence(name) for name in others], supports)
        found.append(
            f"{title}: {glossary.defence(own)} gains "
            + sides.sentence("more than", "less than", "no different from")
        )
    return found + [
        f"{glossary.defence(name)} has no threshold of its own: {NOT_FROZEN}."
        for name, record in records.items()
        if detector.frozen_threshold(record, "posterior") is None
    ]
