"""The first screen's sentences, on both outcomes; counts by hand, intervals by Wilson's formula."""

import pandas as pd
import pytest
import torch

from ldatlib.evaluation.robustness import wilson_interval
from ldatlib.report import comparisons, conclusions, paired
from ldatlib.report.conclusions import Contest


def first(count, of=100):
    return torch.arange(of) < count


def contest(**counts):
    right = {name: first(count) for name, count in counts.items()}
    return Contest("l2", "under all attacks within L2 0.5", right)


def test_leaders_are_those_that_no_test_tells_apart():
    # Of nested images only one side differs: McNemar's p is 2 / 2^differences.
    best, level = comparisons.leaders_of({"a": first(60), "b": first(57), "c": first(40)})
    assert (best, level) == ("a", {"b"})
    # Twelve more are enough alone, and after Holm's correction for two comparisons.
    assert paired.mcnemar_p(6, 0) < 0.05 / 1 < paired.mcnemar_p(5, 0)
    assert comparisons.leaders_of({"a": first(60), "b": first(54)}) == ("a", set())
    assert comparisons.leaders_of({"a": first(60), "b": first(54), "c": first(54)})[1] == {"b", "c"}
    assert comparisons.leaders_of({"a": first(60)}) == ("a", set())


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (
            {"ldat": 60, "mart": 40},
            "LDAT has {60} of the images right, the most, ahead of everybody.",
        ),
        (
            {"ldat": 60, "mart": 58},
            "LDAT has {60} of the images right, the most, not told apart from",
        ),
        (
            {"ldat": 40, "mart": 60},
            "MART has {60} of the images right, the most; LDAT {40}, behind",
        ),
        ({"ldat": 58, "mart": 60}, "the most; LDAT {58}, not told apart from it."),
        ({"trades": 58, "mart": 60}, "MART has {60} of the images right, the most of 2 networks."),
    ],
)
def test_where_a_network_stands(counts, said):
    for count in set(counts.values()):
        low, high = wilson_interval(count, 100)
        said = said.replace(f"{{{count}}}", f"{count:.1f}% [{100 * low:.1f}, {100 * high:.1f}]")
    found = conclusions.standing(contest(**counts), "ldat")
    assert found.startswith("Under all attacks within L2 0.5 ") and said in found


def test_advice_says_when_and_when_not():
    ahead, behind = contest(ldat=60, mart=40), contest(ldat=40, mart=60)
    clean = Contest("natural", "without an attack", {"ldat": first(90), "mart": first(91)})
    found = conclusions.advice([clean, ahead], "ldat", None)
    assert len(found.good) == 2 and not found.bad
    assert found.good[0].startswith("what counts is accuracy without an attack")
    rows = {"defence": "mart", "norm": "l2", "gap": [17.25, 3.0], "overstated": [True, False]}
    found = conclusions.advice([behind], "ldat", pd.DataFrame(rows))
    assert not found.good
    assert found.bad[0] == "the threat is L2 0.5 (MART has 20.0 points more)"
    assert "up to 17.2 points more than all attacks do: MART, L2)" in found.bad[1]


@pytest.mark.parametrize(
    ("helps", "said"),
    [
        (True, ", more than without rejection."),
        (False, ", no more than without rejection."),
        (None, ", not told apart from what it keeps without."),
    ],
)
def test_what_rejecting_is_worth(helps, said):
    row = {"defence": "ldat", "norm": "l2", "score": "posterior", "cut": 0.571, "images": 100}
    row |= {"clean_rejection": 10.0, "detection_robust": 79.0}
    row |= {"detection_robust_low": 70.0, "detection_robust_high": 85.8}
    none = pd.DataFrame(columns=["defence", "score", "acceptance"])
    found = conclusions.rejecting(pd.DataFrame([row]), "ldat", helps, none)
    assert "Rejecting 10.0% of the clean images (threshold 0.57)" in found
    assert "LDAT keeps L2 79.0% [70.0, 85.8] robust of 100 images" in found and said in found
    assert conclusions.rejecting(pd.DataFrame([row]), "mart", helps, none) is None
    kept = {"defence": "ldat", "norm": "l2", "score": "posterior", "acceptance": 0.95}
    kept |= {"robust_1": 28.0, "robust_1_low": 20.14, "robust_1_high": 37.49}
    curves = pd.DataFrame([kept, kept | {"score": "log_likelihood", "robust_1": 7.0}])
    found = conclusions.rejecting(pd.DataFrame([row]), "ldat", helps, curves)
    assert found.endswith("; L2 28.0% [20.1, 37.5] if it may refuse no image of the ball.")
