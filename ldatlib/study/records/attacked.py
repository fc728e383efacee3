"""Records of attacked test images: white box, worst case, validation, sweeps, transfer."""

from typing import Annotated

from ldatlib.study.records.common import (
    AttackSettings,
    Bits,
    Gate,
    NonNegative,
    Part,
    Record,
    Searched,
    SelfCheck,
    Share,
    about,
)


class Column(Searched, frozen=True, kw_only=True):
    """What one attack leaves: a column of Table 1."""

    settings: AttackSettings
    robust_accuracy: Annotated[Share, about("share of all images, those wrong before included")]
    seconds: Annotated[NonNegative, about("what the attack took")]
    right: Annotated[Bits, about("one digit an image, 1 where it is still right")]


class Attacked(Record, frozen=True, kw_only=True):
    """A network under several attacks, each on every image that is right without one."""

    clean_accuracy: Annotated[Share, about("share of the images right without an attack")]
    clean_right: Annotated[Bits, about("one digit an image, 1 where it is right without an attack")]
    attacks: Annotated[dict[str, Column], about("by attack, `NORM_METHOD` such as `linf_pgd`")]
    worst_case: Annotated[dict[str, Share], about("by norm: right under all its attacks at once")]
    gate: Gate = []
    self_checks: list[SelfCheck]
    ok: Annotated[bool, about("all self-checks passed")]
    batch_size: Annotated[int, about("images a batch", ge=1)]
    attack_seed: Annotated[int, about("seed of the attacks' random numbers")]


class Whitebox(Attacked, frozen=True, kw_only=True):
    """Table 1: its attacks on the first test images."""

    checkpoint: Annotated[str, about("`last`: the weights after the last epoch")]
    adversarial: Annotated[str, about("file of the first attacked images, by attack")]


class Basic(Attacked, frozen=True, kw_only=True):
    """Natural accuracy and PGD in both norms: Table 3, Fig. 6; and on validation images."""

    split: Annotated[str, about("`test` in the kind `basic`, `val` in `validation`")]


class Turn(Searched, frozen=True, kw_only=True):
    """One attack on the images that those before it left right."""

    attack: Annotated[str, about("`NORM_METHOD`")]
    settings: AttackSettings
    right: Annotated[Bits, about("one digit an image, 1 where it is right after this turn")]
    seconds: Annotated[NonNegative, about("what the turn took")]


class WorstOfNorm(Part, frozen=True, kw_only=True):
    """Images right under every one of the attacks of one norm."""

    clean_accuracy: Annotated[Share, about("share of the images right without an attack")]
    clean_right: Annotated[Bits, about("one digit an image, 1 where it is right without an attack")]
    robust_accuracy: Annotated[Share, about("share of all images right after the last turn")]
    right: Annotated[Bits, about("one digit an image, 1 where it is right after the last turn")]
    attacks: Annotated[list[Turn], about("in the order of their turns, the cheapest first")]
    gate: Gate = []
    self_checks: list[SelfCheck]
    ok: Annotated[bool, about("all self-checks passed")]
    batch_size: Annotated[int, about("images a batch", ge=1)]
    attack_seed: Annotated[int, about("seed of the attacks' random numbers")]
    processes: Annotated[int, about("processes that shared the images", ge=1)]


class WorstCase(Record, frozen=True, kw_only=True):
    """Table 1's attacks without its columns: an image that has fallen meets no further attack."""

    norms: Annotated[dict[str, WorstOfNorm], about("by norm, `linf` and `l2`")]
    ok: Annotated[bool, about("all self-checks of both norms passed")]


class Point(AttackSettings, frozen=True, kw_only=True):
    """One attack of a sweep, and what it leaves."""

    robust_accuracy: Annotated[Share, about("share of all images, those wrong before included")]
    right: Annotated[Bits, about("one digit an image, 1 where it is still right")]
    ok: Annotated[bool, about("the self-checks of this point passed")]


class Sweep(Record, frozen=True, kw_only=True):
    """The same images under attacks of growing budget (Fig. 4) or iterations (Fig. 5)."""

    points: list[Point]
    gate: Gate = []
    ok: Annotated[bool, about("every point's self-checks passed")]


class Transfer(Record, frozen=True, kw_only=True):
    """Tables 4 and 5: images attacked on this network, shown to every defence of the run."""

    source_accuracy: Annotated[Share, about("share right on this network without an attack")]
    targets: Annotated[
        dict[str, dict[str, Share]],
        about("by label of the target's training: share right, by attack and for `clean`"),
    ]
    gate: Gate = []
    right: Annotated[
        dict[str, dict[str, Bits]] | None,
        about("the same image by image: one digit each, 1 where right; null: before it was kept"),
    ] = None
