"""Files of a run: whole or refused by name, in one piece or in shards."""

import json
import multiprocessing
import resource
import signal

import pytest
import torch

from ldatlib.errors import UserError
from ldatlib.files import (
    exists,
    load_tensors,
    read_json,
    save_tensors,
    write_json,
)
from ldatlib.files.locks import alone

TENSORS = {
    "kernel": torch.linspace(-1, 1, 600).view(20, 30),
    "small": torch.tensor([1e-7, 3.14159265]),
    "count": torch.tensor(7),
    "mask": torch.tensor([[True, False]]),
}


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a
    )


def test_tensors_come_back(tmp_path):
    path = tmp_path / "deep" / "net.safetensors"
    save_tensors(path, TENSORS, {"kind": "x", "list": [1, 2.5]})
    tensors, header = load_tensors(path)
    assert same(tensors, TENSORS) and header == {"kind": "x", "list": [1, 2.5]}
    assert [p.name for p in path.parent.iterdir()] == ["net.safetensors"]


def test_half_rounds_matrices_alone(tmp_path):
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {}, half=True)
    tensors, _ = load_tensors(path)
    assert tensors["kernel"].dtype == torch.float16
    torch.testing.assert_close(tensors["kernel"].float(), TENSORS["kernel"], atol=1e-3, rtol=1e-3)
    assert same(
        {k: tensors[k] for k in ("small", "count", "mask")},
        {k: TENSORS[k] for k in ("small", "count", "mask")},
    )


@pytest.mark.parametrize(("limit", "count"), [(10**6, 1), (2400, 2), (1, 4)])
def test_shards_join_to_the_whole(limit, count, tmp_path):
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {"a": 1}, shard_bytes=limit)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == (
        ["net.safetensors"]
        if count == 1
        else [f"net-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    )
    tensors, header = load_tensors(path)
    assert same(tensors, TENSORS) and header == {"a": 1} and exists(path)


def test_a_new_save_leaves_no_shard_of_an_old_one(tmp_path):
    path = tmp_path / "net.safetensors"
    for limit in (1, 2400, None, 1):
        save_tensors(path, TENSORS, {"limit": limit}, shard_bytes=limit)
        assert load_tensors(path)[1] == {"limit": limit}
    assert len(list(tmp_path.iterdir())) == 4


def test_a_name_that_begins_alike_is_no_shard(tmp_path):
    save_tensors(tmp_path / "net.best.safetensors", TENSORS, {}, shard_bytes=1)
    save_tensors(tmp_path / "net-2.safetensors", TENSORS, {})
    assert not exists(tmp_path / "net.safetensors")
    save_tensors(tmp_path / "net.safetensors", TENSORS, {})
    assert exists(tmp_path / "net.best.safetensors") and exists(tmp_path / "net-2.safetensors")


def test_a_missing_shard_is_named(tmp_path):
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {}, shard_bytes=1)
    (tmp_path / "net-00003-of-00004.safetensors").unlink()
    with pytest.raises(UserError, match="net-00003-of-00004.safetensors is missing"):
        load_tensors(path)


def test_shards_of_two_savings_do_not_mix(tmp_path):
    path = tmp_path / "net.safetensors"
    save_tensors(
        path, {k: v + 1 if k == "kernel" else v for k, v in TENSORS.items()}, {}, shard_bytes=2400
    )
    other = (tmp_path / "net-00001-of-00002.safetensors").read_bytes()
    save_tensors(path, TENSORS, {}, shard_bytes=2400)
    (tmp_path / "net-00001-of-00002.safetensors").write_bytes(other)
    with pytest.raises(UserError, match="do not belong together"):
        load_tensors(path)
    save_tensors(tmp_path / "more.safetensors", TENSORS, {}, shard_bytes=1)
    (tmp_path / "more-00001-of-00004.safetensors").rename(
        tmp_path / "net-00001-of-00004.safetensors"
    )
    with pytest.raises(UserError, match="two savings"):
        load_tensors(path)


@pytest.mark.parametrize("position", [0.3, 0.6, -1])
def test_an_altered_byte_is_found(position, tmp_path):
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {"kind": "x"})
    content = bytearray(path.read_bytes())
    where = position if position == -1 else int(len(content) * position)
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="net.safetensors"):
        load_tensors(path)


def test_an_altered_header_is_found(tmp_path):
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {"epoch": 7})
    path.write_bytes(path.read_bytes().replace(b'epoch\\": 7', b'epoch\\": 8'))
    with pytest.raises(UserError, match="altered"):
        load_tensors(path)


def test_records_come_back_and_alterations_are_found(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"b": [1, 2.5, None], "a": {1: (True, "ü")}})
    content = read_json(path)
    assert content == {"b": [1, 2.5, None], "a": {"1": [True, "ü"]}}
    write_json(path, content)  # read, changed, written again
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(UserError, match="record.json was altered"):
        read_json(path)
    for text in ("[1]", "{}", path.read_text()[:20]):
        path.write_text(text)
        with pytest.raises(UserError, match="record.json"):
            read_json(path)


def on_a_small_disk(path, answer):
    """No file may grow beyond 4 KiB: what a full disk does, without one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        save_tensors(path, {"large": torch.zeros(10_000)}, {"kept": False})
        answer.put("no error")
    except UserError as error:
        answer.put(str(error))


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """In a process of its own: the limit would hold for the tests' own output, too."""
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {"kept": True})
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=on_a_small_disk, args=(path, answer))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    said = answer.get()
    assert "cannot write" in said and "net.safetensors" in said and "make room" in said
    assert load_tensors(path)[1] == {"kept": True}
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*record.json"):
        write_json(tmp_path / "file" / "record.json", {})
    with (
        pytest.raises(UserError, match="cannot write to .*file"),
        alone(tmp_path / "file" / "x", "training"),
    ):
        pass


def test_json_without_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "record.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_numbers_stay_numbers(tmp_path):
    write_json(tmp_path / "r.json", {"x": 0.1 + 0.2, "n": 3})
    assert json.loads((tmp_path / "r.json").read_text())["x"] == 0.1 + 0.2
