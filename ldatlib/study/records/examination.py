"""The record of an examination: one model, of whomever, under everything that is here."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from ldatlib.errors import UserError
from ldatlib.files import path_of, read_json
from ldatlib.study.records.common import (
    AttackSettings,
    Bits,
    Count,
    Fraction,
    Gate,
    NonNegative,
    Part,
    Positive,
    Provenance,
    Searched,
    SelfCheck,
    Share,
    about,
)
from ldatlib.study.records.scrutiny import MaskingOfNorm


class ExaminedBy(Searched, frozen=True, kw_only=True):
    """One attack, on the images that those before it left right."""

    family: Annotated[
        Literal["table1", "search", "autoattack", "masking"],
        about("Table 1's attacks, the search from larger balls, AutoAttack, a test for masking"),
    ]
    attack: Annotated[str, about("`NORM_NAME`")]
    met: Annotated[Count, about("images right before it, among those that it looks at")]
    taken: Annotated[Count, about("images that it took from all before it")]
    left: Annotated[Count, about("images right after it")]
    right: Annotated[Bits, about("one digit an image, 1 where it is right after this attack")]
    settings: Annotated[AttackSettings | None, about("null: those of AutoAttack, or of the tests")]
    seconds: Annotated[NonNegative | None, about("what it took; null: within the tests' seconds")]
    warnings: Annotated[list[str], about("what the attack's package itself warned of")] = []


class ExaminedMasking(MaskingOfNorm, frozen=True, kw_only=True):
    """The tests for masking, on images from all over the data."""

    seconds: Annotated[NonNegative, about("what the tests took")]


class Operating(Part, frozen=True, kw_only=True):
    """A detector at one threshold."""

    acceptance: Annotated[Fraction, about("of the right images that freeze the threshold")]
    threshold: Annotated[float | None, about("in units of the score; null: everything is accepted")]
    clean_acceptance: Annotated[Share, about("of the right images that are attacked")]
    robust: Annotated[
        dict[str, Share],
        about(
            "by fraction of the budget within which nothing right may be refused: accepted and "
            "right when clean, and no image of the ball is wrong and accepted"
        ),
    ]
    error_among_accepted: Annotated[
        Share | None, about("wrong ones among what is accepted under attack; null: nothing is")
    ]


class DetectedImages(Part, frozen=True, kw_only=True):
    """What a detector did with each image, at its threshold; one digit an image, in their order.

    Of the images that were attacked alone: without images given those are the second, fourth, ...
    A detector has stopped the images that are ``fooled`` and not ``missed``.
    """

    clean_accepted: Annotated[Bits, about("1 where the image is accepted as it is")]
    fooled: Annotated[Bits, about("1 where some image of the ball was found that is wrong")]
    missed: Annotated[Bits, about("1 where some image of the ball is wrong and accepted")]


class ExaminedDetector(Part, frozen=True, kw_only=True):
    """The model as a detector, under an attack that knows its score and threshold."""

    score: Annotated[str, about("`posterior`, `log_likelihood`, or the name of a function")]
    accept: Annotated[Fraction, about("share of the right images that the threshold accepts")]
    frozen_on: Annotated[Count, about("images that froze the threshold")]
    images_given: Annotated[bool, about("those were given; else every second of the images")]
    left_out: Annotated[Count, about("images given that are examined, too, and froze nothing")] = 0
    images: Annotated[Count, about("images that were attacked")]
    threshold: Annotated[float, about("in units of the score")]
    missed: Annotated[Share, about("wrong and accepted for some image of the ball")]
    by_image: Annotated[
        DetectedImages | None, about("image by image; null: before this was recorded")
    ] = None
    clean_acceptance: Annotated[Share, about("of the right images that were attacked")]
    robust: Annotated[dict[str, Share], about("at the threshold; as of the curve's points")]
    error_among_accepted: Annotated[Share | None, about("at the threshold; null: none accepted")]
    differentiable: Annotated[bool, about("the score has a gradient; else Square attacked it")]
    auc: Annotated[
        Fraction | None, about("clean right images against wrong ones of the highest score")
    ]
    curve: Annotated[list[Operating], about("over the share of clean images that it accepts")]
    seconds: Annotated[NonNegative, about("what the attack took")]


class ExaminedNorm(Part, frozen=True, kw_only=True):
    """What is left in one norm, and whether to believe it."""

    eps: Annotated[Positive, about("budget, in pixel units")]
    robust_accuracy: Annotated[Share, about("right under everything: the lowest number known")]
    right: Annotated[Bits, about("one digit an image, 1 where it is right under everything")]
    strongest: Annotated[
        str | None, about("the last attack that took an image from all before it; null: none did")
    ]
    converged: Annotated[bool, about("the search's last restart, and all after it, found nothing")]
    not_converged: Annotated[list[str], about("why more may be found")]
    alarms: Annotated[list[str], about("tests for masking that sound")]
    tests: Annotated[Count, about("tests for masking that were run")]
    turns: Annotated[list[ExaminedBy], about("in their order")]
    masking: Annotated[ExaminedMasking | None, about("null: not run")]
    no_masking: Annotated[str | None, about("why the tests were not run")]
    detector: Annotated[ExaminedDetector | None, about("null: no score was given")]
    skipped: Annotated[dict[str, str], about("what was left out, and why")]


class Examination(Part, frozen=True, kw_only=True):
    """One examination."""

    kind: Literal["examination"] = "examination"
    source: Annotated[str, about("the model: a file or module with its function, or a checkpoint")]
    data: Annotated[str, about("the images, in words")]
    threshold_data: Annotated[
        str | None,
        about("the images that froze the detector's threshold, in words; null: none were given"),
    ] = None
    class_names: Annotated[list[str], about("of the classes 0, 1, ...; empty: not known")]
    command: Annotated[str | None, about("the command that repeats it; null: called from Python")]
    key: Annotated[str, about("ten hexadecimal digits: weights, images, settings")]
    images: Annotated[int, about("images that were examined", ge=1)]
    shape: Annotated[list[int], about("channels, height, width")]
    num_classes: Annotated[int, about("logits of the model", ge=2)]
    fingerprint: Annotated[str, about("SHA-256 of images and labels")]
    weights: Annotated[str | None, about("SHA-256 of the weights; null: none are seen")]
    settings: Annotated[dict[str, Any], about("budgets, effort, batches, seed, passes, detector")]
    gate: Gate
    clean_accuracy: Annotated[Share, about("share of the images right without an attack")]
    clean_right: Annotated[Bits, about("one digit an image, 1 where it is right without an attack")]
    norms: Annotated[dict[str, ExaminedNorm], about("by norm, `linf` and `l2`")]
    passes: Annotated[Count, about("forward passes of one image that were announced, at most")]
    not_tried: Annotated[list[str], about("what was left out, in words")]
    doubts: Annotated[list[str], about("what speaks against the numbers; empty: nothing known")]
    self_checks: list[SelfCheck]
    ok: Annotated[bool, about("all self-checks passed")]
    seconds: Annotated[NonNegative, about("what it took, interruptions left out")]
    provenance: Provenance


def read_examination(path: str | Path) -> Examination:
    """The examination in a file ``examination.json``.

    Raises ``UserError`` for a file that is cut or altered, or not as this version writes it.
    """
    path = path_of(path)
    try:
        return msgspec.convert(read_json(path), Examination)
    except msgspec.ValidationError as error:
        raise UserError(
            f"{path} is no examination as this version writes it: {error}; examine again"
        ) from error
