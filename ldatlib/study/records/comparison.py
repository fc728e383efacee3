"""The record of two examinations of the same images, side by side."""

from typing import Annotated, Literal

from ldatlib.study.records.common import Count, Fraction, Part, Positive, Share, about

Difference = Annotated[float, about("in [-1, 1]")]


class Side(Part, frozen=True, kw_only=True):
    """One of the two examinations."""

    name: Annotated[Literal["A", "B"], about("what it is called here")]
    source: Annotated[str, about("the model")]
    key: Annotated[str, about("key of its examination")]
    weights: Annotated[str | None, about("SHA-256 of its weights; null: none are seen")]
    effort: Annotated[str, about("`quick`, `standard` or `thorough`")]
    command: Annotated[str | None, about("the command that repeats it; null: called from Python")]
    doubts: Annotated[list[str], about("what speaks against its numbers; empty: nothing known")]
    ok: Annotated[bool, about("all its self-checks passed")]


class Compared(Part, frozen=True, kw_only=True):
    """Shares of the same images that are right under A and under B."""

    norm: Annotated[str | None, about("`linf` or `l2`; null: without an attack")]
    what: Annotated[
        Literal["clean", "attack", "worst_case", "detector"],
        about(
            "`attack`: under this and all before it; `worst_case`: under everything; `detector`: "
            "right and accepted as it is, and nothing wrong accepted in its ball"
        ),
    ]
    title: Annotated[str, about("in words")]
    first: Annotated[Share, about("of A")]
    second: Annotated[Share, about("of B")]
    first_only: Annotated[Count, about("images that only A has right")]
    second_only: Annotated[Count, about("images that only B has right")]
    difference: Annotated[Difference, about("B less A")]
    low: Annotated[Difference, about("lower end of its 95% interval (Tango 1998)")]
    high: Annotated[Difference, about("upper end")]
    p: Annotated[
        Fraction | None, about("McNemar's exact test, two-sided; null: not the same attacks")
    ]
    p_holm: Annotated[Fraction | None, about("corrected over all that were tested here (Holm)")]


class ComparedTest(Part, frozen=True, kw_only=True):
    """A test for masking in both examinations."""

    norm: Annotated[str, about("`linf` or `l2`")]
    test: Annotated[str, about("its name")]
    title: Annotated[str, about("its name for reading")]
    first: Annotated[str | None, about("verdict on A; null: not run")]
    second: Annotated[str | None, about("verdict on B; null: not run")]


class Comparison(Part, frozen=True, kw_only=True):
    """Two examinations of the same images."""

    kind: Literal["comparison"] = "comparison"
    first: Side
    second: Side
    data: Annotated[str, about("the images, in words")]
    images: Annotated[Count, about("images that both examined")]
    fingerprint: Annotated[str, about("SHA-256 of images and labels")]
    eps: Annotated[dict[str, Positive], about("budget by norm, in pixel units")]
    rows: Annotated[list[Compared], about("what was compared, in its order")]
    tests: Annotated[list[ComparedTest], about("tests for masking")]
    unlike: Annotated[list[str], about("what the two do not have in common, in words")]
