"""Section 4.5 and the claims about distributions: where the features lie."""

import numpy as np

from ldatlib.report import glossary
from ldatlib.report.claims import rules
from ldatlib.report.claims.evidence import Evidence
from ldatlib.report.claims.rules import Seen
from ldatlib.report.tables import why_undefined
from ldatlib.report.words import attacked_by
from ldatlib.study.records import Features

# Records of before the numbers of every image were kept have means alone.
_MEANS = "of which this run keeps means alone, no numbers of every image"


def _attack(record: Features) -> str:
    """How far what is said of adversarial features reaches: one attack, in one norm."""
    return f"adversarial: {attacked_by(record.settings['attack'])} alone"


def better_clustered(evidence: Evidence) -> Seen:
    """Silhouettes of the same images under two networks, natural and adversarial."""
    texts, samples = [], []
    for name in (evidence.ldat, "trades"):
        numbers = evidence.features[name].numbers
        for word, value in (
            ("silhouette, natural", numbers.silhouette_natural),
            ("silhouette, adversarial", numbers.silhouette_adversarial),
        ):
            if value is None:
                why = why_undefined(evidence.features[name], word)
                return Seen(None, f"{glossary.defence(name)}: {why}")
        texts.append(
            f"silhouette of {glossary.defence(name)}: natural {numbers.silhouette_natural:.2f}, "
            f"adversarial {numbers.silhouette_adversarial:.2f}"
        )
        samples.append(evidence.features[name].samples)
    ours, theirs = samples
    if ours is None or theirs is None:
        return Seen(None, f"{'; '.join(texts)}; {_MEANS}")
    supports = [
        rules.larger(ours.silhouette_natural, theirs.silhouette_natural),
        rules.larger(ours.silhouette_adversarial, theirs.silhouette_adversarial),
    ]
    natural, adversarial = rules.doubts(supports)
    text = (
        f"{'; '.join(texts)} (natural p={natural:.2g}, adversarial p={adversarial:.2g}); "
        f"{_attack(evidence.features[evidence.ldat])}"
    )
    return Seen(rules.verdict(supports), text)


def same_distribution(evidence: Evidence) -> Seen:
    """Whether a probe tells LDAT's versions of the same held-out images apart less than TRADES's.

    That it tells them apart at all is so of every network that an attack changes; that it does not
    proves nothing, as another probe might.
    """
    texts, hits = [], []
    for name in (evidence.ldat, "trades"):
        record = evidence.features[name]
        numbers = record.numbers
        if numbers.probe is None:
            return Seen(None, f"{glossary.defence(name)}: {why_undefined(record, 'probe')}")
        texts.append(
            f"{glossary.defence(name)} {numbers.probe:.1%} "
            f"[{numbers.probe_low:.1%}, {numbers.probe_high:.1%}]"
        )
        hits.append(record.probe_hits)
    text = (
        "cases in which a linear probe tells natural from adversarial features of held-out images: "
        f"{', '.join(texts)}; chance is 50%"
    )
    ours, theirs = hits
    if ours is None or theirs is None:
        return Seen(None, f"{text}; {_MEANS}")
    support = rules.larger(theirs, ours)
    text += f" (p={rules.doubts([support])[0]:.2g}); {_attack(evidence.features[evidence.ldat])}"
    return Seen(rules.verdict([support]), text)


def natural_features_are_closer(evidence: Evidence) -> Seen:
    """Distances of natural and of adversarial features of the same images.

    A natural feature's is to the mean of the other images of its class: that mean is one of natural
    features, and would be drawn to it otherwise.
    """
    numbers = evidence.features[evidence.ldat].numbers
    near, far = numbers.own_centroid_natural, numbers.own_centroid_adversarial
    if near is None or far is None:
        why = why_undefined(evidence.features[evidence.ldat], "to own centroid, natural")
        return Seen(None, why)
    samples = evidence.features[evidence.ldat].samples
    what = "mean distance to the mean natural feature of the own class"
    if samples is None:
        return Seen(None, f"{what}: natural {near:.2f}, adversarial {far:.2f}; {_MEANS}")
    others = _others(evidence.features[evidence.ldat].embedding.y)
    told = others > 0
    natural = np.array(samples.own_centroid_natural)[told] * (1 + 1 / others[told])
    adversarial = np.array(samples.own_centroid_adversarial)[told]
    support = rules.larger(adversarial, natural)
    text = (
        f"{what}: natural {natural.mean():.2f} (to that of the class's other images), adversarial "
        f"{adversarial.mean():.2f} (p={rules.doubts([support])[0]:.2g}); "
        f"{_attack(evidence.features[evidence.ldat])}"
    )
    return Seen(rules.verdict([support]), text)


def _others(labels: list[int]) -> np.ndarray:
    """How many other images of its class each image has, [N].

    To the mean of these k others a feature is (k + 1) / k times as far as to that of all k + 1.
    """
    _, own, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(counts[own] - 1)
