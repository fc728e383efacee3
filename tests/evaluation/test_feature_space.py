"""Numbers and pictures of very few features: what cannot be said has its reason."""

import numpy as np
import pytest
import torch

from ldatlib.evaluation import feature_space
from ldatlib.evaluation.feature_space import (
    NUMBERS,
    Cloud,
    embed,
    held_out,
    numbers,
    undefined,
)
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import predict
from ldatlib.models import NetworkConfig, build_network

LENGTHS, SILHOUETTES, PROBES = NUMBERS[:3], NUMBERS[3:5], NUMBERS[5:]


def cloud(labels, dimensions=3):
    features = np.random.default_rng(0).normal(size=(len(labels), dimensions))
    return Cloud(features, features + 0.1, np.array(labels))


def flat(points):
    """The natural features in one point; the attack has moved them apart."""
    return Cloud(0 * points.natural, points.natural, points.y)


def collapsed(points):
    return Cloud(0 * points.natural, 0 * points.natural, points.y)


@pytest.mark.parametrize(
    ("points", "reasons"),
    [
        (cloud([0, 0, 1, 1]), {}),
        (cloud([0, 1, 2]), {"every class has one image": SILHOUETTES}),
        (cloud([2, 2, 2]), {"the images are of one class": LENGTHS + SILHOUETTES}),
        (
            cloud([1]),
            {
                "the images are of one class": LENGTHS + SILHOUETTES,
                "one image, none to test the probe on": PROBES,
            },
        ),
        (
            flat(cloud([0, 0, 1, 1])),
            {"the classes' mean features lie in one point": LENGTHS},
        ),
        (collapsed(cloud([0, 0, 1, 1])), {"all features lie in one point": NUMBERS}),
        (collapsed(cloud([0])), {"all features lie in one point": NUMBERS}),
    ],
)
def test_what_is_undefined_is_none_and_says_why(points, reasons):
    expected = {name: reason for reason, names in reasons.items() for name in names}
    assert undefined(points) == expected
    found = numbers(points, held_out(points))
    assert tuple(found) == NUMBERS
    for name, value in found.items():
        assert (value is None) == (name in expected)
        assert value is None or np.isfinite(value)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("dimensions", [1, 2, 8])
def test_a_picture_of_few_images_or_dimensions(count, dimensions):
    points = embed(cloud(list(range(count)), dimensions))
    assert points.natural.shape == points.adversarial.shape == (count, 2)
    assert np.isfinite(points.natural).all() and np.isfinite(points.adversarial).all()


def test_images_that_are_wrong_are_attacked_too():
    """A wrong image that stays as it is would be its own adversarial version."""
    torch.manual_seed(0)
    network = build_network(
        NetworkConfig(num_classes=3, depth=4, stages=1, width=8, in_channels=1)
    ).eval()
    x = torch.rand(20, 1, 8, 8)
    wrong = (predict(network, x) + 1) % 3
    points = feature_space.cloud(network, x, wrong, Attack("pgd", "linf", 0.1, 3))
    assert (np.linalg.norm(points.adversarial - points.natural, axis=1) > 1e-3).all()


def test_the_probe_counts_both_versions_of_each_held_out_image():
    natural = np.random.default_rng(0).normal(size=(41, 3))
    hits = feature_space.probe_hits(natural, natural + [100.0, 0, 0])
    assert hits.tolist() == [2] * 20
    # A copy is called one or the other: one of the two is always right.
    assert feature_space.probe_hits(natural, natural).tolist() == [1] * 20
    value, *_ = feature_space.probe(natural, natural)
    assert value == 0.5
