"""Records of notebook 09: AutoAttack, tests for gradient masking, the attack on the detector."""

from typing import Annotated

from ldatlib.study.records.common import (
    AttackSettings,
    Bits,
    Count,
    Fraction,
    Gate,
    NonNegative,
    Part,
    Positive,
    Record,
    Scored,
    Searched,
    SelfCheck,
    Share,
    about,
)


class Scrutinised(Record, frozen=True, kw_only=True):
    """What they have in common: the first test images, and self-checks."""

    images: Annotated[Count, about("images, the first of the test split")]
    self_checks: list[SelfCheck]
    ok: Annotated[bool, about("all self-checks passed")]


class EnsembleAttack(Part, frozen=True, kw_only=True):
    """One attack of AutoAttack, on the images that those before it left right."""

    right: Annotated[Bits, about("one digit an image, 1 where it is right after this attack")]
    seconds: Annotated[NonNegative, about("what the attack took")]
    warnings: Annotated[list[str], about("what the package itself warned of")] = []


class EnsembleSettings(Part, frozen=True, kw_only=True):
    """What AutoAttack ran with."""

    eps: Annotated[Positive, about("budget, in pixel units")]
    norm: Annotated[str, about("`linf` or `l2`")]
    batch_size: Annotated[int, about("images a batch", ge=1)]
    seed: Annotated[int, about("seed of the attacks' random numbers")]
    attacks: Annotated[list[str], about("in their order")]
    targets: Annotated[Count, about("wrong classes aimed at, of APGD-T and FAB-T")]
    queries: Annotated[Count, about("of Square")]


class BlackBox(Part, frozen=True, kw_only=True):
    """Square sees no gradient: what it finds after the others is a warning."""

    found: Annotated[Share, about("share of all images that only Square found")]
    alarm: Annotated[bool, about("Square leaves less than the others' 95% interval")]


class Ensemble(Part, frozen=True, kw_only=True):
    """AutoAttack's standard ensemble in one norm."""

    clean_accuracy: Annotated[Share, about("share of the images right without an attack")]
    robust_accuracy: Annotated[Share, about("share of all images right under all attacks")]
    clean_right: Annotated[Bits, about("one digit an image, 1 where it is right without an attack")]
    right: Annotated[Bits, about("one digit an image, 1 where it is right under all attacks")]
    attacks: Annotated[
        dict[str, EnsembleAttack], about("`apgd-ce`, `apgd-t`, `fab-t`, `square`, in order")
    ]
    skipped: Annotated[dict[str, str], about("attacks left out, and why")]
    settings: EnsembleSettings
    black_box: BlackBox
    gate: Gate = []


class Autoattack(Scrutinised, frozen=True, kw_only=True):
    """AutoAttack (Croce and Hein 2020) on a network."""

    norms: Annotated[dict[str, Ensemble], about("by norm")]
    adversarial: Annotated[dict[str, str], about("by norm: file of the attacked images")]


class SearchOfNorm(Searched, frozen=True, kw_only=True):
    """What the search takes from Table 1's worst case in one norm."""

    reported: Annotated[Share, about("right under all of Table 1's attacks of this norm")]
    robust_accuracy: Annotated[Share, about("right under the search, too")]
    right: Annotated[Bits, about("one digit an image, 1 where it is right under the search, too")]
    settings: AttackSettings


class Search(Scrutinised, frozen=True, kw_only=True):
    """The search from larger balls, on what Table 1's attacks have left right."""

    norms: Annotated[dict[str, SearchOfNorm], about("by norm, `linf` and `l2`")]
    gate: Gate = []
    adversarial: Annotated[str, about("file of the images found, and of their rows")]


class Effort(Part, frozen=True, kw_only=True):
    """How hard the tests for masking tried."""

    steps: Annotated[int, about("iterations of each search", ge=1)]
    restarts: Annotated[int, about("random starts", ge=1)]
    queries: Annotated[int, about("of Square", ge=1)]
    batch_size: Annotated[int, about("images a batch", ge=1)]
    seed: Annotated[int, about("seed of the random numbers")]


class Budget(Part, frozen=True, kw_only=True):
    """What PGD leaves on a ball of this size."""

    eps: Annotated[Positive, about("in pixel units")]
    robust_accuracy: Annotated[Share, about("share of all images")]


class GradientLength(Part, frozen=True, kw_only=True):
    """L2 length of the input gradient where PGD starts, over the images that are right."""

    q05: Annotated[NonNegative, about("5% quantile")]
    median: Annotated[NonNegative, about("median")]
    q95: Annotated[NonNegative, about("95% quantile")]
    vanishing: Annotated[Share, about("share shorter than 1e-12, which moves nothing")]


class TestNumbers(Part, frozen=True, kw_only=True):
    """What a test rests on; which fields are there depends on the test, the others are null."""

    # pytest would take it for a class of tests.
    __test__ = False

    robust_accuracy: Annotated[Share | None, about("what the test's attack leaves")] = None
    reported: Annotated[Share | None, about("the worst case that is judged")] = None
    taken: Annotated[
        Share | None, about("images of the reported worst case that the test's attack takes")
    ] = None
    rival: Annotated[Share | None, about("what the usual attack of equal effort leaves")] = None
    p_value: Annotated[
        Fraction | None,
        about("McNemar's exact test, one-sided: the attack leaves fewer than its rival"),
    ] = None
    beyond_white_box: Annotated[
        Share | None,
        about("`square`, `transfer`: images taken that no attack with gradients got"),
    ] = None
    radii: Annotated[list[float] | None, about("`larger_balls`: of the balls, in budgets")] = None
    pgd: Annotated[Share | None, about("what PGD leaves")] = None
    targets: Annotated[Count | None, about("`targeted`: wrong classes")] = None
    sweep: Annotated[
        dict[str, Share] | None, about("`step_size`: left, by step size in units of eps")
    ] = None
    iterations: Annotated[Count | None, about("`iterations`: how many")] = None
    queries: Annotated[Count | None, about("`square`: how many")] = None
    sources: Annotated[
        dict[str, Share] | None, about("`transfer`: left, by label of the sibling network")
    ] = None
    points: Annotated[list[Budget] | None, about("`growing_eps`: growing balls")] = None
    scales: Annotated[
        dict[str, dict[str, Share]] | None,
        about("`rescaled`: left, by loss and by the number that logits were multiplied by"),
    ] = None
    same: Annotated[
        dict[str, Fraction] | None, about("`rescaled`: images judged alike at all scales, by loss")
    ] = None
    unscaled_worst_case: Annotated[
        Share | None, about("`rescaled`: left by everything without rescaling")
    ] = None
    ce: Annotated[GradientLength | None, about("`gradients`: of the cross-entropy")] = None
    margin: Annotated[GradientLength | None, about("`gradients`: of the margin")] = None
    steeper: Annotated[
        Share | None,
        about("`surface`: images whose margin rises more along the gradient than at random"),
    ] = None


class MaskingTest(Part, frozen=True, kw_only=True):
    """One test for gradient masking."""

    test: Annotated[str, about("name of the test")]
    title: Annotated[str, about("its name for reading")]
    verdict: Annotated[str, about("`alarm`, `no alarm` or `skipped`")]
    misled: Annotated[
        bool, about("a tool of no more effort, or knowledge, takes what the usual one does not")
    ]
    overstated: Annotated[bool, about("it takes images of the reported worst case")]
    reason: Annotated[str, about("the verdict's grounds, in words")]
    numbers: TestNumbers


class Height(Part, frozen=True, kw_only=True):
    """The margin of the wrong classes over the true one, over the images that are right."""

    low: Annotated[float, about("10% quantile, in logits")]
    median: Annotated[float, about("median")]
    high: Annotated[float, about("90% quantile")]


class Surface(Part, frozen=True, kw_only=True):
    """The margin along the gradient and along a random direction, through the images themselves."""

    positions: Annotated[list[float], about("in units of eps, along either direction")]
    gradient: Annotated[list[Height], about("along the gradient, one a position")]
    random: Annotated[list[Height], about("along the random direction, one a position")]


class MaskingOfNorm(Part, frozen=True, kw_only=True):
    """All tests of one network in one norm."""

    norm: Annotated[str, about("`linf` or `l2`")]
    eps: Annotated[Positive, about("budget, in pixel units")]
    images: Annotated[Count, about("images that were looked at")]
    clean_accuracy: Annotated[Share, about("share of the images right without an attack")]
    effort: Effort
    pgd: Annotated[Share, about("what PGD leaves")]
    reported: Annotated[Share, about("the worst case that is judged: Table 1's attacks")]
    tests: list[MaskingTest]
    alarms: Annotated[list[str], about("names of the tests that sound")]
    right: Annotated[dict[str, Bits], about("by attack on the ball: one digit an image")]
    surface: Annotated[Surface | None, about("null where no image is right")]
    gate: Gate = []


class Masking(Scrutinised, frozen=True, kw_only=True):
    """Is the robustness real, or do the gradients only lead nowhere?"""

    norms: Annotated[dict[str, MaskingOfNorm], about("by norm")]


class Accepted(Scored, frozen=True, kw_only=True):
    """What the adaptive attack found at one threshold; null: before searches told."""

    restarts: Annotated[
        list[Count] | None, about("new images that each restart found, beside the ordinary attacks")
    ] = None
    converged: Annotated[bool | None, about("the last restart found none")] = None
    cut: Annotated[float, about("the threshold, in units of the score")]


class Highest(Scored, frozen=True, kw_only=True):
    """Wrong images of the highest score in the ball; where there are none, the clean image."""

    auc: Annotated[
        Fraction | None,
        about(
            "area under the ROC of clean images that are right against these; null: no wrong one"
        ),
    ]


class HalfBudget(Part, frozen=True, kw_only=True):
    """Plain classification at half the budget, which bounds a detector's robustness."""

    eps: Annotated[NonNegative, about("half the budget, in pixel units")]
    robust_accuracy: Annotated[Share, about("right under four attacks at once")]


class Adaptive(Scrutinised, frozen=True, kw_only=True):
    """The detector under an attack that knows the threshold."""

    norms: Annotated[
        dict[str, dict[str, dict[str, Accepted]]], about("by norm, score and name of the threshold")
    ]
    highest: Annotated[
        dict[str, dict[str, Highest]] | None,
        about("by norm and score: attacked for the highest score; null: before it was"),
    ] = None
    lowest: Annotated[
        dict[str, dict[str, dict[str, Scored]]] | None,
        about(
            "by norm, score and fraction of the budget (`0.25`, `0.5`, `1`): wrong images, or the "
            "least sure ones; null: before it was"
        ),
    ] = None
    half_budget: Annotated[dict[str, HalfBudget], about("by norm")]
    gate: Gate = []
    adversarial: Annotated[str, about("file of the attacked images")]
