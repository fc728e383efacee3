"""Cut, flipped, filled and foreign bytes in every kind of file that is read, and forged contents.

A damaged file is refused, or gives what was written. A forged one is whole, its checksum right, and
one value in it is another: whoever reads it has to notice, or to do without.
"""

import contextlib
import functools
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from data_calls import damaged
from helpers import record
from hypothesis import strategies as st
from PIL import Image
from tiny import PROJECT, TINY
from torch import nn

from ldatlib.data import Dataset, describe, load_dataset, pictures
from ldatlib.data.description import DESCRIPTION, read_description
from ldatlib.defences import make_defence
from ldatlib.errors import OutOfTime
from ldatlib.evaluation.autoattack import standard
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.partial import Partial
from ldatlib.evaluation.robustness import evaluate
from ldatlib.files import load_tensors, log_checksum, read_json, save_tensors, write_json
from ldatlib.models import Classifier, NetworkConfig, build_network
from ldatlib.study import published, records
from ldatlib.study.clean import unused
from ldatlib.study.run import open_run
from ldatlib.training.checkpoint import load_model
from ldatlib.training.config import Storage, TrainConfig
from ldatlib.training.state import Files
from ldatlib.training.trainer import train

sys.path.insert(0, str(PROJECT))
import runner  # noqa: E402

NETWORK = NetworkConfig(2, depth=4, width=2, stages=1, in_channels=1)
NOTEBOOK = PROJECT / "notebooks" / "01_toy_linear_classifier.ipynb"


def _data() -> Dataset:
    x = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(10) % 2
    return Dataset.from_arrays(x, y, x, y, val_size=6)


def _train(folder: Path, deadline: float | None = None):
    """A training of two steps on four images: what its log says, and its weights."""
    defence = make_defence("natural", eps_linf=0.1, eps_l2=0.5, radius=1.0)
    config = TrainConfig(defence, None, 1, batch_size=2, padding=0, val_steps=1)
    torch.manual_seed(0)
    model = Classifier(nn.Flatten(), nn.Linear(16, 2))
    result = train(
        config,
        _data(),
        folder / "net.safetensors",
        model=model,
        deadline=deadline,
        on_epoch=lambda line: None,
    )
    line = {k: v for k, v in result.log[-1].items() if k != "seconds"}
    return line, {k: v.tolist() for k, v in model.state_dict().items()}


@functools.cache
def _images() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    x = torch.rand(8, 1, 4, 4)
    return net, x, net(x).argmax(1)


_ATTACK = Attack("pgd", "linf", 0.2, 2)


def _evaluate(folder: Path):
    net, x, y = _images()
    found = evaluate(net, x, y, [_ATTACK], partial=Partial(folder, "attacks"))
    return found.right["linf_pgd"].tolist(), found.x_adv["linf_pgd"].tolist()


def _autoattack(folder: Path):
    net, x, y = _images()
    state = folder / "attacks.safetensors"
    found = standard(net, x, y, norm="linf", eps=0.2, attacks=("apgd-ce",), state=state)
    return found.right.tolist(), found.x_adv.tolist(), found.record["attacks"]["apgd-ce"]["right"]


# Each writes into an empty folder, and returns what is read: of the whole file, the same.


def _tensors(path: Path):
    tensors, header = load_tensors(path)
    return {k: (str(v.dtype), v.tolist()) for k, v in tensors.items()}, header


def _weights(folder: Path):
    model = load_model(folder / "net.safetensors")
    return {k: v.tolist() for k, v in model.state_dict().items()}, model.header


def make_checkpoint(folder: Path, **options):
    torch.manual_seed(0)
    header = {"kind": "model", "network": NETWORK.as_dict(), "epoch": 3, "class_names": ["a", "b"]}
    save_tensors(folder / "net.safetensors", build_network(NETWORK).state_dict(), header, **options)


def make_state(folder: Path):
    with contextlib.suppress(OutOfTime):  # after the first of two steps
        _train(folder, 0.0)


def make_record(folder: Path, log: str | None = None):
    last = {"epoch": 1, "loss": 2.25, "val_clean_accuracy": 0.5, "val_robust_accuracy": 0.25}
    made = record(
        "train",
        images_per_second=10.5,
        execution={"precision": "float32"},
        parameters=7,
        checkpoints={"last": "a", "best": "b"},
        batch_norm="eval",
        val_images=3,
        log=log,
        last=last,
        best=last,
    )
    write_json(folder / "record.json", records.content(made))


def read_record(folder: Path):
    return records.content(records.read(folder / "record.json"))


def _run(folder: Path):
    return open_run("demo", TINY, folder, 1)


def make_log(folder: Path):
    run = _run(folder)
    path = run.log_path(run.training("standard"))
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"epoch": n, "lr": 0.1, "loss": 1.0 / n, "seconds": 2.5} for n in (1, 2, 3)]
    _log_writer(path).save_log(lines)
    # Beside it lies the record of the training, which tells of it.
    make_record(path.parent, log_checksum(lines))
    (path.parent / "record.json").rename(path.with_suffix(".json"))


def _log_writer(path: Path):
    defence = make_defence("natural", eps_linf=0.1, eps_l2=0.5, radius=1.0)
    config = TrainConfig(defence, NETWORK, 3)
    return Files(config, _data(), path.parent / "net.safetensors", path, Storage())


def read_log(folder: Path):
    run = _run(folder)
    lines = run.log(run.training("standard"))
    return [{key: line[key] for key in line if key != "seconds"} for line in lines]


def make_records_of_a_run(folder: Path):
    (folder / "records").mkdir()
    make_record(folder / "records")
    (folder / "records" / "record.json").rename(folder / "records" / "train-x-s0-0123456789.json")


def read_records_of_a_run(folder: Path):
    run = _run(folder)
    assert run.passed_over() in (0, 1)
    assert len(unused(run)) <= 1


def make_pixels(folder: Path):
    for split in ("train", "test"):
        for place, name in enumerate(("a", "b")):
            (folder / "pictures" / split / name).mkdir(parents=True)
            for i in range(2):
                picture = Image.fromarray(np.full((8, 8), 40 * place + i, np.uint8))
                picture.save(folder / "pictures" / split / name / f"{i}.png")
    read_pixels(folder)


def read_pixels(folder: Path):
    before, pictures._WORTH_CACHING = pictures._WORTH_CACHING, 1
    try:
        data = load_dataset("folder", root=folder / "pictures", val_size=2, cache=folder / "cache")
    finally:
        pictures._WORTH_CACHING = before
    return {split: images[:].tolist() for split, images in data.images.items()}


def make_npz(folder: Path):
    x = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4)
    y = np.arange(8) % 2
    names = np.array(["cat", "dog"])
    np.savez(
        folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y, class_names=names,
        flip=np.array(True),
    )  # fmt: skip


def read_npz(folder: Path):
    data = load_dataset("npz", root=folder / "data.npz", val_size=2)
    return data.fingerprint, data.flip, data.class_names


def make_description(folder: Path):
    write_json(folder / DESCRIPTION, describe(_data()))


def read_described(folder: Path):
    data = read_description(folder / DESCRIPTION)
    return describe(data)


def make_published(folder: Path):
    source = folder / "published"
    (source / "records").mkdir(parents=True)
    make_description(source)
    make_record(source / "records")


def read_published(folder: Path):
    shutil.rmtree(folder / "run", ignore_errors=True)
    published.unpack(folder / "published", folder / "run")
    data = load_dataset("published", root=folder / "published")
    return describe(data), read_record(folder / "run" / "records")


def make_notebook(folder: Path):
    shutil.copyfile(NOTEBOOK, folder / NOTEBOOK.name)


def read_notebook(folder: Path):
    """What the runner asks of it before it is executed; its text is the user's own."""
    assert isinstance(runner.title(folder / NOTEBOOK.name), str)
    given = {"profile": "demo", "overrides": {}, "out": "x", "jobs": 1}
    runner.check_parameters(folder / NOTEBOOK.name, given)


# Kind -> how it is made, what lies in the damaged file, how it is read, and whether what is read
# has to be what was written.
KINDS = {
    "checkpoint": (make_checkpoint, "net.safetensors", _weights),
    "half checkpoint": (
        lambda folder: make_checkpoint(folder, half=True),
        "net.safetensors",
        _weights,
    ),
    "shard": (
        lambda folder: make_checkpoint(folder, shard_bytes=300),
        "net-00002-of-*.safetensors",
        _weights,
    ),
    "tensors": (
        make_checkpoint,
        "net.safetensors",
        lambda folder: _tensors(folder / "net.safetensors"),
    ),
    "state": (make_state, "net.state.safetensors", _train),
    "record": (make_record, "record.json", read_record),
    "log": (make_log, "records/*.jsonl", read_log),
    "records of a run": (make_records_of_a_run, "records/*.json", read_records_of_a_run),
    "partial": (_evaluate, "attacks.linf_pgd.safetensors", _evaluate),
    "autoattack": (_autoattack, "attacks.safetensors", _autoattack),
    "pixel cache": (make_pixels, "cache/*.safetensors", read_pixels),
    "npz": (make_npz, "data.npz", read_npz),
    "data.json": (make_description, DESCRIPTION, read_described),
    "published data.json": (make_published, f"published/{DESCRIPTION}", read_published),
    "published record": (make_published, "published/records/record.json", read_published),
    "notebook": (make_notebook, NOTEBOOK.name, read_notebook),
}


@functools.cache
def whole(kind: str) -> tuple[Path, str, object]:
    """A folder of the kind's file as it was written, the file's name in it, and what is read."""
    make, pattern, read = KINDS[kind]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-whole-"))
    make(folder)
    (path,) = folder.glob(pattern)
    kept = folder.with_name(f"{folder.name}-kept")
    shutil.copytree(folder, kept)
    # Reading may move on (a training is finished): what is kept is as it was.
    expected = read(folder)
    shutil.rmtree(folder)
    return kept, str(path.relative_to(folder)), expected


FOREIGN = [
    b"", b"\0" * 64, b"{}", b"[]", b"null", b'{"sha256": ""}', b"\xff\xfe" * 20, b"PK\x03\x04",
    b"\x80\x04.", b"[" * 5000, b'{"a":' * 5000, b"1" * 5000, b"NaN", b'{"a": 1e400}', b"\n\n",
    b'{"cells": []}', b'{"cells": [{"source": 1}]}', b'{"cells": {}, "nbformat": 4}',
    b'{"cells": [{"source": []}], "nbformat": "x"}', b"\x93NUMPY", (2**40).to_bytes(8, "little"),
    '{"title": "\u2028", "sizes": 1}'.encode(), b'{"epoch": 1}\n3\n', b"\xef\xbb\xbf{}",
]  # fmt: skip
_ACCIDENT = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.integers(1, 60)),
    st.tuples(st.just("delete"), st.floats(0, 1), st.integers(1, 60)),
    st.tuples(st.just("zeros"), st.floats(0, 1), st.integers(1, 300)),
)
DAMAGED = st.tuples(
    st.sampled_from(sorted(KINDS)),
    st.one_of(
        st.lists(_ACCIDENT, min_size=1, max_size=3),
        st.lists(_ACCIDENT, min_size=1, max_size=1),
        st.sampled_from(FOREIGN),
        st.sampled_from(sorted(KINDS)),
    ),
)


def damage(case, folder):
    kind, what = case
    kept, name, expected = whole(kind)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    content = (kept / name).read_bytes()
    if isinstance(what, bytes):
        changed = what
    elif isinstance(what, str):
        other, inside, _ = whole(what)
        changed = (other / inside).read_bytes()
    else:
        changed = functools.reduce(damaged, what, content)
    (folder / name).write_bytes(changed)
    found = KINDS[kind][2](folder)
    if kind != "notebook" and not isinstance(what, str):
        assert found == expected, f"{kind}: something else was read"


def names_of_damage(case):
    kind, what = case
    _, name, _ = whole(kind)
    # Of a shard: the file that it is one of.
    return [Path(name).name, Path(name).stem.partition("-0000")[0], "net."]


# Forged: one value of a JSON file or of a header is another one, and all checksums are right.

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 40),
        st.sampled_from([2**31, 2**63, 10**30, -(2**63), 1e300, -1.5, 0.5]),
        st.text(max_size=5),
        st.sampled_from(["../x", "linear", "gmm", "ldat", "a\nb", "0123456789"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
FORGED = st.tuples(
    st.sampled_from(
        [
            "checkpoint",
            "state",
            "record",
            "records of a run",
            "partial",
            "autoattack",
            "pixel cache",
            "data.json",
        ]
        + ["published data.json", "published record", "log", "notebook"]
    ),
    st.integers(0, 10**6),
    st.one_of(JSON, st.just("delete"), st.just("tensor")),
)


def _places(value, path=()):
    """Every place in a JSON value, deepest last."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def _replace(content, number: int, value):
    places = _places(content)
    *way, last = places[number % len(places)]
    inner = content
    for key in way:
        inner = inner[key]
    if value == "delete":
        del inner[last]
    else:
        inner[last] = value
    return content


def forge(case, folder):
    kind, number, value = case
    kept, name, _ = whole(kind)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    path = folder / name
    if path.suffix == ".json":
        write_json(path, _replace(read_json(path), number, value))
    elif path.suffix == ".ipynb":
        # The first cells: the others are long, and nobody reads them before they are run.
        content = json.loads(path.read_text(encoding="utf-8"))
        first = {key: content[key] for key in content if key != "cells"}
        first["cells"] = content["cells"][:3]
        path.write_text(json.dumps(_replace(first, number, value)), encoding="utf-8")
    elif path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        changed = _replace(lines, number, value)
        path.write_text("".join(json.dumps(line) + "\n" for line in changed), encoding="utf-8")
    else:
        tensors, header = load_tensors(path)
        if value == "tensor" or not header:
            tensors = _other_tensor(tensors, number)
        else:
            header = _replace(header, number, value)
        save_tensors(path, tensors, header)
    KINDS[kind][2](folder)


def _other_tensor(tensors: dict, number: int) -> dict:
    """One of them of another shape or type, with other values, or not there."""
    draw = random.Random(number)
    name = draw.choice(sorted(tensors))
    old = tensors.pop(name)
    other = [
        lambda: None,
        lambda: torch.zeros(3),
        lambda: torch.zeros(()),
        lambda: torch.zeros(0),
        lambda: old[None],
        lambda: old.double(),
        lambda: old.float() * 0 + 1e9,
        lambda: old.float() * float("nan"),
        lambda: old.to(torch.uint8),
        lambda: old.flatten()[:-1],
    ]
    made = draw.choice(other)()
    return tensors if made is None else tensors | {name: made}


def names_of_forgery(case):
    kind, _, _ = case
    _, name, _ = whole(kind)
    # A state whose weights are NaN: the loss, and what to do.
    return [Path(name).name, "data.json", "loss is not finite"]
