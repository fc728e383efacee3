"""Records of features and of scores: Fig. 7, 8 and 9."""

from typing import Annotated

from msgspec import field

from ldatlib.study.records.common import (
    Count,
    Fraction,
    Gate,
    NonNegative,
    Part,
    Record,
    Scored,
    about,
)

Silhouette = Annotated[float | None, about("in [-1,1]; 1: tight, separate classes, 0: none")]


class FeatureNumbers(Part, frozen=True, kw_only=True):
    """What the picture cannot say. Null where features have no such number: see ``undefined``.

    Distances are in units of the mean distance between the class means of natural features.
    """

    moved: Annotated[NonNegative | None, about("mean move of a feature under attack")]
    own_centroid_natural: Annotated[
        NonNegative | None, about("mean distance of a natural feature to its own class mean")
    ] = field(name="to own centroid, natural")
    own_centroid_adversarial: Annotated[
        NonNegative | None, about("the same of an adversarial feature")
    ] = field(name="to own centroid, adversarial")
    silhouette_natural: Silhouette = field(name="silhouette, natural")
    silhouette_adversarial: Silhouette = field(name="silhouette, adversarial")
    probe: Annotated[
        Fraction | None,
        about("held-out accuracy of a linear probe, natural against adversarial; chance is 0.5"),
    ]
    probe_low: Annotated[Fraction | None, about("lower end of its 95% interval")] = field(
        name="probe low"
    )
    probe_high: Annotated[Fraction | None, about("upper end of its 95% interval")] = field(
        name="probe high"
    )


class FeatureSamples(Part, frozen=True, kw_only=True):
    """Those of the numbers that every image has, in the order of the images."""

    silhouette_natural: Annotated[list[float], about("silhouette of each natural feature")]
    silhouette_adversarial: Annotated[list[float], about("the same of each adversarial one")]
    own_centroid_natural: Annotated[
        list[float], about("distance of each natural feature to its own class mean")
    ]
    own_centroid_adversarial: Annotated[list[float], about("the same of each adversarial feature")]


class Embedding(Part, frozen=True, kw_only=True):
    """t-SNE of natural and adversarial features together: the picture of Fig. 7."""

    natural: Annotated[list[list[float]], about("two coordinates an image")]
    adversarial: Annotated[list[list[float]], about("two coordinates an image, attacked")]
    y: Annotated[list[int], about("the images' true classes")]


class Features(Record, frozen=True, kw_only=True):
    """Fig. 7: where natural and adversarial images lie in feature space."""

    numbers: FeatureNumbers
    embedding: Embedding
    images: Annotated[Count, about("images, each natural and attacked")]
    undefined: Annotated[
        dict[str, str], about("why a number is null, by its name; empty in older records")
    ] = {}
    gate: Gate = []
    samples: Annotated[
        FeatureSamples | None,
        about("image by image; null: undefined, or before they were kept"),
    ] = None
    probe_hits: Annotated[
        list[Count] | None,
        about(
            "of each held-out image, how many of its two versions the probe tells (0 to 2); null: "
            "undefined, or before they were kept"
        ),
    ] = None


class Score(Part, frozen=True, kw_only=True):
    """One score on every set of images, and its thresholds."""

    thresholds: Annotated[
        dict[str, float | None],
        about(
            "`paper` (0.6; null for the likelihood), `accept_95`, `accept_99`: frozen on `val`; "
            "null where no image of it is right"
        ),
    ]
    sets: Annotated[dict[str, Scored], about("`val`, `clean` and one an attack, `NORM_METHOD`")]


class Exploratory(Part, frozen=True, kw_only=True):
    """A threshold stored from the widget, chosen by looking: no measurement."""

    threshold: Annotated[float, about("in units of the score")]
    score: Annotated[str, about("`posterior` or `log_likelihood`")]
    attack: Annotated[str, about("the set that was shown")]
    split: Annotated[str, about("`test` or `val`")]
    defence: Annotated[str, about("name of the defence")]
    time: Annotated[str, about("when, ISO 8601, UTC")]


class Detection(Record, frozen=True, kw_only=True):
    """Fig. 8 and 9: how sure the network is of natural and attacked images; thresholds."""

    scores: Annotated[
        dict[str, Score],
        about("`posterior`, and `log_likelihood` with a Gaussian-mixture head"),
    ]
    images: Annotated[Count, about("images a set, `val` apart")]
    gate: Gate = []
    exploratory: Annotated[list[Exploratory], about("thresholds stored from the widget")] = []
