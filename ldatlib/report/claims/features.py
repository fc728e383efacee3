"""Section 4.5 and the claims about distributions: where the features lie."""

from ldatlib.report import glossary
from ldatlib.report.claims import rules
from ldatlib.report.claims.evidence import Evidence
from ldatlib.report.claims.rules import Seen
from ldatlib.report.tables import why_undefined

# Records of before the numbers of every image were kept have means alone.
_MEANS = "of which this run keeps means alone, no numbers of every image"


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
    text = f"{'; '.join(texts)} (natural p={natural:.2g}, adversarial p={adversarial:.2g})"
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
    return Seen(rules.verdict([support]), f"{text} (p={rules.doubts([support])[0]:.2g})")


def natural_features_are_closer(evidence: Evidence) -> Seen:
    """Distances of natural and of adversarial features of the same images."""
    numbers = evidence.features[evidence.ldat].numbers
    near, far = numbers.own_centroid_natural, numbers.own_centroid_adversarial
    if near is None or far is None:
        why = why_undefined(evidence.features[evidence.ldat], "to own centroid, natural")
        return Seen(None, why)
    samples = evidence.features[evidence.ldat].samples
    text = f"mean distance to the own class's mean: natural {near:.2f}, adversarial {far:.2f}"
    if samples is None:
        return Seen(None, f"{text}; {_MEANS}")
    support = rules.larger(samples.own_centroid_adversarial, samples.own_centroid_natural)
    return Seen(rules.verdict([support]), f"{text} (p={rules.doubts([support])[0]:.2g})")
