"""Arrays of one's own, and archives of them: what is taken, and what is said about the rest."""

import pickle
import zipfile

import numpy as np
import pytest
import torch

from ldatlib import load_dataset
from ldatlib.data import Dataset
from ldatlib.errors import UserError

SPLITS = ("train", "val", "test")


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def arrays(shape=(6, 5), train=20, test=8, classes=2):
    """Training and test arrays in the order in which ``from_arrays`` takes them."""
    return [
        pixels(train, *shape),
        np.arange(train) % classes,
        pixels(test, *shape, seed=1),
        np.arange(test) % classes,
    ]


def dataset(given=None, **options):
    return Dataset.from_arrays(*(given or arrays()), **{"val_size": 4} | options)


def contents(data, *splits):
    return sorted(
        (image.numpy().tobytes(), int(label))
        for split in splits
        for image, label in zip(data.images[split], data.labels[split], strict=True)
    )


def expected(x, y):
    """Of images [N, channels, H, W] uint8."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))


# What is taken


def test_every_image_keeps_its_label_and_is_in_one_split():
    x, y, x_test, y_test = arrays()
    data = dataset()
    assert {split: len(data.labels[split]) for split in SPLITS} == {
        "train": 16,
        "val": 4,
        "test": 8,
    }
    assert contents(data, "train", "val") == expected(x, y)
    assert contents(data, "test") == expected(x_test, y_test)
    assert (data.name, data.title, data.class_names) == ("arrays", "arrays", ("0", "1"))
    assert all(data.images[s].dtype == torch.uint8 for s in SPLITS)
    assert all(data.labels[s].dtype == torch.int64 for s in SPLITS)
    assert data.labels["val"].bincount().tolist() == [2, 2]


def test_arrays_may_be_digits_and_are_mirrored_only_on_request():
    assert not dataset().flip and dataset(flip=True).flip


def test_options():
    data = dataset(title="Mine", class_names=["cat", "dog"], train_size=10, test_size=4)
    assert (data.title, data.class_names) == ("Mine", ("cat", "dog"))
    assert len(data.labels["train"]) == 10 and len(data.labels["test"]) == 4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("last", [False, True])
def test_channels_come_second_or_last(channels, last):
    x, y, x_test, y_test = arrays((channels, 6, 5))
    given = [np.moveaxis(a, 1, 3) if last else a for a in (x, x_test)]
    data = dataset([given[0], y, given[1], y_test])
    assert data.channels == channels and data.images["train"].shape[1:] == (channels, 6, 5)
    assert contents(data, "train", "val") == expected(x, y)
    assert data.fingerprint == dataset([x, y, x_test, y_test]).fingerprint


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_rounded_to_256_levels(dtype):
    x, y, x_test, y_test = arrays()
    floats = [(a / 255).astype(dtype) for a in (x, x_test)]
    data = dataset([floats[0], y, floats[1], y_test])
    assert data.fingerprint == dataset().fingerprint
    assert torch.allclose(data.split("test")[0], data.images["test"] / 255)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint16", "int64", ">i4"])
def test_labels_of_every_whole_type(dtype):
    x, y, x_test, y_test = arrays()
    data = dataset([x, y.astype(dtype), x_test, y_test.astype(dtype)])
    assert data.fingerprint == dataset().fingerprint


def test_tensors_and_views_are_taken_and_nothing_is_shared():
    given = arrays()
    tensors = [torch.from_numpy(a).clone() for a in given]
    data = dataset(tensors)
    assert data.fingerprint == dataset().fingerprint
    for tensor in tensors:
        tensor.zero_()
    assert data.subset([0, 1]).fingerprint == data.fingerprint
    reversed_twice = [a[::-1].copy()[::-1] for a in given]
    assert dataset(reversed_twice).fingerprint == data.fingerprint


def test_validation_is_drawn_from_the_whole():
    """The first images of a file may be those of one writer."""
    x = np.zeros((400, 4, 4), np.uint8)
    x[:, 0, 0] = np.arange(400) // 2  # each value once a class
    data = dataset([x, np.arange(400) % 2, *arrays((4, 4))[2:]], val_size=100)
    places = data.images["val"][:, 0, 0, 0].double()
    assert 70 < places.mean() < 130 and places.max() > 180


def test_the_fingerprint_sees_pixels_names_and_nothing_else():
    found = dataset()
    assert dataset(title="other", flip=True).fingerprint == found.fingerprint
    assert dataset(class_names=["a", "b"]).fingerprint != found.fingerprint
    changed = arrays()
    changed[0][3, 2, 2] += 1
    assert dataset(changed).fingerprint != found.fingerprint


# What is refused


def refused(says, position, value, **options):
    given = arrays()
    given[position] = value(given[position]) if callable(value) else value
    with pytest.raises(UserError, match=says) as caught:
        dataset(given, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda x: x.tolist(), "x_train must be an array of NumPy or torch, not list"),
        (lambda x: x.astype(object), "x_train has the unusable dtype object"),
        (lambda x: x.astype(str), "x_train has the unusable dtype"),
        (lambda x: x.astype(int), r"x_train must be uint8, or floats in \[0,1\], not int64"),
        (lambda x: x > 9, "not bool"),
        (lambda x: x.astype(complex), "not complex128"),
        (lambda x: x.astype(float), "from 0 to 255; divide by 255"),
        (lambda x: x / 255 - 1, "not from -1 to 0$"),
        (lambda x: x / 100 * 255, r"not from 0 to 6\d\d"),
        (lambda x: x * np.nan, "from nan to nan"),
        (lambda x: x[:0], "x_train has no images"),
        (lambda x: x[:, :0], "x_train has no images"),
        (np.uint8(3), "x_train must be an array"),
        (np.array(3, np.uint8), r"x_train must have the shape .*not \[1\]"),
        (lambda x: x[:, 0], r"x_train must have the shape \[N, H, W\], .*not \[20, 5\]"),
        (lambda x: x[..., None, None], r"not \[20, 6, 5, 1, 1\]"),
        (lambda x: x[:, None, :, :3], r"\[20, 1, 6, 3\] could be"),
        (lambda x: pixels(20, 4, 6, 5), r"\[20, 4, 6, 5\] has 1 or 3 channels neither second"),
        (lambda x: x[:, :5], r"x_train has images of .*\[1, 5, 5\], x_test of \[1, 6, 5\]"),
    ],
)
def test_images_that_are_none(value, says):
    refused(says, 0, value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda y: y.tolist(), "y_train must be an array of NumPy or torch, not list"),
        (lambda y: y.astype(float), "y_train must be whole numbers from 0, not float64"),
        (lambda y: y > 0, "whole numbers from 0, not bool"),
        (lambda y: y.astype(str), "unusable dtype"),
        (lambda y: y[:-1], r"y_train must have the shape \[20\], as x_train says, not \[19\]"),
        (lambda y: y[:, None], r"not \[20, 1\]"),
        (lambda y: y - 1, "whole numbers from 0, not -1"),
        (lambda y: y * 2, "y_train has no label 1; labels are 0 to 2 without gaps"),
        (lambda y: y + 1, "y_train has no label 0"),
        (lambda y: y * 10**12, "y_train has no label 1"),
        (lambda y: y * 0, "y_train has no label 1"),
    ],
)
def test_labels_that_are_none(value, says):
    refused(says, 1, value)


def test_labels_of_the_test_images():
    refused(r"y_test must have the shape \[8\], as x_test says", 3, lambda y: y[1:])
    refused("y_train has no label 2", 3, lambda y: y + 1)
    names = ["a", "b"]
    refused("y_test has the label 2, but there are 2", 3, lambda y: y + 1, class_names=names)


def test_one_class():
    x, y, x_test, y_test = arrays()
    with pytest.raises(UserError, match="at least 2 classes are needed, not 1"):
        dataset([x, y * 0, x_test, y_test * 0])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["cat"], "at least 2 classes are needed, not 1"),
        (["cat", "cat"], "class_names must be different"),
        (["cat", " "], "class_names must be different .* not empty"),
        (["cat", "dog", "eel"], r"y_train has no label 2 \('eel'\)"),
    ],
)
def test_class_names(names, says):
    with pytest.raises(UserError, match=says):
        dataset(class_names=names)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"val_size": 20}, "val_size must lie between 1 and 19, not 20"),
        ({"val_size": 19}, "val_size 19 leaves no image of class"),
        ({"train_size": 17}, "train_size must lie between 1 and 16, not 17"),
        ({"test_size": 9}, "test_size must lie between 1 and 8, not 9"),
    ],
)
def test_sizes(options, says):
    with pytest.raises(UserError, match=says):
        dataset(**options)


# Archives


NAMES = ("x_train", "y_train", "x_test", "y_test")


@pytest.fixture
def archive(tmp_path):
    def write(given=None, compressed=False, **more):
        path = tmp_path / "mine.npz"
        values = dict(zip(NAMES, given or arrays(), strict=True)) | more
        values = {name: value for name, value in values.items() if value is not None}
        (np.savez_compressed if compressed else np.savez)(path, **values)
        return path

    return write


def load(path, **options):
    return load_dataset("npz", root=path, **{"val_size": 4} | options)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_is_its_arrays(archive, compressed):
    data = load(archive(compressed=compressed))
    assert data.fingerprint == dataset().fingerprint
    assert (data.name, data.title, data.flip) == ("npz", "mine", False)
    data = load(archive(class_names=["a", "b"], flip=True), title="Other", test_size=5)
    assert (data.class_names, data.title, data.flip) == (("a", "b"), "Other", True)
    assert len(data.labels["test"]) == 5


class Fires:
    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y_test": None}, "lacks y_test; an .npz archive has x_train, y_train"),
        ({"x_val": np.zeros(3)}, "holds an unknown 'x_val'"),
        ({"y_train": np.array([Fires()] * 20, object)}, "no whole .npz archive of plain arrays"),
        ({"class_names": np.array(["a", Fires()], object)}, "no whole .npz archive"),
        ({"class_names": np.array([1, 2])}, "class_names must be a list of texts"),
        ({"class_names": np.array("ab")}, "class_names must be a list of texts"),
        ({"flip": np.array([True, False])}, "flip must be True or False"),
        ({"flip": np.array(1)}, "flip must be True or False"),
        ({"y_train": np.zeros(20)}, "y_train must be whole numbers from 0, not float64"),
        ({"x_train": np.zeros((20, 2), np.uint8)}, "x_train must have the shape"),
    ],
)
def test_an_archive_of_something_else(archive, change, says):
    path = archive(**change)
    with pytest.raises(UserError, match=f"{path}.*{says}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_no_archive(tmp_path):
    with pytest.raises(UserError, match="there is no file .*none.npz"):
        load(tmp_path / "none.npz")
    with pytest.raises(UserError, match="there is no file"):
        load(tmp_path)
    with pytest.raises(UserError, match="the npz data set needs its file: --set data_root=PATH"):
        load_dataset("npz")
    with pytest.raises(UserError, match="drop"):
        load_dataset("npz", root=tmp_path, image_size=32)


def one_line(path):
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK", b"text", pickle.dumps([Fires()])])
def test_a_file_that_is_no_archive(tmp_path, content):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    one_line(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").rename(path)
    one_line(path)


def test_an_archive_of_raw_bytes_and_of_impossible_shapes(tmp_path):
    path = tmp_path / "mine.npz"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776, 1024), }\n"
    huge = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"x"
    for content in (b"raw", huge, huge[:20], b"\x93NUMPY\x01\x00\x05\x00((((("):
        with zipfile.ZipFile(path, "w") as target:
            for name in NAMES:
                target.writestr(f"{name}.npy", content)
        one_line(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_cut_short_or_altered(archive, compressed):
    """Wherever it was cut, and whichever bytes are others: a line, or the very same images."""
    path = archive(compressed=compressed)
    whole, found = path.read_bytes(), load(path).fingerprint
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        one_line(path)
    random = np.random.default_rng(0)
    for _ in range(200):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            content[place] ^= int(random.integers(1, 256))
        path.write_bytes(content)
        try:
            assert load(path).fingerprint == found
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
