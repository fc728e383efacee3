"""Profiles: what an override may be, and what is said when it may not."""

from dataclasses import fields

import pytest

from ldatlib.errors import UserError
from ldatlib.study.profiles import PROFILES, load_profile
from ldatlib.study.settings import Profile, parse_assignments, parse_value

SETTABLE = [field.name for field in fields(Profile) if field.name not in ("name", "title")]


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_fit_their_own_ranges(name, tmp_path):
    profile = PROFILES[name]
    assert profile.name == name and profile.title
    for field in SETTABLE:
        value = getattr(profile, field)
        assert parse_value(field, value) == value
    overrides = {"data_root": str(tmp_path)} if profile.dataset == "folder" else None
    assert load_profile(name, overrides).name == name


@pytest.mark.parametrize("field", SETTABLE)
def test_every_field_is_explained(field):
    (spec,) = [spec for spec in fields(Profile) if spec.name == field]
    assert spec.metadata["about"]


def test_nothing_to_override():
    assert load_profile("demo") == load_profile("demo", {}) == PROFILES["demo"]


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("epochs", "5", 5),
        ("epochs", 5, 5),
        ("epochs", 5.0, 5),
        ("epochs", " 5 ", 5),
        ("eps_linf", "8/255", 8 / 255),
        ("eps_linf", "0.03", 0.03),
        ("eps_linf", "3e-2", 0.03),
        ("beta", 0, 0.0),
        ("lr", "1", 1.0),
        ("dataset", "digits", "digits"),
        ("data_title", "My pets", "My pets"),
        ("data_root", "some/where", "some/where"),
        ("image_size", "64", 64),
        ("image_size", "", None),
        ("image_size", None, None),
        ("test_size", "", None),
        ("data_root", None, None),
        ("flip", "no", False),
        ("flip", "Yes", True),
        ("flip", "false", False),
        ("flip", " true ", True),
        ("flip", "0", False),
        ("flip", 1, True),
        ("flip", False, False),
        ("flip", "", None),
        ("flip", None, None),
        ("defences", "ldat", ("ldat",)),
        ("defences", "ldat, trades", ("ldat", "trades")),
        ("defences", ["ldat", "trades"], ("ldat", "trades")),
        ("sweep_steps", "1,5,10", (1, 5, 10)),
        ("sweep_steps", 7, (7,)),
        ("sweep_eps", "1/2, 2", (0.5, 2.0)),
        ("sweep_eps", (1, 2.5), (1.0, 2.5)),
        ("plane_classes", (0, 9), (0, 9)),
    ],
)
def test_override(field, given, expected):
    found = getattr(load_profile("demo", {field: given}), field)
    assert found == expected and type(found) is type(expected)
    if isinstance(found, tuple):
        assert [type(value) for value in found] == [type(value) for value in expected]


def test_other_fields_stay():
    profile = load_profile("demo", {"epochs": 1, "lr": "0.2"})
    changed = {f for f in SETTABLE if getattr(profile, f) != getattr(PROFILES["demo"], f)}
    assert changed == {"epochs", "lr"}


@pytest.mark.parametrize(
    ("field", "given", "named"),
    [
        ("epochs", "many", "epochs must be a whole number, not 'many'"),
        ("epochs", "5.5", "epochs must be a whole number, not '5.5'"),
        ("epochs", 5.5, "epochs must be a whole number, not 5.5"),
        ("epochs", True, "epochs must be a whole number, not True"),
        ("epochs", None, "epochs must be a whole number, not None"),
        ("epochs", "", "epochs must be a whole number, not ''"),
        ("epochs", "5,6", "epochs must be a whole number, not '5,6'"),
        ("epochs", float("inf"), "epochs must be a whole number, not inf"),
        ("epochs", "0", "epochs must lie between 1 and 10000, not 0"),
        ("epochs", -3, "epochs must lie between 1 and 10000, not -3"),
        ("flip", "maybe", "flip must be yes or no, not 'maybe'"),
        ("flip", 2, "flip must be yes or no, not 2"),
        ("flip", "yes,no", "flip must be yes or no, not 'yes,no'"),
        ("flip", [True], r"flip must be yes or no, not \[True\]"),
        ("lr", "fast", "lr must be a number, not 'fast'"),
        ("lr", "1/0", "lr must be a number, not '1/0'"),
        ("lr", "nan", "lr must be a number, not 'nan'"),
        ("lr", "inf", "lr must be a number, not 'inf'"),
        ("lr", "1e400", "lr must .*1e400"),
        ("lr", float("nan"), "lr must lie between .*, not nan"),
        ("lr", float("inf"), "lr must lie between .*, not inf"),
        ("lr", False, "lr must be a number, not False"),
        ("lr", [0.1], r"lr must be a number, not \[0.1\]"),
        ("lr", "0", "lr must lie between 1e-08 and 100, not 0"),
        ("eps_linf", "256/255", "eps_linf must lie between 1e-06 and 1, not 256/255"),
        ("beta", "1.01", "beta must lie between 0 and 1"),
        ("image_size", "3", "image_size must lie between 8 and 512, not 3"),
        (
            "dataset",
            "cifar11",
            "dataset: unknown 'cifar11'; known: digits, cifar10, cifar100, folder",
        ),
        ("defences", "ldat,free", "defences: unknown 'free'; known: natural, standard"),
        ("defences", [], "defences needs at least one value"),
        ("defences", "", "defences: unknown ''"),
        ("sweep_steps", "1,two", "sweep_steps must be a whole number, not 'two'"),
        ("sweep_steps", "1,0", "sweep_steps must lie between 1 and 10000, not 0"),
        ("sweep_eps", (1, None), "sweep_eps must be a number, not None"),
    ],
)
def test_refused_values(field, given, named):
    with pytest.raises(UserError, match=named):
        load_profile("demo", {field: given})


@pytest.mark.parametrize(
    ("field", "hint"),
    [("epoch", "did you mean epochs"), ("eps_lin", "did you mean eps_linf"), ("zzz", "known: ")],
)
def test_unknown_fields_get_a_suggestion(field, hint):
    with pytest.raises(UserError, match=f"unknown parameter '{field}'; {hint}") as caught:
        load_profile("demo", {field: 1})
    assert all(name in str(caught.value) for name in SETTABLE)


@pytest.mark.parametrize("field", ["name", "title"])
def test_names_cannot_be_replaced(field):
    with pytest.raises(UserError, match=f"unknown parameter '{field}'"):
        load_profile("demo", {field: "other"})


def test_unknown_profile_lists_the_known():
    with pytest.raises(UserError, match="'dmeo'; known: " + ", ".join(PROFILES)):
        load_profile("dmeo")


def test_folder_needs_its_path():
    with pytest.raises(UserError, match="profile folder needs its data.*data_root"):
        load_profile("folder")
    with pytest.raises(UserError, match="data_root"):
        load_profile("demo", {"dataset": "folder"})
    assert load_profile("folder", {"data_root": "pets"}).data_root == "pets"


def test_budgets_of_the_paper():
    profile = load_profile("folder", {"data_root": "pets"})
    assert (profile.eps_linf, profile.eps_l2, profile.radius) == (8 / 255, 0.5, 1.5)
    assert (profile.beta, profile.margin, profile.lambda_init) == (0.5, 0.1, 1.0)
    assert (profile.epochs, profile.batch_size, profile.lr, profile.steps) == (250, 128, 0.1, 40)


def test_assignments():
    found = parse_assignments(["epochs=5", "data_root=a=b", " lr = 0.1 ", "image_size="])
    assert found == {"epochs": "5", "data_root": "a=b", "lr": "0.1", "image_size": ""}


@pytest.mark.parametrize("assignment", ["epochs", "=5", ""])
def test_not_an_assignment(assignment):
    with pytest.raises(UserError, match=f"name=value, not '{assignment}'"):
        parse_assignments([assignment])
