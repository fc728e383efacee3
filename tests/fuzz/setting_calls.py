"""Profiles and ``--set`` values, limits of time, settings of trainings and attacks."""

import math
import sys
import types
import typing
from dataclasses import fields

import torch
from fuzzing import mostly
from hypothesis import strategies as st
from tiny import PROJECT, TINY

from ldatlib.data import Dataset
from ldatlib.defences import defence_names, make_defence
from ldatlib.errors import OutOfTime
from ldatlib.evaluation.named_attacks import METHODS, Attack
from ldatlib.models import NetworkConfig
from ldatlib.study.profiles import PROFILES, load_profile
from ldatlib.study.run import open_run
from ldatlib.study.settings import Profile, parse_assignments, parse_duration, parse_value
from ldatlib.training.config import Storage, TrainConfig
from ldatlib.training.trainer import train

sys.path.insert(0, str(PROJECT))
import runner  # noqa: E402

FIELDS = {f.name: f for f in fields(Profile) if f.name not in ("name", "title")}
HINTS = typing.get_type_hints(Profile)

# Numbers as people and programs write them, and as nobody should.
NUMBERS = st.one_of(
    st.integers(-3, 300).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(
        "0 -1 1e400 nan inf -inf 1e-400 0x10 1_000 5.0 8/255 1/0 -0 ٣ １２ ² ½ +7 1e5 1e999999999 "
        "1e-999999999 9/1e9 True None 0.1.2 1,2 , ,, 5; 8/255/2 1j".split()
    ),
    st.sampled_from(["9" * 400, "9" * 5000, "0." + "9" * 5000, " 5 ", "5\n", "99999999\n", "1 2"]),
)
TEXT = st.text(max_size=12)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 100),
    st.floats(),
    st.floats(0, 2),
    TEXT,
    NUMBERS,
    st.binary(max_size=4),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXT, inner, max_size=2),
        st.frozensets(st.integers(0, 5), max_size=3),
    ),
    max_leaves=5,
)
KNOWN_WORDS = st.sampled_from(
    [
        *("standard", "ldat", "l2", "linf", "l2,linf", "standard,ldat", "natural,natural"),
        *("folder", "digits", "published", "npz", "cifar10", "resnet", "wide_resnet", "half"),
        *("all", "switches", "lambda 0", "PGD-CE,PGD-KL*", "bfloat16", "auto", "on", "yes", "~"),
    ]
)


def _fitting(name: str) -> st.SearchStrategy:
    """Values that a field may have, most of them."""
    spec, kind = FIELDS[name], HINTS[name]
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    kind = next(option for option in options if option is not type(None))
    many = typing.get_origin(kind) is tuple
    kind = typing.get_args(kind)[0] if many else kind
    limits = spec.metadata
    if "known" in limits:
        known = limits["known"]
        one = st.sampled_from(list(known() if callable(known) else known))
    elif "low" in limits:
        ends = st.sampled_from([limits["low"], limits["high"]])
        low, high = limits["low"], min(limits["high"], limits["low"] + 100)
        one = st.integers(low, high) if kind is int else st.floats(low, high)
        one = st.one_of(one, ends)
    elif kind is bool:
        one = st.sampled_from([True, False, "yes", "No", "1"])
    else:
        one = st.text(max_size=6)
    if many and name != "plugins":
        as_text = st.lists(one, min_size=1, max_size=3, unique=True)
        return st.one_of(as_text, as_text.map(lambda v: ",".join(map(str, v))))
    return st.one_of(one, one.map(str))


NAMES = mostly(
    st.sampled_from(sorted(FIELDS)),
    st.sampled_from(["name", "title", "epoch", "Epochs", "", " ", "seeds ", "__class__", "é"]),
    TEXT,
)
PROFILE_NAMES = mostly(st.sampled_from(sorted(set(PROFILES) - {"folder"})), st.just("folder"), TEXT)
_GARBAGE = st.one_of(NUMBERS, KNOWN_WORDS, VALUES)
PAIRS = NAMES.flatmap(
    lambda name: st.tuples(
        st.just(name),
        mostly(_fitting(name), _GARBAGE, of=3) if name in FIELDS else _GARBAGE,
    )
)


def in_range(profile: Profile) -> None:
    """Every field is of its type and in its range, whoever gave it."""
    for name, spec in FIELDS.items():
        value = getattr(profile, name)
        kind = HINTS[name]
        options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        if value is None:
            assert type(None) in options, name
            continue
        kind = next(option for option in options if option is not type(None))
        values, limits = (value,), spec.metadata
        if typing.get_origin(kind) is tuple:
            assert isinstance(value, tuple), name
            values, kind = value, typing.get_args(kind)[0]
        for one in values:
            assert type(one) is kind, (name, one)
            if "low" in limits:
                assert limits["low"] <= one <= limits["high"] and math.isfinite(one), (name, one)
            if "known" in limits:
                known = limits["known"]
                assert one in (known() if callable(known) else known), (name, one)


def assignments(case, folder):
    name, pairs, as_text = case
    if as_text:
        overrides = parse_assignments([f"{key}={value}" for key, value in pairs])
    else:
        overrides = dict(pairs)
    profile = load_profile(name, overrides)
    in_range(profile)
    for key, value in overrides.items():
        if key != "plugins":
            # What is stored is read as itself: it travels to notebooks and workers.
            assert parse_value(key, getattr(profile, key)) == getattr(profile, key)
            assert getattr(profile, key) == parse_value(key, value)


def names_of_assignments(case):
    name, pairs, as_text = case
    keys = [str(key).strip() for key, _ in pairs]
    return [*(key for key in keys if key), repr(name), str(name), "--set", "parameter", "plug-in"]


ASSIGNMENTS = st.tuples(
    PROFILE_NAMES,
    st.lists(PAIRS, min_size=1, max_size=3),
    st.booleans(),
)


def words(case, folder):
    kind, text = case
    if kind == "time":
        assert parse_duration(text) > 0
    elif kind == "jobs":
        assert isinstance(runner.whole_number("--jobs", text), int)
    elif kind == "rate":
        assert 0 < runner.positive_number("--rate", text) < math.inf
    elif kind == "set":
        parse_assignments([text])
    else:
        assert runner.select(runner.notebooks(), [text], None)


DURATIONS = st.from_regex(r"\d{1,3}(\.\d{1,3})?[smh]?", fullmatch=True)
WORDS = st.tuples(
    st.sampled_from(["time", "jobs", "rate", "set", "only"]),
    mostly(
        st.one_of(DURATIONS, st.sampled_from(["03", "3", "epochs=3", "2e14", "10"])),
        NUMBERS,
        TEXT,
        of=2,
    ),
)


def names_of_words(case):
    return ["time limit", "--jobs", "--rate", "--set", "notebook"]


def parameters(case, folder):
    """What a notebook's first cell hands over."""
    given = dict(case)
    if given.pop("inside", True):
        given["out"] = folder / "run"
    run = open_run(**given)
    assert run.jobs >= 1
    in_range(run.profile)


PARAMETERS = st.fixed_dictionaries(
    {
        "profile": mostly(st.just("demo"), st.just("folder"), VALUES),
        "overrides": mostly(
            st.one_of(st.none(), st.just({"epochs": 1}), st.lists(PAIRS, max_size=2).map(dict)),
            VALUES,
        ),
        "jobs": mostly(st.one_of(st.none(), st.integers(1, 4)), VALUES),
    },
    optional={
        "processes": mostly(st.integers(1, 4), VALUES),
        "deadline": mostly(st.one_of(st.none(), st.floats(0, 1e10)), VALUES, st.floats()),
        "out": mostly(TEXT, VALUES),
        "inside": st.booleans(),
    },
)


def names_of_parameters(case):
    overrides = case["overrides"]
    keys = [str(key) for key in overrides] if isinstance(overrides, dict) else []
    fixed = ["profile", "overrides", "jobs", "out", "deadline", "processes", "parameter", "plug-in"]
    return [*fixed, *filter(None, keys)]


# Sizes of networks that a plan of the smallest run may have.
SIZES = st.fixed_dictionaries(
    {},
    optional={
        "depth": mostly(st.sampled_from([4, 6, 10, 18]), st.sampled_from([5, 50, 1000])),
        "width": mostly(st.sampled_from([1, 2, 8]), st.sampled_from([16, 64, 1024])),
        "stages": mostly(st.just(1), st.integers(1, 6)),
        "stem_stride": st.integers(1, 4),
        "architecture": mostly(
            st.just("preact_resnet"), st.sampled_from(["wide_resnet", "resnet"])
        ),
        "val_size": mostly(st.integers(20, 300), st.integers(2, 2000), st.just(10**6)),
        "train_size": mostly(st.integers(20, 800), st.integers(2, 2000)),
        "test_size": mostly(st.integers(20, 400), st.integers(2, 2000)),
        "seeds": st.integers(1, 3),
        "batch_size": st.sampled_from([1, 2, 64, 65536]),
        "plane_classes": mostly(
            st.just([0, 1]), st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True)
        ),
        "plane_images": st.integers(2, 50),
        "tsne_images": st.integers(20, 100),
        "ablations": st.sampled_from(["paper", "switches", "all"]),
        "defences": st.lists(st.sampled_from(defence_names()), min_size=1, max_size=3, unique=True),
        "scrutiny_norms": st.sampled_from(["l2", "linf", "l2,linf"]),
        "epochs": st.sampled_from([1, 10000]),
        "flip": st.booleans(),
    },
)
NOTEBOOKS = st.sampled_from(["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"])


def plan(case, folder):
    sizes, notebook = case
    run = open_run("demo", TINY | sizes, folder, 1)
    jobs = run.plan(notebook)
    run.check(jobs)
    assert all(job.operations >= 0 and math.isfinite(job.operations) for job in jobs)


# A training that is handed whatever a caller may think of: one step, on four images.

TRAININGS = st.fixed_dictionaries(
    {
        "defence": mostly(st.sampled_from(defence_names()), TEXT, of=15),
        "switches": mostly(
            st.just({}),
            st.dictionaries(
                st.sampled_from("beta margin lambda_init eps num_steps head loss other".split()),
                st.one_of(st.floats(0, 1), st.integers(0, 2), st.floats(), TEXT, st.none()),
                max_size=2,
            ),
            of=3,
        ),
        "budgets": st.tuples(
            *[mostly(st.floats(0.01, 1), st.floats(), st.integers(), TEXT, of=15)] * 3
        ),
        "network": st.fixed_dictionaries(
            {"depth": mostly(st.sampled_from([4, 6]), st.just(5), of=15)},
            optional={
                "width": mostly(st.integers(1, 4), st.integers(-2, 0), TEXT),
                "stages": mostly(st.just(1), st.floats()),
                "in_channels": mostly(st.just(1), st.integers(0, 3)),
                "num_classes": mostly(st.just(2), st.integers(0, 4)),
                "head": mostly(st.sampled_from(["linear", "gmm"]), st.sampled_from(["mlp", 3])),
                "centroid_init": mostly(st.just("xavier"), st.sampled_from(["unit", "x"])),
                "feature_dim": mostly(st.integers(1, 5), st.integers(-1, 0), st.floats()),
                "stem_stride": mostly(st.integers(1, 4), st.integers(-1, 900)),
            },
        ),
        "settings": st.fixed_dictionaries(
            {},
            optional={
                "seed": mostly(st.integers(0, 2**63 - 1), st.integers(), st.floats()),
                "batch_size": mostly(st.integers(4, 8), st.integers(-1, 0), TEXT),
                "lr": mostly(st.floats(1e-4, 0.5), st.floats(), TEXT),
                "momentum": mostly(st.floats(0, 0.99), st.floats()),
                "weight_decay": mostly(st.floats(0, 1), st.floats()),
                "padding": mostly(st.integers(0, 4), st.integers(-5, 80), st.none()),
                "flip": mostly(st.booleans(), st.integers()),
                "ema_decay": mostly(st.floats(0, 0.99), st.floats()),
                "val_eps": mostly(st.floats(0.01, 1), st.floats()),
                "val_limit": mostly(st.integers(1, 4), st.floats()),
                "val_every": mostly(st.integers(1, 4), TEXT),
                "precision": mostly(
                    st.sampled_from(["float32", "bfloat16", "auto"]), st.just("float16"), st.none()
                ),
            },
        ),
        "attack_steps": mostly(st.integers(1, 2), st.floats(), st.sampled_from([0, -1, "2"])),
        "compile": mostly(st.sampled_from(["off", "auto"]), st.just("maybe"), st.none(), of=15),
        "storage": mostly(
            st.one_of(
                st.none(),
                st.tuples(st.booleans(), st.one_of(st.none(), st.integers(1, 500))),
            ),
            st.tuples(st.integers(), st.integers(-1, 500)),
            TEXT,
        ),
        "deadline": mostly(st.sampled_from([None, 0.0]), st.floats(), TEXT),
        "checkpoint": mostly(
            st.sampled_from(["net.safetensors", "a/b.safetensors", "猫.safetensors"]),
            TEXT,
            st.sampled_from(["net.pt", 3, None, b"net.safetensors"]),
        ),
    }
)


def training(case, folder):
    switches, (linf, l2, radius) = case["switches"], case["budgets"]
    defence = make_defence(
        case["defence"],
        eps_linf=linf,
        eps_l2=l2,
        radius=radius,
        **({"num_steps": case["attack_steps"]} | switches),
    )
    network = {"num_classes": 2, "head": defence.head, "width": 2, "stages": 1, "in_channels": 1}
    config = TrainConfig(
        defence,
        NetworkConfig(**(network | case["network"])),
        1,
        **({"batch_size": 4, "padding": 0, "val_steps": 1} | case["settings"]),
    )
    storage = case["storage"]
    storage = Storage(*storage) if isinstance(storage, tuple) else storage
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6) % 2
    data = Dataset.from_arrays(x, y, x[:2], y[:2], val_size=2)
    assert len(data.labels["train"]) == 4
    checkpoint = case["checkpoint"]
    if isinstance(checkpoint, str):
        checkpoint = folder / checkpoint
        if folder not in checkpoint.resolve().parents and "\0" not in str(checkpoint):
            return
    try:
        result = train(
            config,
            data,
            checkpoint,
            storage=storage,
            deadline=case["deadline"],
            compile=case["compile"],
            on_epoch=lambda line: None,
        )
    except OutOfTime:
        return
    assert len(result.log) == 1 and all(math.isfinite(v) for v in result.log[0].values())


ATTACKS = st.fixed_dictionaries(
    {
        "method": mostly(st.sampled_from(sorted(METHODS)), TEXT),
        "norm": mostly(st.sampled_from(["linf", "l2"]), TEXT, st.none()),
        "eps": mostly(st.floats(0, 1), st.floats(), VALUES),
    },
    optional={
        "steps": mostly(st.integers(1, 9), VALUES),
        "step_size": mostly(st.one_of(st.none(), st.floats(0.001, 1)), VALUES),
        "cw_step_size": mostly(st.floats(0.001, 1), VALUES),
        "targets": mostly(st.integers(0, 9), VALUES),
        "restarts": mostly(st.integers(1, 3), VALUES),
        "radii": mostly(st.just((2.0, 1.0)), st.lists(st.floats(), max_size=3), VALUES),
    },
)


def attack(case, folder):
    made = Attack(**case)
    assert type(made.steps) is int and made.steps >= 1 and 0 <= made.eps < math.inf
    assert type(made.targets) is int and made.targets >= 0 and type(made.restarts) is int
    assert math.isfinite(made.absolute_step) and made.as_dict() and made.key


PLANS = st.tuples(SIZES, NOTEBOOKS)


def names_of_plan(case):
    fixed = ["batch", "validation", "depth", "width", "stages", "image_size", "size", "class"]
    return [*fixed, *case[0]]


def names_of_training(case):
    words = ["defence", "switch", "network", "architecture", "head", "checkpoint", "storage"]
    budgets = [
        "eps_linf",
        "eps_l2",
        "radius",
        "num_steps",
        "deadline",
        "compile",
        "channel",
        "loss",
    ]
    sizes = ["shard_bytes", "half", "feature_dim", "num_classes", "classes", "depth", "image"]
    return [*words, *budgets, *sizes, *case["network"], *case["settings"], case["defence"]]


def names_of_attack(case):
    return [*case, "attack", "norm", "works under", "radii"]
