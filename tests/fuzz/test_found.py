"""What generated calls once found, one kind a test, as plain calls with the right answer."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from file_calls import KINDS, whole
from tiny import PROJECT, TINY
from torch import nn

from ldatlib.data import Dataset, load_dataset
from ldatlib.defences import make_defence
from ldatlib.errors import UserError
from ldatlib.evaluation.autoattack import standard
from ldatlib.evaluation.gate.entry import check, heard
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.partial import Partial
from ldatlib.evaluation.robustness import evaluate, run_attack
from ldatlib.evaluation.worst_case import worst_case
from ldatlib.files import load_tensors, log_checksum, read_json, save_tensors, write_json
from ldatlib.study.profiles import load_profile
from ldatlib.study.run import open_run
from ldatlib.study.settings import parse_value

sys.path.insert(0, str(PROJECT))
import runner  # noqa: E402

PGD = Attack("pgd", "linf", 0.1, 2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()


@pytest.fixture
def images(model):
    x = torch.rand(8, 1, 4, 4)
    return x, model(x).argmax(1)


# Lines


def test_an_error_is_one_line_whatever_it_quotes():
    assert str(UserError("no 'a\nb\u2028c\r\nd'\n")) == "no 'a b c d'"
    with pytest.raises(UserError) as found:
        load_profile("demo", {"epochs": "9" * 5000})
    said = str(found.value)
    assert said.startswith("epochs must be a whole number, not '999") and len(said) < 1100
    with pytest.raises(UserError, match="known: 01, 02") as found:
        runner.select(runner.notebooks(), ["n" * 5000], None)
    assert len(str(found.value)) < 1100


# Settings


@pytest.mark.parametrize("value", ["1e999999999", "-1e999999999", "1e-999999999"])
def test_an_exponent_takes_no_memory(value):
    with pytest.raises(UserError, match="lr must (lie between|be a number)"):
        parse_value("lr", value)


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.1", 0.1), ("1e-3", 1e-3)])
def test_numbers_are_read_as_before(text, value):
    assert parse_value("eps_linf", text) == value


@pytest.mark.parametrize("value", [["a"], {"a": 1}, b"a", True, "a\0b"])
def test_text_is_no_other_value(value):
    for name in ("data_root", "data_title", "architecture"):
        with pytest.raises(UserError, match=f"{name} must be text, not"):
            parse_value(name, value)


def test_a_path_of_a_plug_in_that_is_none():
    with pytest.raises(UserError, match="plugins must be"):
        load_profile("demo", {"plugins": "a\0b"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"profile": {}}, r"unknown profile \{\}"),
        ({"profile": ["demo"]}, r"unknown profile \['demo'\]"),
        ({"overrides": [1]}, r"overrides must be settings by name, .* not \[1\]"),
        ({"overrides": "epochs=1"}, r"overrides must be settings by name"),
        ({"jobs": "2"}, r"jobs must be a whole number of at least 1, not '2'"),
        ({"jobs": 0}, r"jobs must be a whole number of at least 1, not 0"),
        ({"processes": 1.5}, r"processes must be a whole number of at least 1, not 1.5"),
        ({"deadline": "9m"}, r"deadline must be in seconds of time.time\(\)"),
        ({"out": 3}, r"out must be a path, as text or a Path, not 3"),
        ({"out": "a\0"}, r"out must be a path"),
    ],
)
def test_a_run_is_opened_with_values_of_the_right_kind(arguments, said):
    with pytest.raises(UserError, match=said):
        open_run(**arguments)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": []}, r"unknown attack \[\]"),
        ({"norm": []}, r"pgd works under linf or l2, not \[\]"),
        ({"eps": []}, r"eps must be a number of at least 0, not \[\]"),
        ({"eps": 1e300}, r"eps must be a number of at least 0, not 1e\+300"),
        ({"steps": 2.5}, r"steps must be a whole number of at least 1, not 2.5"),
        ({"restarts": (1,)}, r"restarts must be a whole number"),
        ({"targets": {}}, r"targets must be a whole number of at least 0"),
        ({"cw_step_size": None}, r"cw_step_size must be a number above 0"),
        ({"radii": 3}, r"radii fall to 1, in budgets, such as 3, 2, 1; not 3"),
        ({"radii": ["2", 1]}, r"radii fall to 1"),
    ],
)
def test_an_attack_has_settings_of_the_right_kind(settings, said):
    with pytest.raises(UserError, match=said):
        Attack(**({"method": "pgd", "norm": "linf", "eps": 0.1} | settings))


def test_numbers_of_numpy_are_numbers_of_an_attack():
    attack = Attack("pgd", "linf", np.float32(0.5), np.int64(3))
    assert type(attack.eps) is float and type(attack.steps) is int
    assert json.dumps(attack.as_dict())


def test_a_budget_that_float32_does_not_hold():
    with pytest.raises(UserError, match="standard: eps must be a number"):
        make_defence("standard", eps_linf=1e200, eps_l2=0.5, radius=1.0)


# Data


@pytest.mark.parametrize("name", ["val_size", "train_size", "test_size"])
@pytest.mark.parametrize("value", [2.0, "2", 2.7e-276, True])
def test_sizes_are_whole_numbers(name, value):
    x, y = torch.rand(12, 1, 4, 4), torch.arange(12) % 2
    with pytest.raises(UserError, match=f"{name} must be a whole number, not"):
        Dataset.from_arrays(x, y, x, y, **({"val_size": 2} | {name: value}))


def test_a_title_is_text():
    x, y = torch.rand(12, 1, 4, 4), torch.arange(12) % 2
    with pytest.raises(UserError, match="the title must be a line of text, not 3"):
        Dataset.from_arrays(x, y, x, y, val_size=2, title=3)


@pytest.mark.parametrize("names", ["ab", b"ab", 2])
def test_class_names_are_a_list(names):
    x, y = torch.rand(12, 1, 4, 4), torch.arange(12) % 2
    with pytest.raises(UserError, match="class_names must be a list of texts, not"):
        Dataset.from_arrays(x, y, x, y, val_size=2, class_names=names)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"root": 3}, "root, or data_root, must be a path"),
        ({"root": "a\0b"}, "root, or data_root, must be a path"),
        ({"root": ".", "image_size": 8.5}, "image_size must be a whole number"),
    ],
)
def test_a_folder_is_asked_for_with_values_of_the_right_kind(arguments, said):
    with pytest.raises(UserError, match=said):
        load_dataset("folder", **arguments)


# Evaluators


@pytest.mark.parametrize("evaluator", [evaluate, worst_case, run_attack, standard])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"batch_size": -1}, "batch_size must be a whole number of at least 1, not -1"),
        ({"batch_size": "8"}, "batch_size must be a whole number of at least 1, not '8'"),
        ({"seed": 1.5}, "seed must be a whole number of at least 0, not 1.5"),
        ({"seed": 10**30}, "seed must be at most"),
    ],
)
def test_options_of_an_evaluator(evaluator, option, said, model, images):
    attacks = {evaluate: [PGD], worst_case: [PGD], run_attack: PGD}
    given = [attacks[evaluator]] if evaluator in attacks else []
    ball = {"eps": 0.1, "norm": "linf"} if evaluator is standard else {}
    with pytest.raises(UserError, match=said):
        evaluator(model, *images, *given, **ball, **option)


def test_processes_are_a_number(model, images):
    with pytest.raises(UserError, match="processes must be a whole number of at least 1, not '2'"):
        worst_case(model, *images, [PGD], processes="2")


@pytest.mark.parametrize("attacks", [3, [3], "pgd", [PGD, None]])
def test_attacks_are_attacks(attacks, model, images):
    for evaluator in (evaluate, worst_case):
        with pytest.raises(UserError, match="attacks are a list of Attack"):
            evaluator(model, *images, attacks)


def test_partial_is_one(model, images):
    with pytest.raises(UserError, match="partial must be a Partial, not 3"):
        evaluate(model, *images, [PGD], partial=3)


def test_images_of_another_byte_order_are_the_same(model, images):
    x, y = images
    found = check(model, x.numpy().astype(">f4"), y)
    assert torch.equal(found.x, x)


def test_square_says_which_images_are_too_small_for_it(model, images):
    attack = Attack("square", "l2", 0.5, 3)
    said = "Square under l2 needs images of at least 5 rows, not 4"
    with pytest.raises(UserError, match=said):
        evaluate(model, *images, [PGD, attack])
    with pytest.raises(UserError, match=said):
        standard(model, *images, eps=0.5, norm="l2")
    assert evaluate(model, *images, [Attack("square", "linf", 0.1, 3)]).record["ok"]
    wide = nn.Sequential(nn.Flatten(), nn.Linear(25, 2)).eval()
    x = torch.rand(8, 1, 5, 5)
    assert evaluate(wide, x, wide(x).argmax(1), [attack]).record["ok"]


# Files


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"cells": []}', b'{"cells": [{}]}', b"\xff", b"[" * 5000, b"{"],
)
def test_a_notebook_that_is_none(content, tmp_path):
    path = tmp_path / "01_own.ipynb"
    path.write_bytes(content)
    for ask in (runner.title, lambda path: runner.check_parameters(path, {"profile": "demo"})):
        with pytest.raises(UserError, match="01_own.ipynb (is no notebook|has no parameter)"):
            ask(path)


def test_an_altered_log_is_not_read(tmp_path):
    """Every digit of a log counts, and every line: figures and claims are made of them."""
    run = open_run("demo", TINY, tmp_path, 1)
    training = run.training("standard")
    path = run.log_path(training)
    path.parent.mkdir(parents=True)
    lines = [{"epoch": n, "loss": 1.5 / n, "seconds": 2.0} for n in (1, 2, 3)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_json(path.with_suffix(".json"), {"kind": "train", "log": log_checksum(lines)})
    path.write_text(text, encoding="utf-8")
    assert run.log(training) == lines
    for changed in (text.replace("0.75", "0.95"), text[: text.index('{"epoch": 3')], text * 2, ""):
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(UserError, match=f"the log {re.escape(str(path))} is not the one"):
            run.log(training)
    # Of a training under way, or of one before this was recorded, nothing is known.
    path.with_suffix(".json").unlink()
    assert run.log(training) == []


@pytest.mark.parametrize(
    "other",
    [
        {"x_adv": torch.zeros(8, 1, 4, 4, dtype=torch.float64)},
        {"x_adv": torch.zeros(3)},
        {"x_adv": torch.full((8, 1, 4, 4), float("nan"))},
        {"restart": torch.zeros(3, dtype=torch.int64)},
        {"restart": torch.zeros(8)},
    ],
)
def test_a_kept_attack_that_does_not_fit_is_run_again(other, model, images, tmp_path):
    kept = Partial(tmp_path, "own")
    expected = evaluate(model, *images, [PGD], partial=kept).x_adv[PGD.key]
    tensors, header = kept.find(PGD.key)
    for header_of in (header, {**header, "seconds": "1"}):
        save_tensors(tmp_path / f"own.{PGD.key}.safetensors", tensors | other, header_of)
        found = evaluate(model, *images, [PGD], partial=kept)
        assert torch.equal(found.x_adv[PGD.key], expected) and found.record["ok"]


@pytest.mark.parametrize("said", [5, None, [5], [{"other": 1}]])
def test_a_kept_attack_whose_findings_are_none_is_run_again(said, model, images, tmp_path):
    kept = Partial(tmp_path, "own")
    kept.keep("one", {"x": torch.zeros(2)}, {"gate": said})
    with heard():
        assert kept.find("one") is None


@pytest.mark.parametrize("name", ["x_adv", "clean", "right"])
def test_a_state_of_autoattack_that_does_not_fit_is_refused(name, model, images, tmp_path):
    state = tmp_path / "state.safetensors"
    options = {"eps": 0.1, "norm": "linf", "attacks": ("apgd-ce",), "state": state}
    standard(model, *images, **options)
    tensors, header = load_tensors(state)
    for other in (tensors | {name: torch.zeros(())}, {k: tensors[k] for k in tensors if k != name}):
        save_tensors(state, other, header)
        with pytest.raises(UserError, match="state.safetensors lacks something of a state"):
            standard(model, *images, **options)
    save_tensors(state, tensors, header | {"done": {"apgd-ce": 1}})
    with pytest.raises(UserError, match="state.safetensors lacks something of a state"):
        standard(model, *images, **options)


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": {"val": 2, "test": 2}},
        {"sizes": {"train": 2.5, "val": 2, "test": 2}},
        {"class_names": [1, 2]},
        {"class_names": []},
        {"shape": [3]},
        {"shape": [1, -4, 4]},
        {"title": None},
        {"flip": "no"},
    ],
)
def test_a_description_of_other_values_is_refused(change, tmp_path):
    kept, name, _ = whole("data.json")
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    write_json(tmp_path / name, read_json(tmp_path / name) | change)
    with pytest.raises(UserError, match=r"data\.json describes no data set of ours"):
        KINDS["data.json"][2](tmp_path)
