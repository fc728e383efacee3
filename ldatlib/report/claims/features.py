"""Section 4.5 and the claims about distributions: where the features lie."""

from ldatlib.report import glossary
from ldatlib.report.claims.evidence import Evidence, Seen

_ONE_POINT = "all features lie in one point"


def better_clustered(evidence: Evidence) -> Seen:
    found = {name: evidence.features[name].numbers for name in (evidence.ldat, "trades")}
    values = {}
    for name, numbers in found.items():
        natural, adversarial = numbers.silhouette_natural, numbers.silhouette_adversarial
        if natural is None or adversarial is None:
            return None, _ONE_POINT
        values[name] = (natural, adversarial)
    text = "; ".join(
        f"silhouette of {glossary.defence(name)}: natural {v[0]:.2f}, adversarial {v[1]:.2f}"
        for name, v in values.items()
    )
    better = [a > b for a, b in zip(values[evidence.ldat], values["trades"], strict=True)]
    return (True if all(better) else False if not any(better) else None), text


def same_distribution(evidence: Evidence) -> Seen:
    numbers = evidence.features[evidence.ldat].numbers
    if numbers.probe is None or numbers.probe_low is None:
        return None, _ONE_POINT
    text = (
        f"a linear probe tells natural from adversarial features in {numbers.probe:.1%} "
        f"[{numbers.probe_low:.1%}, {numbers.probe_high:.1%}] of held-out cases; chance is 50%"
    )
    # A probe that fails proves nothing: another one might succeed.
    return (False if numbers.probe_low > 0.5 else None), text


def natural_features_are_closer(evidence: Evidence) -> Seen:
    numbers = evidence.features[evidence.ldat].numbers
    near, far = numbers.own_centroid_natural, numbers.own_centroid_adversarial
    if near is None or far is None:
        return None, _ONE_POINT
    text = f"mean distance to the own class's mean: natural {near:.2f}, adversarial {far:.2f}"
    return near < far, text
