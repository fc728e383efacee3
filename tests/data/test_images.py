"""Test images alone: the same pixels as in a data set, told by the shape, or refused by name."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import save_image

from ldatlib import UserError, load_dataset
from ldatlib.data.images import load_images


def archive(folder, **arrays):
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return path


def pictures(folder, *splits, classes=("b", "a"), count=5):
    torch.manual_seed(0)
    for split in splits:
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                save_image(torch.rand(3, 16, 16), folder / split / name / f"{index}.png")
    return folder


def test_digits_are_those_of_the_data_set():
    found, (x, y) = load_images("digits", limit=7), load_dataset("digits").split("test", 7)
    assert torch.equal(found.x, x) and torch.equal(found.y, y) and len(found.class_names) == 10


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_an_archive_is_told_by_shape_and_type(tmp_path, dtype, layout):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 1 if layout == "NHW" else 3, 9, 8))
    x = pixels.astype("uint8") if dtype == "uint8" else (pixels / 255).astype(dtype)
    x = {"NHW": x[:, 0], "NHWC": x.transpose(0, 2, 3, 1), "NCHW": x}[layout]
    found = load_images(archive(tmp_path, x=x, y=np.arange(6) % 2))
    expected = torch.from_numpy(pixels).float() / 255
    assert torch.allclose(found.x, expected, atol=1e-7) and found.x.dtype == torch.float32
    assert found.y.tolist() == [0, 1, 0, 1, 0, 1] and found.title == "mine"


def test_floats_are_not_rounded(tmp_path):
    x = np.full((2, 1, 8, 8), 0.123456, dtype="float32")
    assert load_images(archive(tmp_path, x=x, y=np.array([0, 1]))).x.max() == x.max()


def test_a_part_is_a_sample_in_the_order_of_the_archive(tmp_path):
    """They may lie class by class: the first ones would be of one class."""
    x, y = np.zeros((100, 8, 8), dtype="uint8"), np.repeat(np.arange(4), 25)
    x[:, 0, 0] = np.arange(100)
    path = archive(tmp_path, x=x, y=y, class_names=np.array(["a", "b", "c", "d"]))
    found = load_images(path, limit=20)
    rows = found.x[:, 0, 0, 0].mul(255).round().long()
    assert rows.tolist() == sorted(rows.tolist()) and len(found.y.unique()) == 4
    assert torch.equal(found.y, torch.from_numpy(y)[rows])
    assert torch.equal(load_images(path, limit=20).x, found.x)
    assert found.class_names == ("a", "b", "c", "d") and len(load_images(path, limit=999).y) == 100


def test_of_an_archive_with_training_images_those_of_the_test(tmp_path):
    x, y = np.zeros((4, 8, 8), dtype="uint8"), np.array([0, 1, 0, 1])
    path = archive(tmp_path, x_train=x, y_train=y, x_test=x[:2] + 5, y_test=y[:2])
    assert load_images(path).x.mul(255).unique().tolist() == [5]


def test_a_folder_with_test_pictures_alone(tmp_path):
    found = load_images(pictures(tmp_path, "test"))
    assert found.class_names == ("a", "b") and found.y.tolist() == [0] * 5 + [1] * 5
    assert found.x.shape == (10, 3, 16, 16) and load_images(tmp_path, image_size=8).x.shape[2] == 8
    few = load_images(tmp_path, limit=4)
    assert len(few.y) == 4 and few.y.tolist() == sorted(few.y.tolist())


@pytest.mark.parametrize("split", ["train", "test"])
def test_all_of_a_folder_decides_size_and_colour_not_the_sample(tmp_path, split):
    """A network that pools globally would take the squares of the sample, and be another there."""
    pictures(tmp_path, "train", "test")
    for path in tmp_path.glob("*/*/*.png"):
        Image.new("L", (16, 16)).save(path)
    assert load_images(tmp_path, limit=2).x.shape == (2, 1, 16, 16)
    Image.new("RGB", (20, 24), "red").save(tmp_path / split / "b" / "odd.png")
    found = load_images(tmp_path, limit=2)
    training = load_dataset("folder", root=tmp_path, val_size=2)
    assert found.x.shape == (2, 3, 32, 32) and not found.x.any(), "the red one is in the sample"
    assert found.x.shape[1:] == training.split("test")[0].shape[1:]


def test_classes_of_a_training_decide_their_numbers(tmp_path):
    pictures(tmp_path, "train", classes=("a", "b", "c"), count=1)
    with pytest.raises(UserError, match="classes differ"):
        load_images(pictures(tmp_path, "test", count=1))


BYTES, LABELS = np.zeros((4, 8, 8), dtype="uint8"), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((4, 3, 8, 3), dtype="uint8")}, "could be"),
        ({"x": np.full((4, 8, 8), 7.0)}, "divide by 255"),
        ({"x": np.full((4, 8, 8), -0.1)}, r"lie in \[0,1\]"),
        ({"x": np.zeros((4, 8, 8), dtype="int64")}, "must be uint8, or floats"),
        ({"x": np.zeros((4, 5, 8, 8), dtype="uint8")}, "1 or 3 channels"),
        ({"x": np.zeros((0, 8, 8), dtype="uint8")}, "no images"),
        ({"y": LABELS[:3]}, r"y must have the shape \[4\]"),
        ({"y": LABELS - 1}, "from 0, not -1"),
        ({"y": LABELS / 2}, "whole numbers"),
        ({"y": None}, "lacks y; an .npz archive has x_train"),
        ({"z": LABELS}, "unknown 'z'"),
        ({"class_names": np.array(["a", "two\nlines"])}, "line of text"),
    ],
)
def test_what_cannot_be_images(tmp_path, arrays, said):
    values = {"x": BYTES, "y": LABELS} | arrays
    path = archive(tmp_path, **{name: v for name, v in values.items() if v is not None})
    with pytest.raises(UserError, match=said):
        load_images(path)


def test_what_is_no_data(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no zip")
    for data, options, said in (
        ("imagenet", {}, "no data 'imagenet': known are digits"),
        (tmp_path, {}, "no folder .*test"),
        (tmp_path / "x.npz", {}, "no whole .npz"),
        (tmp_path / "other.npz", {}, "there is no file"),
        ("digits", {"root": tmp_path}, "drop it"),
        ("digits", {"image_size": 8}, "drop image_size"),
        ("digits", {"limit": 0}, "images must be"),
        (3, {}, "data must be a path"),
    ):
        with pytest.raises(UserError, match=said):
            load_images(data, **options)
