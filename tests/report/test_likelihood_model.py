"""The small model of the likelihood term, held against direct minimisation, and the study."""

import msgspec
import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from tiny import TINY, silent

from ldatlib import open_run
from ldatlib.defences import TITLES
from ldatlib.gmm import GaussianMixtureHead
from ldatlib.report import figures, likelihood_model, tables
from ldatlib.study.switches import LIKELIHOOD_SWITCHES, OTHER_SWITCHES

pytestmark = pytest.mark.slow


def loss_at(u, separation, weight, classes, margin, samples=20_000):
    """The loss of features and centroids scaled by sqrt(u), from the definition of the head."""
    rng = np.random.default_rng(1)
    centroids = np.eye(classes) / np.sqrt(2)  # at mutual distance 1
    noise = rng.normal(size=(samples, classes))
    noise -= noise.mean(1, keepdims=True)  # within the plane of the centroids
    noise /= separation * np.sqrt(np.square(noise).sum(1).mean())
    features = (centroids[0] + noise) * np.sqrt(u)
    d = np.square(features[:, None] - centroids * np.sqrt(u)).sum(2) / 2
    z = -d.copy()
    z[:, 0] *= 1 + margin
    return (logsumexp(z, axis=1) - z[:, 0]).mean() + 2 * weight * d[:, 0].mean()


@pytest.mark.parametrize("separation, classes, margin", [(1.0, 10, 0.1), (2.0, 3, 0.0)])
def test_the_critical_weight_is_where_shrinking_stops_to_pay(separation, classes, margin):
    critical = likelihood_model.critical_weight(separation, classes, margin)

    def slope(weight):
        low, high = (loss_at(u, separation, weight, classes, margin) for u in (0.0, 1e-3))
        return (high - low) / 1e-3

    assert slope(0.9 * critical) < 0 < slope(1.1 * critical)


@pytest.mark.parametrize("separation, weight, margin", [(1.5, 0.1, 0.1), (3.0, 1.0, 0.0)])
def test_the_best_scale_is_the_minimum_of_the_loss(separation, weight, margin):
    found = minimize_scalar(
        lambda log: loss_at(np.exp(log), separation, weight, 10, margin),
        bounds=(-8, 8),
        method="bounded",
    )
    expected = np.exp(found.x) / separation**2 / 2
    assert likelihood_model.half_squared_distance(separation, weight, 10, margin) == pytest.approx(
        expected, rel=0.03
    )


def test_the_sample_around_the_corners_is_the_same_on_every_processor():
    corners = likelihood_model._simplex(10)
    apart = np.linalg.norm(corners[:, None] - corners, axis=2)
    assert apart == pytest.approx(1 - np.eye(10), abs=1e-12)
    half = likelihood_model.half_squared_distance(1.0, 0.01, 10, 0.1)
    # Any other rotation of the corners moves this by up to 3%.
    assert half == pytest.approx(3.653793, rel=1e-5)


def test_from_the_critical_weight_on_everything_falls_into_one_point():
    critical = likelihood_model.critical_weight(1.2, 10, 0.1)
    assert likelihood_model.half_squared_distance(1.2, critical, 10, 0.1) == 0
    assert 0 < likelihood_model.half_squared_distance(1.2, 0.95 * critical, 10, 0.1) < 0.2
    weights = (0.01, 0.1, 0.3)
    distances = [likelihood_model.half_squared_distance(1.2, w, 10, 0.1) for w in weights]
    assert distances == sorted(distances, reverse=True)


def test_the_last_weight_knows_scale_and_schedule(tmp_path):
    run = open_run("demo", {}, tmp_path)
    dim = 64

    def weight(**switches):
        return likelihood_model.final_weight(run.training("ldat", **switches).config)

    assert weight() == 1 and weight(lambda_init=0.1) == pytest.approx(0.1)
    assert weight(regularizer_scale="half") == 0.5
    assert weight(regularizer_scale="mean") == pytest.approx(1 / dim)
    assert weight(lambda_schedule="decay") == 0
    assert weight(lambda_schedule="grow_by_step") == 1
    # The same number from the head itself: the loss of an image at distance 1.
    head = GaussianMixtureHead(dim, 3)
    head.requires_grad_(False)
    features = head.means[:1] + torch.eye(dim)[:1]
    for scale in ("sum", "half", "mean"):
        value = head.likelihood_regularization(features, torch.tensor([0]), scale)
        assert float(value) == pytest.approx(weight(regularizer_scale=scale))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    run = open_run("demo", {**TINY, "ablations": "switches"}, tmp_path_factory.mktemp("run"), 1)
    names = ["as written", "lambda 0", "lambda 0.1"]
    trainings = [run.switch_trainings()[name] for name in names]
    found = [run.records(kind, trainings, silent) for kind in ("train", "validation", "basic")]
    return run, names, trainings, found


def test_the_study_has_a_row_a_training(study):
    run, names, trainings, found = study
    table = tables.likelihood_study(names, *found)
    assert list(table.training) == names and not table.isna().any().any()
    trained, validated, tested = found
    assert table.val_l2_pgd[1] == pytest.approx(
        100 * validated[1].attacks["l2_pgd"].robust_accuracy.value
    )
    assert table.test_natural[2] == pytest.approx(100 * tested[2].clean_accuracy.value)
    assert table.separation[0] == pytest.approx(
        trained[0].last["val_between_centroids"] / (2 * trained[0].last["val_own_centroid"]) ** 0.5
    )
    read = tables.likelihood_study_for_reading(names, *found)
    assert list(read.index) == names and "L2 PGD, test" in read


def test_validation_looks_at_validation_images(study):
    run, _, trainings, (_, validated, tested) = study
    record = validated[0]
    assert record.split == "val" and tested[0].split == "test"
    assert record.clean_accuracy.count == len(run.dataset.labels["val"])


def test_the_choice_is_by_validation_alone_and_not_by_chance(study):
    """What was chosen before stays, until another keeps more images than chance explains."""
    _, names, _, (_, validated, _) = study
    count = len(validated[0].clean_right)

    def found(*numbers):
        records = []
        for record, number in zip(validated, numbers, strict=True):
            bits = "1" * number + "0" * (count - number)
            column = record.attacks["l2_pgd"]
            accuracy = msgspec.structs.replace(column.robust_accuracy, value=number / count)
            column = msgspec.structs.replace(column, right=bits, robust_accuracy=accuracy)
            records.append(msgspec.structs.replace(record, attacks={"l2_pgd": column}))
        return tables.chosen_by_validation(names, records, "lambda 0.1")

    assert found(2, 23, 20) == "lambda 0.1"
    assert found(2, 40, 20) == "lambda 0"
    assert found(45, 40, 20) == "as written"
    # One image more than its rival, of which neither is told from the other: the most robust.
    assert found(39, 40, 20) == "lambda 0"
    assert found(2, 1, 20) == "lambda 0.1"


def test_features_on_their_centroids_have_no_separation(study):
    """Without a spread there is nothing to divide by."""
    run, names, trainings, (trained, *others) = study
    lone = msgspec.structs.replace(trained[0], last={**trained[0].last, "val_own_centroid": 0.0})
    found = [[lone, *trained[1:]], *others]
    table = tables.likelihood_study(names, *found)
    assert list(table.separation.isna()) == [True, False, False]
    read = tables.likelihood_study_for_reading(names, *found)
    assert read.separation.iloc[0] == "none: no spread around the centroids"
    figure = figures.small_model(table, dict.fromkeys(names, 0.1), run.dataset.num_classes, 0.1)
    assert "as written" not in figures.caption(figure) and names[2] in figures.caption(figure)


def test_figures_draw_every_training(study):
    run, names, trainings, found = study
    logs = {name: run.log(training) for name, training in zip(names, trainings, strict=True)}
    figure = figures.likelihood_over_epochs(logs)
    assert all(len(axis.lines) == 3 for axis in figure.axes)
    weights = {
        n: likelihood_model.final_weight(a.config) for n, a in zip(names, trainings, strict=True)
    }
    table = tables.likelihood_study(names, *found)
    figure = figures.small_model(table, weights, run.dataset.num_classes, 0.1)
    # The line of collapse is that of the critical weight.
    weight, separation = figure.axes[1].lines[-1].get_data()
    assert likelihood_model.critical_weight(separation[-1], run.dataset.num_classes, 0.1) == (
        pytest.approx(weight[-1])
    )
    assert len(figure.legends[0].get_texts()) == 2  # lambda 0 has no weight and no prediction


def test_switches_are_one_change_each(tmp_path):
    run = open_run("demo", {"ablations": "switches"}, tmp_path)
    trainings = run.switch_trainings()
    assert list(trainings) == ["as written", *LIKELIHOOD_SWITCHES, *OTHER_SWITCHES]
    plan = run.plan("05")
    assert {job.training.label for job in plan if job.kind == "validation"} == {
        training.label for training in trainings.values()
    }


def test_what_else_is_changed_starts_from_the_base(tmp_path):
    """Where LDAT as written collapses, margin, K and beta are varied on the chosen one."""
    run = open_run("demo", {"ablations": "switches", "base": "ldat_chosen"}, tmp_path)
    trainings = run.switch_trainings()
    assert trainings["as written"] == run.training("ldat")
    assert (
        trainings[TITLES["ldat_chosen"]] == run.training("ldat_chosen") == run.beta_trainings()[0.5]
    )
    for name, training in trainings.items():
        chosen = {*OTHER_SWITCHES, TITLES["ldat_chosen"], "lambda 0.01"}
        assert training.name == ("ldat_chosen" if name in chosen else "ldat")
    assert {training.name for training in run.attack_trainings().values()} == {"ldat_chosen"}
    labels = [training.label for training in run.every_training()]
    assert len(labels) == len(set(labels))
