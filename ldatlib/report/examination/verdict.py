"""The verdict of an examination in sentences."""

from ldatlib.evaluation.autoattack import TITLES as ENSEMBLE
from ldatlib.evaluation.masking.verdicts import TITLES as TESTS
from ldatlib.evaluation.masking.verdicts import of_pgd, tells
from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report.words import budget
from ldatlib.study.records.common import Share
from ldatlib.study.records.examination import Examination, ExaminedDetector, ExaminedNorm
from ldatlib.study.records.scrutiny import MaskingTest

# What to try where a number must not be believed, by the gate's finding or the test's name.
_TRY = {
    "randomised": "average over more passes (eot)",
    "gradient": "give the part without a gradient a differentiable stand-in",
    "input": "put the normalisation into the model",
    "chance": "compare labels and preprocessing with those of the training",
    "shifted": "labels that run from 0",
    "constant": "compare labels and preprocessing with those of the training",
    "batch": "let batch norms use their running statistics",
    "dark": "images in [0,1] that were divided by 255 once",
    "budget": "a budget in units of [0,1], such as 8/255",
    "square": "a black box goes further than gradients: a differentiable stand-in, or more queries",
    "transfer": "a surrogate goes further than gradients: a differentiable stand-in",
    "gradients": "attack the logits before whatever saturates or rounds",
    "rescaled": "losses that do not depend on the scale of the logits",
}
SEARCH = "the search from larger balls"
# Attacks that a test compares its own with.
_OF_TESTS = {
    "pgd": "PGD",
    "restarts_scaled": "CE on rescaled logits",
    "ce_scaled": "CE from larger balls",
    "rim": "the margin in the ball itself",
}
_TRY_ELSE = "more steps and restarts (--effort thorough), or another loss"


def interval(share: Share) -> str:
    """``21.8% [18.4%, 25.6%]``."""
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


def attack_title(key: str) -> str:
    """``linf_pgd`` -> ``PGD``, ``linf_apgd-ce`` -> ``AutoAttack's APGD-CE``."""
    _, _, name = key.partition("_")
    if name in ENSEMBLE:
        return f"AutoAttack's {ENSEMBLE[name]}"
    return SEARCH if name == "margin" else METHODS[name].title


def turn_title(family: str, key: str) -> str:
    """The same; an attack of a test for masking is called by its test."""
    _, _, name = key.partition("_")
    if family != "masking":
        return attack_title(key)
    if name.startswith("transfer_"):
        return f"test for masking: transfer from {name.removeprefix('transfer_')}"
    own = "other step sizes" if name.startswith("step_size") else _OF_TESTS.get(name)
    return f"test for masking: {own or TESTS[name]}"


def strongest(norm: ExaminedNorm) -> str:
    """The title of the attack that reached the number."""
    taken = [turn for turn in norm.turns if turn.taken]
    return turn_title(taken[-1].family, taken[-1].attack) if taken else "none took an image"


def masking(norm: ExaminedNorm) -> str:
    """Which tests sound, of how many."""
    if norm.masking is None:
        return f"not tested ({norm.no_masking})"
    if not norm.tests:
        return "not tested (no image is right)"
    tests = [test for test in norm.masking.tests if test.verdict == "alarm"]
    return ", ".join(map(_sounding, tests)) or f"none of {norm.tests}"


def _sounding(test: MaskingTest) -> str:
    """Its title, and whom alone it speaks of."""
    if not of_pgd(test.test, test.overstated):
        return test.title
    stuck = "stuck" in tells(test.test, test.misled, test.overstated)
    return f"{test.title} (of {'searches inside the ball' if stuck else 'PGD'} alone)"


def converged(norm: ExaminedNorm) -> str:
    """Yes, or no and why."""
    return "yes" if norm.converged else f"no ({'; '.join(norm.not_converged)})"


def of_norm(name: str, norm: ExaminedNorm) -> str:
    """The verdict in one norm, as one sentence."""
    count = norm.robust_accuracy.count
    return (
        f"at most {interval(norm.robust_accuracy)} of {count} images right under "
        f"{budget(name, norm.eps)}; strongest: {strongest(norm)}; converged: {converged(norm)}; "
        f"masking: {masking(norm)}"
    )


def of_detector(detector: ExaminedDetector, data: str | None = None) -> str:
    """What the detector is worth at its threshold, as one sentence; ``data`` froze it, if given."""
    error = detector.error_among_accepted
    wrong = f"; of what is accepted under attack {interval(error)} is wrong" if error else ""
    on = data or ("images given" if detector.images_given else "every second image")
    doubled = (
        f"; {detector.left_out} more are examined, too, and were left out"
        if detector.left_out
        else ""
    )
    return (
        f"with rejection by {detector.score}, which accepts {detector.accept:.0%} of the right "
        f"images: at most {interval(detector.robust['0'])} of {detector.images} robust{wrong} "
        f"(threshold {detector.threshold:.4g}, frozen on {on}: {detector.frozen_on}{doubled})"
    )


def of_stopped(detector: ExaminedDetector) -> str | None:
    """How many images the detector refused, without an attack and under one; None: not kept."""
    seen = detector.by_image
    if seen is None:
        return None
    accepted, fooled, missed = (
        bits.count("1") for bits in (seen.clean_accepted, seen.fooled, seen.missed)
    )
    return (
        f"of {detector.images} images the detector refuses {detector.images - accepted} as they "
        f"are; for {fooled} an image of the ball was found that is wrong: it stops "
        f"{fooled - missed} of these, and accepts a wrong image of {missed}"
    )


def lines(record: Examination) -> list[str]:
    """The whole verdict: clean accuracy, each norm, what the gate said, whether to believe it."""
    said = []
    for name, norm in record.norms.items():
        said.append(of_norm(name, norm))
        if norm.detector:
            sentences = (
                of_detector(norm.detector, record.threshold_data),
                of_stopped(norm.detector),
            )
            said += [f"{budget(name, norm.eps)}: {text}" for text in sentences if text]
    said.append(f"clean: {interval(record.clean_accuracy)} of {record.images} images right")
    said += [f"{entry.severity}: {entry.name}: {entry.text}" for entry in record.gate]
    if record.class_names and len(record.class_names) != record.num_classes:
        said.append(
            f"note: the images are of {len(record.class_names)} classes, the model tells "
            f"{record.num_classes} apart: are they numbered alike?"
        )
    if not record.ok:
        failed = [check.name for check in record.self_checks if not check.passed]
        said.append(f"SELF-CHECK FAILED, do not use the numbers: {'; '.join(failed)}")
    return [*said, belief(record)]


def belief(record: Examination) -> str:
    """Whether to believe the numbers; if not, what to try."""
    if not record.doubts:
        return "nothing that was tried speaks against these numbers; they stay upper bounds"
    names = [doubt.rpartition(" ")[2] for doubt in record.doubts]
    remedies = dict.fromkeys(_TRY.get(name, _TRY_ELSE) for name in names)
    return (
        f"do not rest a claim on these numbers yet: {'; '.join(record.doubts)}. "
        f"Try: {'; '.join(remedies)}"
    )
