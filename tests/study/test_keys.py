"""What a result is found by: today's keys are pinned, and nothing moves that need not."""

from dataclasses import dataclass, field, make_dataclass

import pytest
from tiny import TINY, silent

from ldatlib.errors import UserError
from ldatlib.study import keys
from ldatlib.study.keys import digest, full, minimal
from ldatlib.study.kinds import KINDS
from ldatlib.study.run import open_run

# Of the smallest run on the digits. Whoever has to change one of these makes every result of its
# kind, on every machine, be computed anew: raise its number in keys.NUMERICS instead, where
# numbers change, and give a new field a default.
DEFENCES = {
    "natural": "3e451a288c",
    "standard": "9357ff9ae2",
    "l2_at": "a0c4ff6d89",
    "l2_at_wide": "d005129abd",
    "trades": "96d1624bee",
    "mart": "dd55bdc7d8",
    "lbgat": "d000c9d677",
    "ldat": "f59eae7a65",
    "ldat_chosen": "c96b059f76",
}
TRAININGS = {
    "plane-natural-s0": "ab90387f38",
    "plane-standard-s0": "bc1ffd9e29",
    "plane-ldat-s0": "5436add8dd",
    "natural-surrogate-s1000": "6380791fac",
    "standard-surrogate-s1000": "12fc424642",
    "ldat-s0": "f59eae7a65",
    "standard-s0": "9357ff9ae2",
    "ldat-beta0-s0": "e12df1c95f",
    "ldat-beta0.2-s0": "3f394995c8",
    "ldat-beta0.8-s0": "c1a0efd852",
    "ldat-beta1-s0": "339ec294e2",
    "ldat-pgd-ce-l2-s0": "e95bb77130",
    "ldat-pgd-kl-l2-s0": "0816541f57",
    "ldat-pgd-ce-linf-s0": "083440b4fe",
    "ldat-pgd-kl-linf-s0": "bf7ae9d83e",
}
KINDS_OF_LDAT = {
    "train": "f59eae7a65",
    "whitebox": "656321736a",
    "worst_case": "dd2e6cc7b9",
    "basic": "b872c04084",
    "validation": "2690112162",
    "sweep_eps": "0454a0c238",
    "sweep_steps": "3658fa866e",
    "transfer": "3ebe53d6bb",
    "features": "9f07ae1ec4",
    "detection": "7f13d9e32f",
    "search": "b4fe0959b9",
    "autoattack": "4a269b53b6",
    "masking": "f119a7cb23",
    "adaptive": "695be4c5c1",
}


@dataclass(frozen=True)
class Inner:
    kind = "inner"
    value: int = 1


@dataclass(frozen=True)
class Outer:
    must: int
    may: float = 0.5
    parts: tuple[int, ...] = ()
    inner: Inner = Inner()
    listed: list = field(default_factory=list)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run("demo", TINY, tmp_path_factory.mktemp("keys"), jobs=1)


def test_what_is_at_its_default_is_left_out():
    assert minimal(Outer(1)) == {"must": 1}
    assert minimal(Outer(1, inner=Inner(2))) == {"must": 1, "inner": {"kind": "inner", "value": 2}}
    assert minimal(Outer(1, 0.25, (1, 2))) == {"must": 1, "may": 0.25, "parts": [1, 2]}
    assert minimal({"a": None, "b": [Inner(3)]}) == {"b": [{"kind": "inner", "value": 3}]}


def test_a_whole_number_is_a_number():
    assert digest({"config": Outer(1, may=1)}) == digest({"config": Outer(1, may=1.0)})


def test_what_decides_the_numbers_is_in_every_key(run):
    """Attacks that draw random numbers draw others in other batches."""
    other = open_run("demo", {**TINY, "eval_batch": 7}, run.root, jobs=1)
    ldat = run.training("ldat")
    same = {n for n, kind in KINDS.items() if kind.key(run, ldat) == kind.key(other, ldat)}
    assert same == {"train"}


def test_more_seeds_of_the_others_redo_no_test_for_masking(run):
    other = open_run("demo", {**TINY, "seeds": 2, "seeded": "standard"}, run.root, jobs=1)
    ldat = run.training("ldat")
    assert KINDS["masking"].key(other, ldat) == KINDS["masking"].key(run, ldat)


def test_a_record_under_anothers_name_is_refused(run, tmp_path):
    mine = open_run("demo", TINY | {"epochs": 1, "defences": ("natural",)}, tmp_path, jobs=1)
    (training,) = mine.trainings()
    mine.records("basic", [training], silent)
    other = open_run("demo", dict(TINY, epochs=1, defences=("natural",), steps=3), tmp_path)
    (source,), (target,) = (r.jobs_of("basic", [training]) for r in (mine, other))
    target.path.write_bytes(source.path.read_bytes())
    with pytest.raises(UserError, match="is of the key"):
        other.records("basic", [training], silent)


def test_a_record_shows_what_is_at_its_default_too():
    assert full(Outer(1)) == {
        "must": 1,
        "may": 0.5,
        "parts": (),
        "inner": {"value": 1},
        "listed": [],
    }


def test_a_new_field_with_a_default_moves_nothing():
    wider = make_dataclass("Outer", [("new", str, "default")], bases=(Outer,), frozen=True)
    assert digest({"config": wider(1)}) == digest({"config": Outer(1)})
    assert digest({"config": wider(1, new="other")}) != digest({"config": Outer(1)})
    assert digest({"steps": 3, "added": None}) == digest({"steps": 3})


def test_todays_keys_are_pinned(run):
    assert {name: run.training_key(run.training(name)) for name in DEFENCES} == DEFENCES
    assert {t.label: run.training_key(t) for t in run.every_training()} == TRAININGS
    ldat = run.training("ldat")
    assert {name: kind.key(run, ldat) for name, kind in KINDS.items()} == KINDS_OF_LDAT


def test_every_kind_has_a_numerics_version():
    assert set(keys.NUMERICS) == set(KINDS)


@pytest.mark.parametrize("raised", keys.NUMERICS)
def test_raising_one_kind_moves_what_is_made_from_it_alone(run, monkeypatch, raised):
    ldat = run.training("ldat")

    def found():
        return {name: kind.key(run, ldat) for name, kind in KINDS.items()}

    before = found()
    monkeypatch.setitem(keys.NUMERICS, raised, keys.NUMERICS[raised] + 1)
    moved = {name for name, key in found().items() if key != before[name]}
    assert moved == {name for name, kind in KINDS.items() if raised in kind.numerics}
    assert raised in moved
    if raised != "train":
        assert "train" not in moved


def test_a_setting_that_a_defence_does_not_use_is_no_part_of_its_key(run):
    def key(name, **overrides):
        other = open_run("demo", {**TINY, **overrides}, run.root, jobs=1)
        return other.training_key(other.training(name))

    # Algorithm 1 has no L2 budget; plain L2 adversarial training has no radius or beta.
    assert key("ldat", eps_l2=0.5) == key("ldat") != key("ldat", radius=1.0)
    assert key("l2_at", radius=1.0, beta=0.3) == key("l2_at") != key("l2_at", eps_l2=0.5)


@pytest.mark.parametrize(("flip", "moved"), [(None, False), ("no", False), ("yes", True)])
def test_mirroring_as_the_data_has_it_moves_no_key(run, tmp_path, flip, moved):
    changed = open_run("demo", TINY | {"flip": flip}, tmp_path, jobs=1)
    assert changed.training("ldat").config.flip is moved  # digits are not mirrored
    keys_ = [r.training_key(r.training("ldat")) for r in (run, changed)]
    assert (keys_[0] != keys_[1]) is moved


def test_a_plan_without_the_images_mirrors_as_the_profile_says(tmp_path):
    for flip, expected in ((None, True), ("no", False)):
        plan = open_run("cifar10", {"flip": flip, "data_root": str(tmp_path)}, tmp_path)
        assert plan.plan_without_data() and plan.training("ldat").config.flip is expected
