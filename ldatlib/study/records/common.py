"""What records of several kinds have in common: the header, shares, verdicts, self-checks."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


def about(text: str, ge: int | None = None) -> Meta:
    """What a field means, for the schema and for ``docs/records.md``; and its smallest value."""
    return Meta(description=text, ge=ge)


# Shapes without a meaning of their own; each field says what it is of.
Fraction = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Bits = Annotated[str, Meta(pattern="^[01]*$")]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of a record. Its fields are the keys of the JSON; an unknown key is an error."""


class Share(Part, frozen=True, kw_only=True):
    """A proportion of images, with its 95% Wilson interval."""

    value: Annotated[Fraction, about("the share")]
    low: Annotated[Fraction, about("lower end of the interval")]
    high: Annotated[Fraction, about("upper end of the interval")]
    count: Annotated[int, about("images that it is a share of", ge=1)]


class SelfCheck(Part, frozen=True, kw_only=True):
    """Something that must hold whatever was measured."""

    name: Annotated[str, about("what must hold")]
    passed: bool
    value: Annotated[float, about("the number it was judged by; its unit is that of the check")]


class Said(Part, frozen=True, kw_only=True):
    """Something that was seen of network and images before the first attack (docs/gate.md)."""

    name: Annotated[str, about("what was looked at")]
    severity: Annotated[
        Literal["note", "warning"],
        about("`note`: seen to, nothing is lost; `warning`: read the numbers with it"),
    ]
    text: Annotated[str, about("what was found, and what was done about it")]


Gate = Annotated[list[Said], about("what was said before all else; mostly nothing")]


class Provenance(Part, frozen=True, kw_only=True):
    """Where a record comes from. No part of any key."""

    revision: Annotated[
        str | None, about("commit of the source, `+changes` where it differed; null: no checkout")
    ]
    python: Annotated[str, about("version of Python")]
    libraries: Annotated[
        dict[str, str | None], about("versions, by name of the package; null: not installed")
    ]
    device: Annotated[str, about("`cpu: NAME` or `cuda: NAME`")]
    threads: Annotated[int, about("threads of the process that computed it", ge=1)]
    keeps_pages: Annotated[
        bool | None,
        about("whether freed memory stayed with the process; null: before this was recorded"),
    ] = None


class Record(Part, frozen=True, kw_only=True):
    """What every record begins with, and ends with."""

    kind: Annotated[str, about("what was computed; the title of this section")]
    numerics: Annotated[
        dict[str, int],
        about("version of the numbers of every kind it is made from; another gives other numbers"),
    ]
    profile: Annotated[str, about("name of the profile")]
    defence: Annotated[str, about("name of the defence, such as `ldat`")]
    title: Annotated[str, about("the training's title, for reading")]
    seed: Annotated[int, about("seed of the training")]
    key: Annotated[str, about("ten hexadecimal digits: configuration, data, settings, numerics")]
    training_key: Annotated[str, about("key of the training whose weights were used")]
    made_from: Annotated[
        dict[str, str], about("keys of the records of the same training it is made from, by kind")
    ]
    plugin: Annotated[
        str | None, about("SHA-256 of the plug-ins that brought defence or network; null: ours")
    ] = None
    dataset: Annotated[str, about("title of the data set")]
    fingerprint: Annotated[str, about("SHA-256 of the images and labels that were looked at")]
    config: Annotated[
        dict[str, Any], about("the training's configuration: defence, network, optimiser, epochs")
    ]
    settings: Annotated[dict[str, Any], about("the evaluation's settings, as far as in the key")]
    seconds: Annotated[NonNegative, about("what it took, on the device of `provenance`")]
    provenance: Provenance


class AttackSettings(Part, frozen=True, kw_only=True):
    """One attack at one budget."""

    method: Annotated[str, about("`pgd`, `apgd`, `fab`, `deepfool`, `cw`, `ddn`, ...")]
    norm: Annotated[str, about("`linf` or `l2`")]
    eps: Annotated[NonNegative, about("budget, in pixel units of images in [0,1]")]
    steps: Annotated[int, about("iterations; queries for Square", ge=1)]
    step_size: Annotated[
        Positive | None, about("in pixel units; null: eps/4 (L-inf) or eps/5 (L2)")
    ]
    cw_step_size: Annotated[Positive, about("learning rate of C&W in its tanh space")]
    targets: Annotated[Count, about("FAB: classes aimed at one by one; 0: untargeted")]
    loss: Annotated[
        str | None, about("APGD: `dlr`, or `ce` with fewer than 3 classes; null: another method")
    ] = None
    restarts: Annotated[
        int | None, about("margin: searches of so many steps; null: another method")
    ] = None
    radii: Annotated[
        list[float] | None,
        about("margin: the balls of each search, in budgets; null: another method"),
    ] = None


class Searched(Part, frozen=True, kw_only=True):
    """What a search with restarts says of itself; null where there are none."""

    restarts: Annotated[list[Count] | None, about("new images that each restart found")] = None
    converged: Annotated[bool | None, about("the last restart found none")] = None


class Scored(Part, frozen=True, kw_only=True):
    """How sure the network is of each image of a set, and whether it is right."""

    score: Annotated[
        list[float],
        about("one an image, six decimals: largest posterior in [1/C, 1], or log p(f) in nats"),
    ]
    right: Annotated[Bits, about("one digit an image, 1 where the predicted class is the true one")]
