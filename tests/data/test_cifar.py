"""CIFAR's archives: small ones in the official format, made here and read by torchvision."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
import torchvision

from ldatlib.data import load_dataset, outline
from ldatlib.errors import MissingDataError, UserError

PER_BATCH = 40


def batch(seed, classes, label_key):
    rng = np.random.default_rng(seed)
    labels = [int(n) % classes for n in range(PER_BATCH)]
    data = rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8)
    data[:, 0] = labels  # the first red pixel tells the class
    return {"data": data, label_key: labels}


def archive(kind, folder, monkeypatch):
    """A small official archive in ``folder``, and torchvision told of its checksums."""
    source = getattr(torchvision.datasets, kind)
    fine = kind == "CIFAR100"
    classes, label_key = (20, "fine_labels") if fine else (10, "labels")
    members, lists = {}, {}
    for attribute in ("train_list", "test_list"):
        lists[attribute] = []
        for number, (name, _) in enumerate(getattr(source, attribute)):
            content = pickle.dumps(batch(number + len(attribute), classes, label_key), protocol=2)
            members[name] = content
            lists[attribute].append([name, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({source.meta["key"]: [f"name{n}" for n in range(classes)]}, protocol=2)
    members[source.meta["filename"]] = meta
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / source.filename
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{source.base_folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    for attribute, value in lists.items():
        monkeypatch.setattr(source, attribute, value)
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": hashlib.md5(meta).hexdigest()})
    return path


@pytest.fixture
def offline(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", refuse)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", refuse)


@pytest.mark.parametrize(
    ("name", "kind", "train", "classes", "fingerprint"),
    [
        ("cifar10", "CIFAR10", 200, 10, "f45143b3f31c6684"),
        ("cifar100", "CIFAR100", 40, 20, "d88e176a2069ec0b"),
    ],
)
def test_an_archive_in_the_official_format(
    name, kind, train, classes, fingerprint, tmp_path, monkeypatch, offline
):
    archive(kind, tmp_path, monkeypatch)
    data = load_dataset(name, root=tmp_path, val_size=train // 2)
    assert data.title == {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[name]
    assert data.class_names == tuple(f"name{n}" for n in range(classes)) and data.flip
    sizes = {split: len(labels) for split, labels in data.labels.items()}
    assert sizes == {"train": train // 2, "val": train // 2, "test": PER_BATCH}
    for split, images in data.images.items():
        assert images.dtype == torch.uint8 and images.shape[1:] == (3, 32, 32)
        # Rows of the archive are red, green, blue planes: the first entry is the first red pixel.
        assert torch.equal(images[:, 0, 0, 0].long(), data.labels[split])
    assert data.labels["val"].bincount().tolist() == [train // 2 // classes] * classes
    again = load_dataset(name, root=tmp_path, val_size=train // 2, download=False)
    assert again.fingerprint == data.fingerprint
    assert data.fingerprint.startswith(fingerprint)


def test_no_network_says_where_to_put_the_archive(tmp_path, offline):
    with pytest.raises(MissingDataError) as error:
        load_dataset("cifar10", root=tmp_path / "new")
    text = str(error.value)
    assert "no route to host" in text and "cs.toronto.edu" in text
    assert str(tmp_path / "new" / "cifar-10-python.tar.gz") in text


def test_an_archive_with_a_wrong_checksum_is_named_and_kept(tmp_path, monkeypatch, offline):
    path = archive("CIFAR10", tmp_path, monkeypatch)
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(UserError, match="cifar-10-python.tar.gz has the MD5 checksum .*, not "):
        load_dataset("cifar10", root=tmp_path)
    assert path.read_bytes() == content[:-7]


def test_an_altered_batch_is_unpacked_again(tmp_path, monkeypatch, offline):
    archive("CIFAR10", tmp_path, monkeypatch)
    fingerprint = load_dataset("cifar10", root=tmp_path, val_size=50).fingerprint
    unpacked = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    unpacked.write_bytes(b"x" + unpacked.read_bytes()[1:])
    assert load_dataset("cifar10", root=tmp_path, val_size=50).fingerprint == fingerprint


def test_an_altered_batch_without_archive_or_network(tmp_path, monkeypatch, offline):
    archive("CIFAR10", tmp_path, monkeypatch)
    load_dataset("cifar10", root=tmp_path, val_size=50)
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"x")
    with pytest.raises(MissingDataError, match="CIFAR-10 could not be had"):
        load_dataset("cifar10", root=tmp_path, val_size=50)


def test_without_leave_nothing_is_fetched(tmp_path, offline):
    with pytest.raises(MissingDataError, match="CIFAR-100 is not in"):
        load_dataset("cifar100", root=tmp_path / "none", download=False)
    assert not (tmp_path / "none").exists()


def test_the_size_of_the_images_is_given(tmp_path):
    with pytest.raises(UserError, match="drop image_size"):
        load_dataset("cifar10", root=tmp_path, image_size=16)


def test_the_outline_has_the_official_sizes():
    data = outline("cifar100", 1000)
    sizes = {split: tuple(images.shape) for split, images in data.images.items()}
    assert sizes == {
        "train": (49_000, 3, 32, 32),
        "val": (1000, 3, 32, 32),
        "test": (10_000, 3, 32, 32),
    }
    assert data.num_classes == 100 and len(data.labels["train"]) == 49_000
    assert data.images["train"].untyped_storage().nbytes() == 1
