"""Files made to harm: each is refused in one line, with little memory, soon, and runs nothing."""

import hashlib
import json
import multiprocessing
import pickle
import re
import resource
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from tiny import TINY, silent
from torch import nn

from ldatlib.__main__ import main
from ldatlib.data import Dataset, load_dataset
from ldatlib.data.description import read_description
from ldatlib.data.npz import ARRAYS
from ldatlib.defences import make_defence
from ldatlib.errors import OutOfTime, UserError
from ldatlib.files import (
    FORMAT,
    _tensor_checksum,
    load_tensors,
    read_json,
    read_json_lines,
    save_tensors,
    write_json,
)
from ldatlib.models import Classifier, NetworkConfig, build_network
from ldatlib.study import records
from ldatlib.study.run import open_run
from ldatlib.training.checkpoint import load_model
from ldatlib.training.config import TrainConfig
from ldatlib.training.trainer import train

MIB = 2**20


def _child(work, arguments, answers):
    before = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="utf-8") as sizes:
        virtual = int(sizes.read().split()[0]) * resource.getpagesize()
    # Should a guard fail, this machine must not pay for it.
    resource.setrlimit(resource.RLIMIT_AS, (virtual + 3 * 2**30,) * 2)
    try:
        said = ("done", repr(work(*arguments)))
    except UserError as error:
        said = ("refused", str(error))
    except BaseException as error:
        said = ("raised", f"{type(error).__name__}: {error}")
    after = resource.getrusage(resource.RUSAGE_SELF)
    grown = (after.ru_maxrss - before.ru_maxrss) / 1024
    answers.put((*said, grown, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime))


def measured(work, *arguments, mib=150, seconds=5):
    """How it ends in a process of its own, and what it says; within so much memory and CPU time."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_child, args=(work, arguments, answers))
    process.start()
    end, said, grown, took = answers.get()
    process.join()
    assert grown < mib and took < seconds, f"{grown:.0f} MiB, {took:.1f} s: {said}"
    return end, said


def refused(work, *arguments, **limits):
    end, said = measured(work, *arguments, **limits)
    assert end == "refused", said
    assert "\n" not in said and len(said) < 700
    return said


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What is imported once is not counted against the first file."""
    build_network(NetworkConfig(2, depth=4, width=2, stages=1))
    Image.init()


# Checkpoints


def raw(path, header, data=b"", length=None):
    """A safetensors file of any header, as text or bytes."""
    header = header.encode() if isinstance(header, str) else header
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


def entry(start, end, shape=(1,), dtype="F32"):
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": [start, end]})


def two_gigabytes(path):
    raw(path, '{"__metadata__": {}', length=2 * 2**30)


def longer_than_memory(path):
    raw(path, "{}", length=2**64 - 1)


def many_tensors(path):
    """A million would be 60 MB; what is refused is the number of lists in the header."""
    one = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    raw(path, "{" + ",".join(one.format(i) for i in range(200_000)) + "}")


def many_tensors_behind_escapes(path):
    one = '"{}":{{"dtype":"F32","shape":[0],"data\\u005foffsets":[0,0]}}'
    raw(path, "{" + ",".join(one.format(i) for i in range(100_000)) + "}")


def overlapping(path):
    raw(path, f'{{"a": {entry(0, 4)}, "b": {entry(2, 6)}}}', bytes(6))


def duplicate_offsets(path):
    raw(path, f'{{"a": {entry(0, 4)}, "b": {entry(0, 4)}}}', bytes(4))


def duplicate_names(path):
    raw(path, f'{{"a": {entry(0, 4)}, "a": {entry(4, 8)}}}', bytes(8))


def beyond_the_end(path):
    raw(path, f'{{"a": {entry(0, 2**40, [2**38])}}}', bytes(8))


def shape_that_overflows(path):
    raw(path, f'{{"a": {entry(0, 4, [2**62, 2**62, 2**62])}}}', bytes(4))


def nothing_of_a_huge_shape(path):
    raw(path, f'{{"a": {entry(0, 0, [0, 2**62, 2**62])}}}')


def unknown_type(path):
    raw(path, f'{{"a": {entry(0, 4, [1], "O")}}}', bytes(4))


def negative_offsets(path):
    raw(path, '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}', bytes(4))


def no_json(path):
    raw(path, "{'a': lambda: 1}")


def no_text(path):
    raw(path, b"\xff\xfe\x00{" * 20)


def deep_json(path):
    raw(path, '{"a": ' * 500_000)


def pickled(path):
    path.write_bytes(pickle.dumps(Fires(path.parent / "fired")))


class Fires:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


UNREADABLE = [two_gigabytes, longer_than_memory, many_tensors, many_tensors_behind_escapes]
UNREADABLE += [overlapping, duplicate_offsets, duplicate_names, beyond_the_end, negative_offsets]
UNREADABLE += [shape_that_overflows, nothing_of_a_huge_shape, unknown_type, no_json, no_text]
UNREADABLE += [deep_json, pickled]


@pytest.mark.parametrize("make", UNREADABLE)
def test_a_checkpoint_that_is_none(make, tmp_path):
    path = tmp_path / "net.safetensors"
    make(path)
    said = refused(load_model, path)
    assert str(path) in said and "delete it" in said or "was not written by this" in said
    assert not (tmp_path / "fired").exists()


def forged(path, tensors, header):
    """Whole and with right checksums, whatever its header is: a text or a value."""
    text = header if isinstance(header, str) else json.dumps(header)
    metadata = {"format": FORMAT, "header": text, "sha256": _tensor_checksum(tensors, text)}
    save_file(tensors, path, metadata | {"whole": metadata["sha256"]})


def small(**options):
    """Weights and header of a true checkpoint, with other values in its network."""
    network = NetworkConfig(2, depth=4, width=2, stages=1, in_channels=1)
    header = {"kind": "model", "network": network.as_dict() | options}
    return build_network(network).state_dict(), header


def test_the_forger_makes_true_checkpoints(tmp_path):
    forged(tmp_path / "net.safetensors", *small())
    assert measured(load_model, tmp_path / "net.safetensors")[0] == "done"


HEADERS = {
    "no JSON": ("model", "has a header that is no JSON"),
    "deep": ('{"kind":' * 200_000, "has a header that is no JSON"),
    "deep lists": ("[" * 90_000, "has a header that is no JSON"),
    "a list": ([1], "has a header that is not ours"),
    "a number of many digits": ("1" * 10_000, "has a header that is no"),
    "nothing": ({}, "holds None, not a model"),
    "a network that is a list": ({"kind": "model", "network": [1]}, "by another version"),
    "a network of text": ({"kind": "model", "network": "../net"}, "by another version"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_is_none(case, tmp_path):
    header, said = HEADERS[case]
    forged(tmp_path / "net.safetensors", small()[0], header)
    assert said in refused(load_model, tmp_path / "net.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 20_000}, r"of which the file has"),
        ({"width": 10**6}, r"of which the file has"),
        ({"width": 10**12}, r"width must be at most"),
        ({"num_classes": 10**6}, r"of which the file has|another network"),
        ({"feature_dim": 10**6}, r"of which the file has|another network"),
        pytest.param(
            {"depth": 2000, "stages": 1},
            r"in \d+ tensors, of which the file has",
            marks=pytest.mark.slow,
        ),
        ({"depth": 10**9}, r"depth must be at most 2000"),
        ({"depth": 1602, "stages": 100}, r"preact_resnet: its build fails"),
        ({"stages": 10**9}, r"stages must be at most 100"),
        ({"stem_stride": 10**9}, r"stem_stride must be at most"),
        ({"architecture": ["resnet"]}, r"architecture must be a name"),
        ({"architecture": "../../resnet"}, r"the architecture '../../resnet', which is not known"),
        ({"head": {}}, r"head must be a name"),
        ({"unknown": 1}, r"unexpected keyword argument"),
        ({"width": True}, r"width must be a whole number"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_sizes_from_a_header_take_no_memory(options, said, tmp_path):
    forged(tmp_path / "net.safetensors", *small(**options))
    assert re.search(said, refused(load_model, tmp_path / "net.safetensors"))


def test_names_with_paths_are_names(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    tensors, header = small()
    forged(folder / "net.safetensors", tensors | {"../../out": torch.zeros(2)}, header)
    assert "another network" in refused(load_model, folder / "net.safetensors")
    assert "../../out" in load_tensors(folder / "net.safetensors")[0]
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "net.safetensors"]


@pytest.mark.parametrize("lost", ["mean", "head.weight", "backbone.stem.weight"])
def test_weights_that_lack_one(lost, tmp_path):
    tensors, header = small()
    del tensors[lost]
    forged(tmp_path / "net.safetensors", tensors, header)
    assert "another network" in refused(load_model, tmp_path / "net.safetensors")
    backbone = build_network(NetworkConfig(2, depth=4, width=2, stages=1, in_channels=1)).backbone
    assert "another network" in refused(load_model, tmp_path / "net.safetensors", backbone)


def test_shards_without_their_checksum(tmp_path):
    tensors, header = small()
    save_tensors(tmp_path / "net.safetensors", tensors, header, shard_bytes=200)
    for shard in tmp_path.glob("net-*"):
        part = load_tensors(shard)[0]
        text = json.dumps(header)
        metadata = {"format": FORMAT, "header": text, "sha256": _tensor_checksum(part, text)}
        save_file(part, shard, metadata)
    assert "do not belong together" in refused(load_model, tmp_path / "net.safetensors")


# The state of a training


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A training that stopped after a step: its folder, and how it goes on."""
    folder = tmp_path_factory.mktemp("state")
    x = torch.rand(24, 1, 4, 4)
    data = Dataset.from_arrays(x, torch.arange(24) % 2, x, torch.arange(24) % 2, val_size=8)
    defence = make_defence("natural", eps_linf=0.1, eps_l2=0.5, radius=1.0)
    config = TrainConfig(defence, None, 2, batch_size=8, padding=0, val_steps=1)

    def go(path, deadline=None):
        model = Classifier(nn.Flatten(), nn.Linear(16, 2))
        return train(config, data, path, model=model, deadline=deadline, on_epoch=silent)

    with pytest.raises(OutOfTime):
        go(folder / "net.safetensors", 0.0)
    return load_tensors(folder / "net.state.safetensors"), go


@pytest.mark.parametrize("lost", ["generator", "epoch_start", "model/head.weight"])
def test_a_state_that_lacks_a_tensor(lost, state, tmp_path):
    (tensors, header), go = state
    left = {name: value for name, value in tensors.items() if name != lost}
    forged(tmp_path / "net.state.safetensors", left, header)
    said = refused(go, tmp_path / "net.safetensors")
    assert "net.state.safetensors" in said and "delete it or choose another folder" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epoch", v) for v in (None, -1, 3, 1.0, "0", 10**30)),
        *(("step", v) for v in (None, -1, 0.5, 10**9)),
        *(("seconds", v) for v in (None, -1, "0")),
        *(("best", v) for v in (None, "1", [])),
        *(("log", v) for v in (None, {}, [1], [[]] * 2, [{}])),
    ],
)
def test_a_state_that_says_nonsense(name, value, state, tmp_path):
    (tensors, header), go = state
    forged(tmp_path / "net.state.safetensors", tensors, header | {name: value})
    said = refused(go, tmp_path / "net.safetensors")
    assert "net.state.safetensors" in said and "delete it or choose another folder" in said


@pytest.mark.parametrize(
    "name",
    ["generator", "epoch_start", "random/cpu", "momentum/0", "model/head.weight", "sums/loss"],
)
def test_a_state_with_another_tensor(name, state, tmp_path):
    (tensors, header), go = state
    for value in (torch.zeros(3), torch.zeros(7, dtype=torch.uint8)):
        forged(tmp_path / "net.state.safetensors", tensors | {name: value}, header)
        said = refused(go, tmp_path / "net.safetensors")
        assert "net.state.safetensors" in said and "delete it or choose another folder" in said


# Records and logs


def sparse(path, size=2**30):
    with open(path, "wb") as stream:
        stream.truncate(size)


@pytest.mark.parametrize("read", [read_json, read_json_lines])
def test_a_text_of_a_gigabyte(read, tmp_path):
    sparse(tmp_path / "big.json")
    assert "larger than 64 MiB, as no file of ours is" in refused(read, tmp_path / "big.json")


TEXTS = ["", "[" * 10**6, '{"a":' * 10**6, "\xff\xfe", "1" * 10_000, "null", '"text"', "[1]", "{"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_record_that_is_none(text, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(text.encode("latin1"))
    assert f"the record {path}" in refused(read_json, path)
    assert f"the record {path}" in refused(records.read, path)
    if text:
        path.write_bytes(text.encode("latin1") + b"\n{}\n")
        assert f"the log {path}" in refused(read_json_lines, path)


def test_a_log_of_a_run_that_was_cut(tmp_path):
    run = open_run("demo", TINY, tmp_path)
    training = run.training("standard")
    path = run.log_path(training)
    path.parent.mkdir()
    path.write_text('{"epoch": 1}\n{"epoch": ')
    assert f"cannot read the log {path}" in refused(run.log, training)


def test_a_path_in_a_record_leads_nowhere(tmp_path, capsys):
    """``clean`` removes what is named by a key in the run's own folders, and follows nothing."""
    outside = tmp_path / "outside-0123456789.safetensors"
    outside.write_bytes(b"mine")
    folder = tmp_path / "run"
    for inside in ("records", "checkpoints"):
        (folder / inside).mkdir(parents=True)
    leading_out = f"../../{outside.name}"
    write_json(
        folder / "records" / "train-ldat-s0-0123456789.json",
        {
            "kind": "train",
            "key": "0123456789",
            "profile": "demo",
            "numerics": {"train": 0},
            "checkpoints": {"last": leading_out, "best": str(outside)},
            "adversarial": leading_out,
        },
    )
    link = folder / "checkpoints" / "ldat-s0-0123456789.safetensors"
    link.symlink_to(outside)
    assert main(["clean", "--profile", "demo", "--out", str(folder), "--remove"]) == 0
    assert "removed: 2 files" in capsys.readouterr().out
    assert outside.read_bytes() == b"mine" and not link.is_symlink()


@pytest.mark.parametrize(
    "values",
    [
        {"sizes": {"train": 10**13, "val": 1, "test": 1}},
        {"sizes": {"train": -1, "val": 1, "test": 1}},
        {"sizes": {"train": "many", "val": 1, "test": 1}},
        {"sizes": [1, 2, 3]},
        {"shape": [3, "a"]},
        {"shape": None},
        {"class_names": 3},
        {"class_names": []},
        {"title": None, "sizes": None},
    ],
    ids=str,
)
def test_a_description_of_no_data(values, tmp_path):
    described = {"name": "x", "title": "x", "class_names": ["a", "b"], "shape": [1, 4, 4]}
    described |= {"sizes": {"train": 4, "val": 2, "test": 2}, "fingerprint": "x", "flip": True}
    path = tmp_path / "data.json"
    write_json(path, described)
    assert read_description(path).num_classes == 2
    write_json(path, described | values)
    assert f"{path} describes no data set" in refused(read_description, path)


# Pictures


def chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(path, width, height, *more, depth=8, colour=0):
    """A PNG of this size in some hundred bytes; its pixels end after a row."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def png_of_billions(path):
    png(path, 60_000, 60_000)


def png_as_wide_as_can_be(path):
    png(path, 2**31 - 1, 2**31 - 1)


def png_cut_short(path):
    png(path, 4000, 4000)


def png_with_a_text_bomb(path):
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 * MIB), 9))
    png(path, 8, 8, text)


def png_with_a_profile_bomb(path):
    png(path, 8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 * MIB), 9)))


def tiff(path, tags):
    """A TIFF of these tags: number, type, count, value."""
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    path.write_bytes(head + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4))


def tiff_tags(width, height, offset=200, count=100):
    return [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, offset),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, count),
    ]


def tiff_of_billions(path):
    tiff(path, tiff_tags(60_000, 60_000))


def tiff_with_a_tag_of_gigabytes(path):
    tiff(path, [*tiff_tags(8, 8), (700, 7, 2**31, 8)])


def tiff_of_many_strips(path):
    tags = [tag for tag in tiff_tags(8, 8) if tag[0] not in (273, 279)]
    tiff(path, [*tags, (273, 4, 2**30, 8), (279, 4, 2**30, 8)])


def bmp_of_billions(path):
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + header)


def ppm_of_billions(path):
    path.write_bytes(b"P6\n60000 60000\n255\n" + bytes(100))


def ppm_with_a_header_of_digits(path):
    path.write_bytes(b"P6\n" + b"9" * MIB + b" 1\n255\n")


def gif_of_billions(path):
    path.write_bytes(
        b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b"," + bytes(4)
        + struct.pack("<HHB", 65_535, 65_535, 0) + b"\x08\x02\x00\x01\x00;"
    )  # fmt: skip


def strip_that_would_be_scaled(path):
    png(path, 40_000, 1)


PICTURES = [png_of_billions, png_as_wide_as_can_be, png_cut_short, png_with_a_text_bomb]
PICTURES += [png_with_a_profile_bomb, tiff_of_billions, tiff_with_a_tag_of_gigabytes]
PICTURES += [tiff_of_many_strips, bmp_of_billions, ppm_of_billions, ppm_with_a_header_of_digits]
PICTURES += [gif_of_billions, strip_that_would_be_scaled]


def pictures(folder):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("L", (8, 8), number).save(folder / split / name / f"{number}.png")
    return folder / "train" / "a" / "0.png"


def load(folder):
    return load_dataset("folder", root=folder, val_size=2)


@pytest.mark.parametrize("make", PICTURES)
def test_a_picture_that_is_a_bomb(make, tmp_path):
    path = pictures(tmp_path)
    make(path)
    assert str(path) in refused(load, tmp_path, mib=300)


def test_a_picture_of_thousands_of_frames_is_its_first(tmp_path):
    path = pictures(tmp_path).with_suffix(".gif")
    first, *others = [Image.new("L", (8, 8), n % 256) for n in range(3000)]
    first.save(path, save_all=True, append_images=others, optimize=False)
    assert measured(load, tmp_path)[0] == "done"
    assert 0 in load(tmp_path).images["train"].amax((1, 2, 3))


# Arrays


def npz(path, **values):
    x = np.zeros((20, 4, 4), np.uint8)
    y = np.arange(20) % 2
    np.savez(path, **{"x_train": x, "y_train": y, "x_test": x, "y_test": y} | values)


def npy(shape, dtype="|u1", data=b""):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def rewrite(path, name, content):
    """An archive with another entry of this name."""
    npz(path)
    with zipfile.ZipFile(path) as old:
        kept = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for key, value in (kept | {f"{name}.npy": content}).items():
            new.writestr(key, value)


ENTRIES = {
    "pickled": npy((1,), "|O", pickle.dumps([1])),
    "terabytes": npy((10**12,)),
    "gigabytes": npy((2 * 10**9, 1, 1)),
    "overflow": npy((2**62, 2**62)),
    "negative": npy((-5, 4, 4)),
    "no header": b"\x93NUMPY\x01\x00\xff\xff",
    "code": b"\x93NUMPY\x01\x00" + struct.pack("<H", 24) + b"__import__('os').abort()",
    "deep": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
    "long header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{",
    "text of gigabytes": npy((1,), "<U500000000"),
}


@pytest.mark.parametrize("case", ENTRIES)
@pytest.mark.parametrize("name", ["x_train", "class_names"])
def test_an_entry_of_an_archive_that_is_none(name, case, tmp_path):
    path = tmp_path / "mine.npz"
    rewrite(path, name, ENTRIES[case])
    said = refused(lambda: load_dataset("npz", root=path, val_size=4))
    assert str(path) in said


def test_archives_that_run_something_when_unpickled(tmp_path):
    path, mark = tmp_path / "mine.npz", tmp_path / "fired"
    npz(path, y_train=np.array([Fires(mark)] * 20, dtype=object))
    assert "no whole .npz archive" in refused(lambda: load_dataset("npz", root=path, val_size=4))
    path.write_bytes(pickle.dumps(Fires(mark)))
    assert "no whole .npz archive" in refused(lambda: load_dataset("npz", root=path, val_size=4))
    assert not mark.exists()


@pytest.mark.slow
def test_an_archive_that_unpacks_to_gigabytes(tmp_path):
    path = tmp_path / "mine.npz"
    npz(path)
    images = 600_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ARRAYS:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                shape = (images, 16, 16) if name[0] == "x" else (images,)
                stream.write(npy(shape))
                for _ in range(images // 20_000):
                    stream.write(bytes(20_000 * (256 if name[0] == "x" else 1)))
    assert path.stat().st_size < 10 * MIB
    said = refused(lambda: load_dataset("npz", root=path, val_size=4))
    assert "would unpack to" in said


@pytest.mark.parametrize("name", ["../../evil", "/evil", "x" * 60_000, "x_train\n"])
def test_names_in_an_archive_lead_nowhere(name, tmp_path):
    path = tmp_path / "in" / "mine.npz"
    path.parent.mkdir()
    rewrite(path, name, npy((1,), data=b"1"))
    assert "holds an unknown" in refused(lambda: load_dataset("npz", root=path, val_size=4))
    assert sorted(found.name for found in tmp_path.rglob("*")) == ["in", "mine.npz"]


# CIFAR


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("packed", [True, False])
def test_pickles_of_cifar_are_not_opened_unless_they_are_the_official_ones(
    name, packed, tmp_path, monkeypatch
):
    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", refuse)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", refuse)
    source = getattr(torchvision.datasets, name.upper())
    mark, folder = tmp_path / "fired", tmp_path / source.base_folder
    evil = pickle.dumps(Fires(mark))
    if packed:
        (tmp_path / source.filename).write_bytes(evil)
    else:
        folder.mkdir()
        for batch, _ in (*source.train_list, *source.test_list):
            (folder / batch).write_bytes(evil)
        (folder / source.meta["filename"]).write_bytes(evil)
    for download in (True, False):
        said = refused(lambda now=download: load_dataset(name, root=tmp_path, download=now))
        assert str(tmp_path) in said
    assert not mark.exists()
    assert hashlib.md5(evil).hexdigest() != source.tgz_md5
