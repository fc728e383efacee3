"""The Gaussian-mixture head against torch.distributions, finite differences and its formulas."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from ldatlib.errors import UserError
from ldatlib.gmm import GaussianMixtureHead

N, D, C = 6, 5, 4


@pytest.fixture
def head():
    head = GaussianMixtureHead(D, C).double()
    torch.nn.init.normal_(head.means)
    return head


@pytest.fixture
def features():
    return torch.randn(N, D, dtype=torch.float64)


@pytest.fixture
def y():
    return torch.randint(C, (N,))


def distances(head, features):
    return torch.stack([(features - mu).square().sum(1) / 2 for mu in head.means], 1)


def components(head):
    return MultivariateNormal(head.means, covariance_matrix=torch.eye(D, dtype=torch.float64))


def mixture(head):
    prior = torch.full((C,), 1 / C, dtype=torch.float64)
    return MixtureSameFamily(Categorical(prior), components(head))


def test_logits_are_negative_distances_up_to_a_constant_of_each_image(head, features):
    offset = head(features) + distances(head, features)
    torch.testing.assert_close(offset, features.square().sum(1, keepdim=True).expand(N, C) / 2)


def test_half_squared_distances(head, features):
    torch.testing.assert_close(head.half_squared_distances(features), distances(head, features))


def test_posterior_is_bayes_rule(head, features):
    joint = components(head).log_prob(features.unsqueeze(1)) - math.log(C)
    expected = (joint - mixture(head).log_prob(features).unsqueeze(1)).exp()
    torch.testing.assert_close(head.posterior(features), expected, rtol=1e-12, atol=1e-15)


def test_log_likelihood_is_the_density_of_the_mixture(head, features):
    expected = mixture(head).log_prob(features)
    torch.testing.assert_close(head.log_likelihood(features), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.1, 2.0])
def test_margin_pushes_the_true_class_back(head, features, y, margin):
    expected = -distances(head, features)
    for i in range(N):
        expected[i, y[i]] *= 1 + margin
    found = head.margin_logits(features, y, margin)
    torch.testing.assert_close(found.softmax(1), expected.softmax(1), rtol=1e-12, atol=1e-15)
    offset = features.square().sum(1, keepdim=True) / 2
    torch.testing.assert_close(found, expected + offset)


def test_margin_makes_training_harder(head, features, y):
    def loss(margin):
        logits = head.margin_logits(features, y, margin)
        return torch.nn.functional.cross_entropy(logits, y)

    assert loss(0.0) < loss(0.1) < loss(1.0)


@pytest.mark.parametrize(("scale", "factor"), [("sum", 1), ("half", 1 / 2), ("mean", 1 / D)])
def test_likelihood_regularization(head, features, y, scale, factor):
    squares = [(features[i] - head.means[y[i]]).square().sum() for i in range(N)]
    expected = factor * sum(squares) / N
    found = head.likelihood_regularization(features, y, scale)
    torch.testing.assert_close(found, expected)
    if scale == "sum":
        torch.testing.assert_close(head.likelihood_regularization(features, y), expected)


@pytest.mark.parametrize(
    "function",
    [
        lambda head, f, y: head(f),
        lambda head, f, y: head.log_likelihood(f),
        lambda head, f, y: torch.nn.functional.cross_entropy(head.margin_logits(f, y, 0.1), y),
        lambda head, f, y: head.likelihood_regularization(f, y),
    ],
    ids=["logits", "log_likelihood", "margin_cross_entropy", "likelihood_regularization"],
)
def test_gradients(head, features, y, function):
    # The second argument is the parameter itself, which gradcheck perturbs in place.
    assert torch.autograd.gradcheck(
        lambda f, means: function(head, f, y), (features.requires_grad_(), head.means)
    )


@pytest.mark.parametrize(
    "method",
    [
        lambda head, f, y: head(f),
        lambda head, f, y: head.posterior(f),
        lambda head, f, y: head.log_likelihood(f),
        lambda head, f, y: head.margin_logits(f, y, 0.1),
        lambda head, f, y: head.likelihood_regularization(f, y),
    ],
    ids=["logits", "posterior", "log_likelihood", "margin_logits", "likelihood_regularization"],
)
def test_float32_under_autocast(y, method):
    head = GaussianMixtureHead(D, C)
    features = torch.randn(N, D).bfloat16()
    expected = method(head, features.float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = method(head, features, y)
        from_float = method(head, features.float(), y)
    assert found.dtype == from_float.dtype == torch.float32
    assert torch.equal(found, expected) and torch.equal(from_float, expected)


def test_float64_is_kept(head, features):
    assert head(features).dtype == head.log_likelihood(features).dtype == torch.float64


def test_logits_survive_features_far_from_the_origin(head, features):
    """The cancelled form keeps the differences that distances lose to rounding."""
    far = (features + 1e4).float()
    single = GaussianMixtureHead(D, C)
    single.means.data = head.means.float()

    def error(logits):
        exact = -distances(head, far.double())
        return ((logits - logits[:, :1]) - (exact - exact[:, :1])).abs().max()

    cancelled = error(single(far))
    assert cancelled < 0.05
    assert error(-single.half_squared_distances(far)) > 20 * cancelled


def test_smallest_centroid_distance(head):
    head.means.data = torch.tensor([[0.0, 0], [3, 4], [0, 10], [-9, 0]])
    assert head.smallest_centroid_distance() == 5
    head.means.data[2] = head.means.data[3]
    assert head.smallest_centroid_distance() == 0


@pytest.mark.parametrize(("init", "variance"), [("xavier", 2 / (300 + 100)), ("normal", 1.0)])
def test_centroid_init(init, variance):
    means = GaussianMixtureHead(300, 100, init=init).means
    assert means.var().item() == pytest.approx(variance, rel=0.05)
    if init == "xavier":
        assert means.abs().max() <= math.sqrt(3 * variance)


def test_sizes(head):
    assert (head.feature_dim, head.num_classes) == (D, C)
    assert head.means.shape == (C, D) and head.means.requires_grad
    assert [name for name, _ in head.named_parameters()] == ["means"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda head: GaussianMixtureHead(0, 2), "0 and 2"),
        (lambda head: GaussianMixtureHead(3, 1), "3 and 1"),
        (lambda head: GaussianMixtureHead(3, 2, init="uniform"), "'uniform'.*xavier, normal"),
        (lambda head: head(torch.zeros(N, D + 1)), rf"\[N, {D}\].*\[{N}, {D + 1}\]"),
        (lambda head: head(torch.zeros(D)), rf"\[{D}\]"),
        (lambda head: head.log_likelihood(torch.zeros(N, 1)), rf"\[{N}, 1\]"),
        (
            lambda head: head.likelihood_regularization(torch.zeros(N, D), None, "third"),
            "'third'.*sum, half, mean",
        ),
    ],
)
def test_errors(head, call, named):
    with pytest.raises(UserError, match=named):
        call(head)
