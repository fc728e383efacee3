"""Pixels that stay in their file: the same values as in memory, and no memory of their own."""

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PROJECT

from ldatlib.data import Dataset, cache, load_dataset, npz, pictures, pixels, seal
from ldatlib.data.paths import ChainedFiles, Files
from ldatlib.data.pixels import Mapped, mean_and_std, on_device, pieces
from ldatlib.data.splits import SPLITS, fingerprint
from ldatlib.errors import UserError
from ldatlib.files import load_tensors, save_tensors
from ldatlib.files.arrays import write_arrays
from ldatlib.files.locks import alone

linux = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="asks /proc")


@pytest.fixture
def root(tmp_path):
    """Two classes of noise in colour, ten pictures each to train on and four to test on."""
    random = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 4)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(count):
                noise = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(noise).save(tmp_path / "pets" / split / name / f"{number}.png")
    return tmp_path / "pets"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A few pictures are worth a cache, and pieces are smaller than a split."""
    monkeypatch.setattr(pictures, "_WORTH_CACHING", 1)
    monkeypatch.setattr(pixels, "_PIECE", 1000)
    monkeypatch.setattr(seal, "_SETTLED", -1)


def load(root, kept=None, **options):
    return load_dataset("folder", root=root, val_size=6, cache=kept, **options)


def mapped(data):
    return all(isinstance(data.images[split], Mapped) for split in SPLITS)


def file_of(folder):
    (found,) = folder.glob("*.safetensors")
    return found


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "ldatlib.data.listing"]


# --- the same values --------------------------------------------------------------------------


def plain_fingerprint(class_names, images, labels):
    """As it was before pixels could stay in a file: all bytes of a split at once."""
    digest = hashlib.sha256(repr(tuple(class_names)).encode())
    for split in SPLITS:
        digest.update(f"{split} {tuple(images[split].shape)}".encode())
        digest.update(images[split].cpu().contiguous().numpy().tobytes())
        digest.update(labels[split].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def plain_statistics(images):
    """As they were: over all pixels in float64 at once."""
    values = images.double().div(255)
    mean = values.mean((0, 2, 3))
    return mean, values.var((0, 2, 3), correction=0).sqrt().clamp_min(1e-3)


def test_mapped_and_in_memory_are_one_data_set(root, tmp_path):
    memory, first, second = load(root), load(root, tmp_path / "c"), load(root, tmp_path / "c")
    assert mapped(first) and mapped(second) and not any(map(mapped, (memory,)))
    for data in (first, second):
        assert data.fingerprint == memory.fingerprint
        assert data.statistics() == memory.statistics()
        for split in SPLITS:
            assert torch.equal(data.images[split][:], memory.images[split])
            assert torch.equal(data.labels[split], memory.labels[split])
            assert data.images[split].shape == memory.images[split].shape
            for one, other in zip(data.split(split, 3), memory.split(split, 3), strict=True):
                assert torch.equal(one, other)
    index = torch.tensor([5, 0, 5, 13])
    assert torch.equal(second.images["train"][index], memory.images["train"][index])
    mask = memory.labels["train"] == 1
    found = second.images["train"].select(mask)
    assert isinstance(found, Mapped) and torch.equal(found[:], memory.images["train"][mask])
    few, same = second.subset([1, 0], train_size=5), memory.subset([1, 0], train_size=5)
    assert mapped(few) and few.fingerprint == same.fingerprint
    assert all(torch.equal(few.images[s][:], same.images[s]) for s in SPLITS)


def test_the_fingerprint_in_pieces_is_that_of_all_bytes_at_once(root, tmp_path):
    for data in (load(root), load(root, tmp_path / "c"), load_dataset("digits")):
        images = {split: data.images[split][:] for split in SPLITS}
        assert len(list(pieces(data.images["train"]))) > 1
        assert data.fingerprint == plain_fingerprint(data.class_names, images, data.labels)


def random_pixels(seed):
    """Pixels of channels that differ in brightness and spread."""
    random = np.random.default_rng(seed)
    count, channels, side = random.integers(1, 60), random.choice([1, 3]), random.integers(1, 30)
    values = random.normal(
        random.uniform(0, 255, (channels, 1, 1)), random.uniform(0, 90, (channels, 1, 1)),
        (count, channels, side, side),
    )  # fmt: skip
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("seed", range(30))
def test_statistics_have_the_bits_that_networks_take(seed):
    """A network holds them as float32. In float64 the sums of old depended on how torch shares
    them among threads; counts do not."""
    images = random_pixels(seed)
    mean, std = mean_and_std(images)
    std = [max(value, 1e-3) for value in std]
    for found, plain in zip((mean, std), plain_statistics(images), strict=True):
        found = torch.tensor(found, dtype=torch.float64)
        assert torch.equal(found.float(), plain.float())
        assert torch.allclose(found, plain, rtol=1e-11, atol=0)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    assert mean_and_std(Mapped(images, order)) == mean_and_std(images)


def test_a_training_has_the_same_bits(root, tmp_path):
    from ldatlib.defences import make_defence
    from ldatlib.models import NetworkConfig
    from ldatlib.training.config import TrainConfig
    from ldatlib.training.trainer import train

    defence = make_defence("standard", eps_linf=0.1, eps_l2=0.5, radius=1.0, num_steps=2)
    network = NetworkConfig(2, defence.head, depth=4, width=4, stages=1, in_channels=3)
    config = TrainConfig(
        defence, network=network, epochs=2, batch_size=4, padding=1, val_eps=0.1, val_steps=2
    )
    found = []
    for name, data in (("memory", load(root)), ("mapped", load(root, tmp_path / "c"))):
        assert mapped(data) == (name == "mapped")
        done = train(config, data, tmp_path / f"{name}.safetensors", on_epoch=lambda line: None)
        log = [{key: value for key, value in line.items() if key != "seconds"} for line in done.log]
        found.append((load_tensors(done.last)[0], log))
    (tensors, log), (others, other_log) = found
    assert log == other_log and tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


# --- the file ---------------------------------------------------------------------------------


def test_a_file_written_by_rows_is_one_of_save_tensors(tmp_path):
    arrays = {
        "b": np.arange(24, dtype=np.uint8).reshape(4, 2, 3),
        "a": np.full((3, 5), 7, np.uint8),
    }
    arrays["none"] = np.zeros((0, 5), np.uint8)
    rows = [(name, row) for name in sorted(arrays) for row in arrays[name]]
    shapes = {name: array.shape for name, array in arrays.items()}
    write_arrays(tmp_path / "x.safetensors", shapes, rows, {"kind": "pixels"})
    tensors, header = load_tensors(tmp_path / "x.safetensors")
    assert header == {"kind": "pixels"} and tensors.keys() == arrays.keys()
    assert all(np.array_equal(tensors[name].numpy(), arrays[name]) for name in arrays)
    for wrong in (rows[:-1], rows + rows[:1], rows[::-1], [("a", rows[-1][1])]):
        with pytest.raises(ValueError, match="out of place|are missing"):
            write_arrays(tmp_path / "y.safetensors", shapes, wrong, {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_mapped_tensors_do_not_change_their_file(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(9, dtype=torch.uint8)}, {})
    load_tensors(tmp_path / "x.safetensors")[0]["a"][:] = 5
    assert int(load_tensors(tmp_path / "x.safetensors")[0]["a"].sum()) == 0


def damage(path, how):
    """Another content of the same size, or a cut one."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if how == "altered" else content[: len(content) // 2])


@pytest.mark.parametrize("how", ["altered", "cut"])
def test_a_damaged_cache_is_decoded_again(root, tmp_path, how):
    expected, kept = load(root, tmp_path / "c").fingerprint, file_of(tmp_path / "c")
    whole = kept.read_bytes()
    damage(kept, how)
    data = load(root, tmp_path / "c")
    assert data.fingerprint == expected and kept.read_bytes() == whole
    # Cut, and not even of the size that its own header says.
    assert torch.equal(data.images["test"][:], load(root).images["test"])


def test_a_cache_of_another_folder_is_decoded_again(root, tmp_path):
    load(root, tmp_path / "c")
    whole = file_of(tmp_path / "c").read_bytes()
    save_tensors(file_of(tmp_path / "c"), {"train": torch.zeros(3, dtype=torch.uint8)}, {})
    assert mapped(load(root, tmp_path / "c")) and file_of(tmp_path / "c").read_bytes() == whole


def test_what_is_sealed_is_not_read_again(root, tmp_path, monkeypatch):
    expected, kept = load(root, tmp_path / "c").fingerprint, file_of(tmp_path / "c")
    looks = os.stat(kept)
    damage(kept, "altered")
    os.utime(kept, ns=(looks.st_atime_ns, looks.st_mtime_ns))
    # Size and time say that it is the one that was checked: the price of not reading it.
    assert load(root, tmp_path / "c").fingerprint == expected
    # Asked to, it reads all of it, and decodes anew what is wrong.
    kept.with_suffix(".json").unlink()
    assert torch.equal(load(root, tmp_path / "c").images["val"][:], load(root).images["val"])
    # What was written just now may have been written again within a tick of the clock.
    monkeypatch.setattr(seal, "_SETTLED", 2 * 10**9)
    looks = os.stat(kept)
    damage(kept, "altered")
    os.utime(kept, ns=(looks.st_atime_ns, looks.st_mtime_ns))
    assert torch.equal(load(root, tmp_path / "c").images["val"][:], load(root).images["val"])


def test_fingerprints_are_remembered_by_what_they_are_of(root, tmp_path, monkeypatch):
    data = load(root, tmp_path / "c")
    other = load(root, tmp_path / "c", train_size=5)
    kept = json.loads(file_of(tmp_path / "c").with_suffix(".json").read_text())["fingerprints"]
    assert sorted(kept.values()) == sorted({data.fingerprint, other.fingerprint})
    # Pixels are not looked at again, unless names, labels or places differ.
    monkeypatch.setattr(Mapped, "__getitem__", None)
    assert load(root, tmp_path / "c").fingerprint == data.fingerprint
    for changed in (
        (("a", "b"), data.images, data.labels),
        (data.class_names, data.images, data.labels | {"val": 1 - data.labels["val"]}),
        (data.class_names, data.images | {"val": data.images["train"]}, data.labels),
    ):
        with pytest.raises(TypeError):
            fingerprint(*changed)


def test_a_copied_cache_is_read_in_full_once(root, tmp_path, monkeypatch):
    expected = load(root, tmp_path / "c").fingerprint
    (tmp_path / "d").mkdir()
    for path in (tmp_path / "c").iterdir():
        (tmp_path / "d" / path.name).write_bytes(path.read_bytes())
    verified = []

    def noted(path, verify=True):
        verified.append(verify)
        return load_tensors(path, verify)

    monkeypatch.setattr(cache, "load_tensors", noted)
    monkeypatch.setattr(pictures, "_inspect", None)  # nothing is decoded
    assert [load(root, tmp_path / "d").fingerprint for _ in range(2)] == [expected] * 2
    assert verified == [True, False]


# --- folders that do not do ----------------------------------------------------------------------


def closed(*_, **__):
    raise OSError(30, "Read-only file system")


def full(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["a file", "full", "read-only"])
def test_without_a_folder_to_write_to_pixels_are_in_memory(
    root, tmp_path, monkeypatch, caplog, what
):
    kept, expected = tmp_path / "c", load(root).fingerprint
    if what == "a file":
        kept.write_text("")
    elif what == "full":
        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    else:
        monkeypatch.setattr(os, "link", closed)
        monkeypatch.setattr(Path, "write_text", closed)
    data = load(root, kept)
    assert data.fingerprint == expected and not mapped(data)
    assert kept.is_file() or not list(kept.iterdir())
    (line,) = said(caplog)
    assert line.startswith(f"the pixels of {root} are kept in memory alone: cannot write")


def test_a_disk_that_fills_while_it_decodes(root, tmp_path, monkeypatch, caplog):
    """Where room cannot be reserved."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(os, "fsync", full)
    assert not mapped(load(root, tmp_path / "c"))
    assert not list((tmp_path / "c").iterdir())
    assert "No space left on device" in said(caplog)[0]


def test_a_whole_cache_in_a_closed_folder_is_used(root, tmp_path, monkeypatch):
    expected = load(root, tmp_path / "c").fingerprint
    file_of(tmp_path / "c").with_suffix(".json").unlink()
    monkeypatch.setattr(seal, "write_json", closed)
    monkeypatch.setattr(pictures, "_inspect", None)
    data = load(root, tmp_path / "c")
    assert mapped(data) and data.fingerprint == expected


def test_what_fits_nowhere_is_refused_before_it_is_decoded(root, monkeypatch):
    monkeypatch.setattr("ldatlib.data.memory.available", lambda: 1000)
    monkeypatch.setattr(pictures, "_read", None)
    with pytest.raises(UserError, match=r"GiB of memory are free: there is no folder to keep"):
        load(root)


# --- several processes ---------------------------------------------------------------------------


def test_a_broken_picture_leaves_no_file(root, tmp_path):
    (root / "test" / "cat" / "0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"cat/0.png"):
        load(root, tmp_path / "c")
    assert not (tmp_path / "c").exists() or not list((tmp_path / "c").iterdir())


def test_what_a_killed_process_has_left_is_removed(root, tmp_path):
    load(root, tmp_path / "c")
    kept = file_of(tmp_path / "c")
    kept.unlink()
    left = kept.with_name(f".{kept.name}.123abcd.tmp")
    left.write_bytes(b"half a file")
    assert mapped(load(root, tmp_path / "c")) and kept.is_file() and not left.exists()


def test_whoever_comes_while_another_decodes_waits_for_it(root, tmp_path, monkeypatch, caplog):
    expected = load(root, tmp_path / "c")
    kept = file_of(tmp_path / "c")
    whole, found = kept.read_bytes(), []
    kept.unlink()
    monkeypatch.setattr(cache, "_LOOK_EVERY", 0.05)
    monkeypatch.setattr(pictures, "_read", None)  # the other one's pixels are taken
    thread = threading.Thread(target=lambda: found.append(load(root, tmp_path / "c")))
    with alone(kept, "decoding pictures into"):
        thread.start()
        while not said(caplog):
            time.sleep(0.01)
        assert not found
        # What is under way lies beside the file, never in its place.
        kept.write_bytes(whole)
    thread.join(20)
    assert found[0].fingerprint == expected.fingerprint
    (line,) = said(caplog)
    assert line.startswith(f"another process is decoding pictures into {kept} (process ")
    assert line.endswith("; waiting for it")


def test_several_at_once_decode_once(root, tmp_path):
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        jobs = [pool.apply_async(decoded_by, (root, tmp_path / "c")) for _ in range(3)]
        found = [job.get(60) for job in jobs]
    assert {print_ for print_, _ in found} == {load(root).fingerprint}
    assert sum(count > 0 for _, count in found) == 1


def decoded_by(root, folder):
    """The fingerprint, and how many pictures this process has decoded."""
    read, count = pictures._read, []

    def counted(*arguments):
        count.append(1)
        time.sleep(0.01)
        return read(*arguments)

    pictures._read = counted
    return load(root, folder).fingerprint, len(count)


# --- devices -------------------------------------------------------------------------------------


def test_what_does_not_fit_a_gpu_comes_in_batches(root, monkeypatch):
    """There is no GPU: torch's meta device takes the shapes."""
    data, free = load(root), 1000
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))

    class Gpu:
        type = "cuda"

    images = on_device(data.images, Gpu())
    assert all(isinstance(images[split], Mapped) for split in SPLITS)
    assert all(images[split].device.type == "cuda" for split in SPLITS)
    meta = torch.device("meta")
    there = on_device({"train": Mapped.whole(data.images["train"])}, meta)["train"]
    assert isinstance(there, torch.Tensor) and there.device == meta
    assert there.shape == data.images["train"].shape
    back = on_device(images, torch.device("cpu"))
    assert all(torch.equal(back[split][:], data.images[split]) for split in SPLITS)


# --- arrays --------------------------------------------------------------------------------------


def arrays(shape=(12, 9, 9, 3)):
    random = np.random.default_rng(0)
    x = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(2)]
    return x[0], np.arange(12) % 2, x[1], np.arange(12) % 2


NAMES = ("x_train", "y_train", "x_test", "y_test")


@pytest.mark.parametrize("shape", [(12, 9, 9, 3), (12, 3, 9, 9), (12, 9, 9)])
@pytest.mark.parametrize("kind", ["stored", "compressed", "floats"])
def test_images_of_an_archive_stay_in_it_where_they_can(tmp_path, monkeypatch, shape, kind):
    monkeypatch.setattr(npz, "_WORTH_MAPPING", 500)
    values = dict(zip(NAMES, arrays(shape), strict=True))
    if kind == "floats":
        values |= {name: values[name] / 255 for name in ("x_train", "x_test")}
    (np.savez_compressed if kind == "compressed" else np.savez)(tmp_path / "x.npz", **values)
    data = load_dataset("npz", root=tmp_path / "x.npz", val_size=4)
    memory = Dataset.from_arrays(*arrays(shape), val_size=4)
    assert mapped(data) == (kind == "stored") and not mapped(memory)
    assert data.fingerprint == memory.fingerprint and data.statistics() == memory.statistics()
    assert all(torch.equal(data.images[s][:], memory.images[s]) for s in SPLITS)
    assert data.images["train"][:].is_contiguous()


def test_an_archive_that_is_altered_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_WORTH_MAPPING", 500)
    np.savez(tmp_path / "x.npz", **dict(zip(NAMES, arrays(), strict=True)))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 4] ^= 1  # in the middle of the first images
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"no whole .npz archive.*CRC"):
        load_dataset("npz", root=tmp_path / "x.npz", val_size=4)


def test_an_archive_that_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", **dict(zip(NAMES, arrays(), strict=True)))
    monkeypatch.setattr("ldatlib.data.memory.available", lambda: 1000)
    with pytest.raises(UserError, match=r"memory are free: only images uint8 that numpy.savez"):
        load_dataset("npz", root=tmp_path / "x.npz", val_size=4)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_mapped_arrays_of_ones_own_stay_in_their_file(tmp_path, mode):
    x_train, y_train, x_test, y_test = arrays()
    for name, x in (("train", x_train), ("test", x_test)):
        np.save(tmp_path / f"{name}.npy", x)
    x = [np.load(tmp_path / f"{name}.npy", mmap_mode=mode) for name in ("train", "test")]
    data = Dataset.from_arrays(x[0], y_train, x[1], y_test, val_size=4)
    assert mapped(data)
    assert data.fingerprint == Dataset.from_arrays(*arrays(), val_size=4).fingerprint


# --- paths ---------------------------------------------------------------------------------------


def test_paths_in_few_bytes():
    names = ["a.png", "b\udce9.png", "\N{SNOWMAN}.png", "z"]
    files = Files(Path("x/cat"), names)
    assert list(files) == [Path("x/cat") / name for name in names] and len(files) == 4
    assert files[-1] == Path("x/cat/z") and files[1:3] == list(files)[1:3]
    both = ChainedFiles([files, Files(Path("x/none"), []), Files(Path("x/dog"), ["0"])])
    assert list(both) == [*files, Path("x/dog/0")] and len(both) == 5
    assert [both[row] for row in range(5)] == list(both) and both[-1] == Path("x/dog/0")
    assert both[::2] == list(both)[::2]
    for row in (5, -6):
        with pytest.raises(IndexError):
            both[row]


# --- memory --------------------------------------------------------------------------------------

CHILD = """
import sys, threading, time
from ldatlib.data import load_dataset

def anonymous():
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("RssAnon"))

peak, root, cache = 0, *sys.argv[1:]

def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.005)

load_dataset("digits").statistics()  # what is loaded once, whatever the data
before = anonymous()
threading.Thread(target=watch, daemon=True).start()
data = load_dataset("folder", root=root, val_size=20, cache=cache)
data.statistics()
data.to("cpu").images["train"][:64].float()
time.sleep(0.05)
print(sum(len(labels) for labels in data.labels.values()), max(peak, anonymous()) - before)
"""


@linux
@pytest.mark.slow
def test_memory_does_not_grow_with_the_pixels(tmp_path):
    """440 MB of pixels; in memory they took three times as much, and 16 times for statistics."""
    for split, count in (("train", 2000), ("test", 240)):
        for name, grey in (("cat", 40), ("dog", 200)):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (256, 256), (grey, 5, 9)).save(folder / "0.png")
            for number in range(1, count // 2):
                os.link(folder / "0.png", folder / f"{number}.png")
    for start in ("decoded", "mapped"):
        command = [sys.executable, "-c", CHILD, tmp_path / "pets", tmp_path / "c"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
        count, grown = map(int, done.stdout.split())
        # A piece of 2**24 numbers in float64, for some moments, and a batch of 64 in float32.
        assert count == 2240 and grown < 2**27 + 64 * 3 * 256**2 * 4 + 20e6, f"{start}: {grown}"
