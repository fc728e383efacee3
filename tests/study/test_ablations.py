"""Black box, ablations, features and claims on a tiny run; closed forms where there are any."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import TINY, silent

from ldatlib.evaluation import feature_space
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import claims, summary, tables
from ldatlib.study.records import representation as records
from ldatlib.study.run import open_run
from ldatlib.study.switches import REPLACED_ATTACKS

pytestmark = pytest.mark.slow

SETTINGS = {
    **TINY,
    "defences": ("natural", "standard", "trades", "ldat"),
    "surrogate_width": 12,
    "tsne_images": 20,
    "saved_images": 20,
    "betas": (0.0, 0.5, 1.0),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = open_run("demo", SETTINGS, tmp_path_factory.mktemp("run"), jobs=1)
    for notebook in ("03", "04", "05", "06", "08"):
        run.compute(notebook, say=silent)
    return run


def test_everything_planned_is_done(run):
    for notebook in ("02", "03", "04", "05", "06", "07", "08"):
        assert run.plan(notebook) and all(job.done for job in run.plan(notebook))


def test_surrogates_are_a_wider_natural_and_an_independent_standard(run):
    natural, standard = run.surrogates()
    assert natural.config.network.width == 12 and natural.config.defence.name == "natural"
    assert standard.config.network == run.training("standard").config.network
    assert standard.config.seed not in {training.config.seed for training in run.trainings()}


def test_transfer_from_oneself_is_the_white_box(run):
    """PGD crafted on a network and shown to it: what the white box finds, and no repairs."""
    trainings = run.select_seed(run.trainings())
    for training, record in zip(trainings, run.records("transfer", trainings), strict=True):
        own = record.targets[training.label]
        assert own["linf_pgd"].value <= own["clean"].value
        assert own["clean"] == record.source_accuracy
        assert set(record.targets) == {a.label for a in run.trainings()}


def test_tables_of_the_black_box(run):
    records = run.records("transfer", run.surrogates())
    table = tables.table4(records, run.trainings())
    assert list(table.surrogate.unique()) == ["undefended", "defended"] and len(table) == 8
    shown = tables.table4_beside_paper(records, run.trainings(), "digits")
    assert shown.loc[("undefended", "LDAT", "paper, CIFAR-10"), "FGSM"] == "86.72"
    assert shown.loc[("defended", "LDAT", "paper, CIFAR-10"), "PGD"] == "67.16"
    sources = [*run.surrogates(), *run.select_seed(run.trainings())]
    matrix = tables.transfer_matrix(run.records("transfer", sources), sources, run.trainings())
    assert matrix.shape == (6, 4) and list(matrix.columns) == list(matrix.index[2:])


def test_beta_trainings_differ_in_beta_alone(run):
    trainings = run.beta_trainings()
    assert trainings[0.5].label == run.training("ldat").label
    plain, one = trainings[0.5].config.as_dict(), trainings[1.0].config.as_dict()
    assert {**one, "defence": {**one["defence"], "beta": 0.5}} == plain
    assert trainings[0.0].config.defence.adversary.kind == "none"
    assert trainings[0.0].config.defence.beta == 0
    table = tables.table3(
        dict(zip(trainings, run.records("basic", list(trainings.values())), strict=True))
    )
    assert list(table.beta) == [0.0, 0.5, 1.0]
    assert (table.linf_pgd <= table.natural).all()


def test_attack_trainings_are_ldat_with_another_attack(run):
    trainings = run.attack_trainings()
    assert list(trainings) == ["Algorithm 1", "PGD-CE", "PGD-KL", "PGD-CE*", "PGD-KL*"]
    assert set(trainings) - {"Algorithm 1"} < set(REPLACED_ATTACKS)
    norms = {
        name: training.config.defence.adversary.norm
        for name, training in trainings.items()
        if "PGD" in name
    }
    assert norms == {"PGD-CE": "l2", "PGD-KL": "l2", "PGD-CE*": "linf", "PGD-KL*": "linf"}
    for name, training in trainings.items():
        defence = training.config.defence
        assert defence.name == "ldat" and defence.head == "gmm"
        assert defence.adversary.kind == ("boundary" if name == "Algorithm 1" else "pgd")


def test_pgd_of_the_radius_stands_beside_and_in_the_factorial(tmp_path):
    """The ball of LDAT's own examples, whose PGD examples the paper calls too strong."""
    chosen = {"replaced_attacks": "PGD-CE,PGD-KL,PGD-CE (radius)", "ablations": "all"}
    varied = open_run("demo", {**TINY, **chosen}, tmp_path)
    trainings = varied.attack_trainings()
    wide = trainings["PGD-CE (radius)"].config.defence.adversary
    assert (wide.norm, wide.eps, wide.loss) == ("l2", varied.profile.radius, "ce")
    factorial = varied.factorial_trainings()
    attacks = ["Algorithm 1", "PGD-CE", "PGD-CE (radius)"]
    assert list(factorial) == [(head, name) for head in ("GMM", "linear") for name in attacks]
    for (head, name), training in factorial.items():
        assert training.config.defence.adversary == trainings[name].config.defence.adversary
        assert (training.config.network.head == "linear") == (head == "linear")


def test_a_switch_may_shorten_the_schedule(tmp_path):
    varied = open_run("demo", {**TINY, "ablations": "switches", "epochs": 9}, tmp_path)
    short = varied.likelihood_trainings()["6 epochs"]
    assert (short.config.epochs, varied.training("ldat").config.epochs) == (6, 9)
    assert short.config == replace(varied.training("ldat").config, epochs=6)


def test_scores_belong_to_the_saved_images(run):
    trainings = run.select_seed(run.trainings())
    for training, record in zip(trainings, run.records("detection", trainings), strict=True):
        white = run.records("whitebox", [training], say=silent)[0]
        kept = record.images
        for score in record.scores.values():
            assert set(score.sets) == {"val", "clean", *white.attacks}
            for key, column in white.attacks.items():
                entry = score.sets[key]
                expected = from_bits(column.right)[:kept]
                assert torch.equal(from_bits(entry.right), expected)
                assert len(entry.score) == kept
        has_likelihood = training.config.defence.head == "gmm"
        assert ("log_likelihood" in record.scores) is has_likelihood


def test_features_of_known_clouds():
    natural = np.repeat([[0.0, 0.0], [2.0, 0.0]], 20, axis=0)
    cloud = feature_space.Cloud(natural, natural + [0.0, 1.0], np.repeat([0, 1], 20))
    found = feature_space.distances(cloud)
    assert found["moved"] == pytest.approx(0.5)
    assert found["to own centroid, natural"] == 0
    assert found["to own centroid, adversarial"] == pytest.approx(0.5)
    value, low, high = feature_space.probe(natural, natural + [0.0, 1.0])
    assert value == 1 and low > 0.5 and high == 1


def test_numbers_of_every_image_have_the_means_that_stand_beside_them():
    rng = np.random.default_rng(2)
    natural = rng.normal(size=(60, 4)) + np.repeat(np.eye(4)[:3] * 4, 20, axis=0)
    cloud = feature_space.Cloud(
        natural, natural + rng.normal(size=(60, 4)), np.repeat([0, 1, 2], 20)
    )
    means, each = (
        feature_space.numbers(cloud, feature_space.held_out(cloud)),
        feature_space.samples(cloud),
    )
    assert set(each) == set(records.FeatureSamples.__struct_fields__)
    for name, values in each.items():
        what, _, which = name.rpartition("_")
        title = {"silhouette": "silhouette", "own_centroid": "to own centroid"}[what]
        assert len(values) == 60
        assert np.mean(values) == pytest.approx(means[f"{title}, {which}"], abs=1e-6)


def test_transferred_images_are_kept_one_by_one(run):
    for record in run.records("transfer", run.surrogates(), say=silent):
        for label, shares in record.targets.items():
            for key, share in shares.items():
                right = from_bits(record.right[label][key])
                assert len(right) == share.count
                assert int(right.sum()) == round(share.value * share.count)
                assert not bool((right & ~from_bits(record.right[label]["clean"])).any())


def test_a_probe_of_one_distribution_is_at_chance():
    rng = np.random.default_rng(1)
    value, low, high = feature_space.probe(rng.normal(size=(600, 6)), rng.normal(size=(600, 6)))
    assert low <= 0.5 <= high


def test_claims_are_rows_with_a_verdict(run):
    table = claims.claims(run)
    assert len(table) >= 15
    # Of other data than the paper's a verdict speaks of what is so here.
    assert table.verdict.str.endswith(" here").all()
    told = {claim.outcome for claim in claims.judged(run)}
    assert "not run" in told and told <= set(claims.OUTCOMES)
    assert set(table["same here?"].str.partition(",")[0]) <= {"yes", "no", "cannot tell"}
    # Notebook 09 has not been run here, and L2-AT is not among the defences.
    lacking = table["claim, in our words"][table["seen here"].str.contains("needs records")]
    assert len(lacking) == 3
    assert lacking.str.contains("notebook 09|an attack that knows|L2 threat").all()
    assert table.section.str.len().gt(0).all()


def test_claims_without_records_cannot_tell(tmp_path):
    table = claims.claims(open_run("demo", SETTINGS, tmp_path))
    assert set(table["same here?"]) == {"cannot tell"}
    assert table["seen here"].str.contains("needs records").all()


def test_a_red_record_is_seen(run):
    from ldatlib.files import read_json, write_json

    assert summary.self_checks(run).empty
    path = run.jobs_of("sweep_eps", [run.training("ldat")])[0].path
    content = read_json(path)
    write_json(path, {**content, "ok": False})
    try:
        assert list(summary.self_checks(run).record) == [path.name]
    finally:
        write_json(path, content)


def test_inventory_names_what_is_missing(run, tmp_path):
    empty = summary.inventory(open_run("demo", SETTINGS, tmp_path))
    assert isinstance(empty, pd.DataFrame) and len(empty) == 21
    assert "--profile cifar100" in empty.loc["Table 2", "in this run"]
    assert "--only 03" in empty.loc["Table 1", "in this run"]
    assert len(empty.loc["Scrutiny"]) == 7
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "fig4.png").write_bytes(b"")
    made = summary.inventory(open_run("demo", SETTINGS, tmp_path))
    assert made.loc["Figure 4", "in this run"] == "figures/fig4.png"


def test_features_in_one_point_have_no_distances():
    """What a collapsed network leaves; t-SNE itself would crash on it."""
    point = np.full((30, 4), 0.25)
    cloud = feature_space.Cloud(point, point + 1e-9, np.arange(30) % 3)
    assert feature_space.collapsed(cloud) and feature_space.samples(cloud) is None
    assert set(feature_space.numbers(cloud, feature_space.held_out(cloud)).values()) == {None}
    flat = feature_space.embed(cloud)
    assert flat.natural.shape == flat.adversarial.shape == (30, 2) and not flat.natural.any()
    spread = feature_space.Cloud(point + np.eye(30, 4), point, np.arange(30) % 3)
    assert not feature_space.collapsed(spread)
    assert set(feature_space.numbers(spread, feature_space.held_out(spread))) == set(
        feature_space.NUMBERS
    )


def test_a_network_at_chance_holds_no_claim(run, monkeypatch):
    """Whatever such a network has of a claim, it has for the wrong reason."""
    table = claims.claims(run)
    assert (table["same here?"] == "yes").any()
    monkeypatch.setattr(claims.Evidence, "at_chance", True)
    guessing = claims.claims(run)
    # But that it guesses: the claim that is about collapse.
    lost = guessing["claim, in our words"].str.contains("ability to classify")
    assert guessing["same here?"][lost].item() == "no"
    assert (guessing["same here?"][~lost] == "cannot tell: collapsed").all()
    told = ~lost & ~guessing["seen here"].str.contains("needs records")
    assert guessing["seen here"][told].str.contains("only guesses").all()
