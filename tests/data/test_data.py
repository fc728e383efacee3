"""Data sets: splits, augmentation, folders of pictures, and what is said about broken ones."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare

from ldatlib.data import augment, load_dataset, to_float
from ldatlib.errors import UserError

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


# Digits


def test_digits_sizes(digits):
    assert {s: tuple(digits.images[s].shape) for s in SPLITS} == {
        "train": (1097, 1, 8, 8),
        "val": (300, 1, 8, 8),
        "test": (400, 1, 8, 8),
    }
    assert all(len(digits.labels[s]) == len(digits.images[s]) for s in SPLITS)
    assert all(digits.images[s].dtype == torch.uint8 for s in SPLITS)
    assert all(digits.labels[s].dtype == torch.int64 for s in SPLITS)
    assert (digits.num_classes, digits.channels, digits.flip) == (10, 1, False)
    assert load_dataset("digits", val_size=100, test_size=200).images["train"].shape[0] == 1497


def sklearn_digits():
    """Pixels and label of every image, in the order of the source."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (bunch.images * 255 / 16).round().astype(np.uint8).reshape(-1, 64)
    return list(zip([row.tobytes() for row in pixels], bunch.target.tolist(), strict=True))


def test_digits_splits_are_a_partition_of_the_source(digits):
    found = [
        (image.numpy().tobytes(), int(label))
        for s in SPLITS
        for image, label in zip(digits.images[s], digits.labels[s], strict=True)
    ]
    source = sklearn_digits()
    assert len({pixels for pixels, _ in source}) == 1797, "no image occurs twice"
    assert sorted(found) == sorted(source)


@pytest.mark.parametrize("split", SPLITS)
def test_digits_are_drawn_from_the_whole_source(digits, split):
    """One writer follows another there: its first images are a few people's hands."""
    place = {pixels: i for i, (pixels, _) in enumerate(sklearn_digits())}
    places = torch.tensor([place[image.numpy().tobytes()] for image in digits.images[split]])
    quarters = torch.histc(places.double(), 4, 0, 1797) / len(places)
    assert (quarters - 0.25).abs().max() < 0.06
    assert not torch.equal(places, places.sort().values)


@pytest.mark.parametrize("split", SPLITS)
def test_digits_are_stratified(digits, split):
    labels = torch.cat([digits.labels[s] for s in SPLITS])
    expected = labels.bincount() * len(digits.labels[split]) / len(labels)
    assert (digits.labels[split].bincount() - expected).abs().max() < 2


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("limit", [50, 100])
def test_first_images_of_a_split_are_a_random_sample(digits, split, limit):
    counts = digits.labels[split][:limit].bincount(minlength=10)
    assert chisquare(counts).pvalue > 1e-3, counts


def test_loading_is_deterministic(digits):
    torch.manual_seed(123)
    np.random.seed(123)
    again = load_dataset("digits")
    assert all(torch.equal(again.images[s], digits.images[s]) for s in SPLITS)
    assert all(torch.equal(again.labels[s], digits.labels[s]) for s in SPLITS)
    assert again.fingerprint == digits.fingerprint


def test_statistics_are_of_training_pixels(digits):
    pixels = digits.images["train"].double() / 255
    mean, std = digits.statistics()
    assert mean == pytest.approx([pixels.mean().item()])
    assert std == pytest.approx([pixels.std(correction=0).item()])


def test_split_gives_floats(digits):
    x, y = digits.split("test", 7)
    assert x.dtype == torch.float32 and len(x) == len(y) == 7
    assert torch.equal(x * 255, digits.images["test"][:7].float())
    assert torch.equal(y, digits.labels["test"][:7])
    assert len(digits.split("val")[0]) == 300
    assert to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0, 1]
    with pytest.raises(UserError, match="'dev'.*train, val, test"):
        digits.split("dev")


def test_subset(digits):
    subset = digits.subset([7, 2], train_size=20)
    assert subset.class_names == ("7", "2")
    assert len(subset.labels["train"]) == 20
    for s, limit in (("train", 20), ("val", None), ("test", None)):
        keep = (digits.labels[s] == 7) | (digits.labels[s] == 2)
        assert torch.equal(subset.images[s], digits.images[s][keep][:limit])
        assert torch.equal(subset.labels[s] == 0, digits.labels[s][keep][:limit] == 7)
        assert subset.labels[s].unique().tolist() == [0, 1]
    assert subset.fingerprint != digits.fingerprint
    with pytest.raises(UserError, match="no class 10 in digits"):
        digits.subset([0, 10])


# Fingerprint


def fingerprint(dataset, **changes):
    """Of a changed copy; ``subset`` with every class recomputes it and changes nothing else."""
    return replace(dataset, **changes).subset(range(dataset.num_classes)).fingerprint


def test_fingerprint_of_the_same_data(digits):
    assert fingerprint(digits) == digits.fingerprint
    assert len(digits.fingerprint) == 64


def test_fingerprints_stay_what_records_are_kept_under(digits, folder):
    """Another order or split of the same images would be other data: records are found by it."""
    assert digits.fingerprint.startswith("2718c57bfd051b5f")
    assert digits.subset([3, 1], 40).fingerprint.startswith("924c64e4e87e6cfc")
    assert load(folder(), test_size=5).fingerprint.startswith("e2c20c9063aaedeb")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_fingerprint_sees_one_pixel_and_one_label(digits, split, kind):
    changed = getattr(digits, kind)[split].clone()
    flat = changed.view(-1)
    flat[-1] = (flat[-1] + 1) % 10
    changes = {kind: getattr(digits, kind) | {split: changed}}
    assert fingerprint(digits, **changes) != digits.fingerprint


def test_fingerprint_sees_shapes_and_names(digits):
    tall = {s: digits.images[s].view(-1, 1, 16, 4) for s in SPLITS}
    assert fingerprint(digits, images=tall) != digits.fingerprint
    assert fingerprint(digits, class_names=tuple("abcdefghij")) != digits.fingerprint


def test_fingerprint_sees_the_order(digits):
    images = digits.images | {"train": digits.images["train"].flip(0)}
    labels = digits.labels | {"train": digits.labels["train"].flip(0)}
    assert fingerprint(digits, images=images, labels=labels) != digits.fingerprint


# Augmentation


def pictures(n=200, channels=3, height=5, width=6):
    return torch.randint(1, 256, (n, channels, height, width), dtype=torch.uint8)


def test_augment_with_nothing_to_do():
    images = pictures()
    assert torch.equal(augment(images, padding=0, flip=False), images)


@pytest.mark.parametrize("flip", [False, True])
def test_augment_gives_crops_of_the_padded_image(flip):
    images, padding = pictures(), 2
    height, width = images.shape[2:]
    found = augment(images, padding=padding, flip=flip)
    assert found.dtype == torch.uint8 and found.shape == images.shape
    padded = torch.zeros(*images.shape[:2], height + 4, width + 4, dtype=torch.uint8)
    padded[:, :, 2:-2, 2:-2] = images
    seen = set()
    for image, whole in zip(found, padded, strict=True):
        matches = set()
        for top, left in product(range(5), range(5)):
            crop = whole[:, top : top + height, left : left + width]
            for mirrored in (False, True):
                if torch.equal(image, crop.flip(2) if mirrored else crop):
                    matches.add((top, left, mirrored))
        assert len(matches) == 1
        seen |= matches
    assert {(top, left) for top, left, _ in seen} == set(product(range(5), range(5)))
    assert {mirrored for *_, mirrored in seen} == ({False, True} if flip else {False})


def test_half_of_the_images_are_mirrored():
    images = pictures(2000, 1, 2, 2)
    found = augment(images, padding=0, flip=True)
    mirrored = (found == images.flip(3)).flatten(1).all(1)
    kept = (found == images).flatten(1).all(1)
    assert (mirrored | kept).all()
    assert mirrored.double().mean() == pytest.approx(0.5, abs=0.05)


def test_augment_draws_from_the_generator():
    images, state = pictures(), torch.get_rng_state()
    first, again, other = (
        augment(images, padding=2, flip=True, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


# Folders


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def picture(size=(8, 8), channels=None, seed=0):
    """Random pixels; ``size`` is (height, width)."""
    shape = size if channels is None else (*size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A writer of trees: two classes, six training and three test pictures each."""

    def make(size=(8, 8), channels=None, classes=("cat", "dog")):
        root = tmp_path / "pets"
        for k, name in enumerate(classes):
            for i in range(6):
                write(root / f"train/{name}/{i}.png", picture(size, channels, 100 * k + i))
            for i in range(3):
                write(root / f"test/{name}/{i}.png", picture(size, channels, 100 * k + 50 + i))
        return root

    return make


def load(root, **options):
    return load_dataset("folder", root=root, **{"val_size": 4} | options)


def contents(dataset, split):
    return {
        (image.numpy().tobytes(), int(label))
        for image, label in zip(dataset.images[split], dataset.labels[split], strict=True)
    }


@pytest.mark.parametrize(("channels", "count"), [(None, 1), (3, 3)])
def test_folder_of_grey_and_of_colour(folder, channels, count):
    dataset = load(folder(channels=channels))
    assert dataset.class_names == ("cat", "dog") and dataset.channels == count
    assert (dataset.name, dataset.title, dataset.flip) == ("folder", "pets", True)
    assert [len(dataset.images[s]) for s in SPLITS] == [8, 4, 6]
    assert dataset.labels["val"].tolist().count(0) == 2

    def pixels(seed):
        array = picture((8, 8), channels, seed)
        return (array if channels is None else array.transpose(2, 0, 1).copy()).tobytes()

    assert contents(dataset, "train") | contents(dataset, "val") == {
        (pixels(100 * k + i), k) for k in range(2) for i in range(6)
    }
    assert contents(dataset, "test") == {
        (pixels(100 * k + 50 + i), k) for k in (0, 1) for i in range(3)
    }


def test_one_colour_picture_makes_all_colour(folder):
    root = folder()
    write(root / "test/dog/colour.png", picture((8, 8), 3))
    dataset = load(root)
    assert dataset.channels == 3
    grey = dataset.images["train"]
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])


def test_equal_squares_are_kept_and_mixed_sizes_become_32(folder):
    root = folder(size=(11, 11))
    assert load(root).images["train"].shape[2:] == (11, 11)
    assert load(root, image_size=16).images["train"].shape[2:] == (16, 16)
    write(root / "train/cat/wide.png", picture((11, 12)))
    assert load(root).images["train"].shape[2:] == (32, 32)
    assert load(root, image_size=11).images["train"].shape[2:] == (11, 11)


def test_equal_pictures_that_are_not_square_become_32(folder):
    assert load(folder(size=(8, 16))).images["train"].shape[2:] == (32, 32)


def test_the_middle_square_is_cut_out(folder):
    root = folder()
    striped = np.zeros((8, 24), dtype=np.uint8)
    striped[:, 8:16] = 200
    for kind, array in (("wide", striped), ("tall", striped.T.copy())):
        write(root / f"test/{kind}.png", array)
        (root / f"test/{kind}.png").replace(root / "test/cat/0.png")
        images = load(root, image_size=8).images["test"]
        assert any((image == 200).all() for image in images), kind


def test_scaling_is_antialiased(folder):
    root = folder()
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    write(root / "test/cat/0.png", checkerboard)
    images = load(root, image_size=8).images["test"].float()
    assert any((image - 127.5).abs().max() < 20 for image in images)


def test_sixteen_bit_grey_is_scaled_not_clipped(folder):
    root = folder()
    ramp = (np.arange(64).reshape(8, 8) * 1024).astype(np.uint16)
    write(root / "test/cat/0.png", ramp)
    images = load(root).images["test"]
    assert any(
        (image.int() - torch.from_numpy(ramp // 256).int()).abs().max() <= 1 for image in images
    )


def test_test_size_keeps_a_random_sample_of_a_folder(folder):
    root = folder()
    every, some = load(root), load(root, test_size=4)
    assert len(some.images["test"]) == 4 and len(some.labels["test"].unique()) == 2
    assert contents(some, "test") < contents(every, "test")
    assert contents(some, "train") == contents(every, "train")


def test_names_and_hidden_entries(folder):
    root = folder()
    (root / "train/.cache").mkdir()
    (root / "train/cat/notes.txt").write_text("not a picture")
    (root / "train/cat/0.png").rename(root / "train/cat/0.PNG")
    dataset = load(root, title="My pets")
    assert dataset.title == "My pets" and len(dataset.images["train"]) == 8


def test_hidden_files_are_no_pictures(folder):
    """macOS leaves ._NAME beside every file of an unpacked archive."""
    root = folder()
    (root / "train/cat/._0.png").write_bytes(b"Mac OS X")
    assert len(load(root).images["train"]) == 8


def test_folder_loading_is_deterministic(folder):
    root = folder()
    assert load(root).fingerprint == load(root).fingerprint
    write(root / "test/cat/0.png", picture(seed=999))
    assert load(root).fingerprint != load(folder()).fingerprint


def breaks(text):
    """Name a broken tree by what its error must say; ``{root}`` is filled in."""
    return lambda change: pytest.param(change, text, id=change.__name__)


@breaks("{root}/train")
def no_train(root):
    (root / "train").rename(root / "training")


@breaks("{root}/test")
def no_test(root):
    (root / "test").rename(root / "testing")


@breaks("no images in {root}/train/cat")
def no_images(root):
    for path in (root / "train/cat").iterdir():
        path.rename(path.with_suffix(".txt"))


@breaks("no images in {root}/test")
def no_classes(root):
    for name in ("cat", "dog"):
        (root / "test" / name).rename(root / name)


@breaks("{root}/train has one class, 'cat'")
def one_class(root):
    for split in ("train", "test"):
        (root / split / "dog").rename(root / f"{split}_dog")


@breaks("{root}/train/dog/3.png")
def text_named_png(root):
    (root / "train/dog/3.png").write_text("not a picture")


@breaks("{root}/train/dog/3.png")
def empty_file(root):
    (root / "train/dog/3.png").write_bytes(b"")


@breaks("{root}/test/cat/9.jpg")
def truncated_jpeg(root):
    path = root / "test/cat/9.jpg"
    write(path, picture((64, 64), 3))
    path.write_bytes(path.read_bytes()[:-200])


@breaks("{root}/test/cat/2.png")
def truncated_png(root):
    path = root / "test/cat/2.png"
    path.write_bytes(path.read_bytes()[:-40])


@breaks("classes differ between train and test under {root}: 'dog'")
def class_without_test_images(root):
    (root / "test/dog").rename(root / "dog")


@breaks("classes differ between train and test under {root}: 'wolf'")
def class_without_training_images(root):
    write(root / "test/wolf/0.png", picture())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        no_train,
        no_test,
        no_images,
        no_classes,
        one_class,
        text_named_png,
        empty_file,
        truncated_jpeg,
        truncated_png,
        class_without_test_images,
        class_without_training_images,
    ],
)
def test_broken_folder(folder, change, text):
    root = folder()
    load(root)
    change(root)
    with pytest.raises(UserError) as caught:
        load(root)
    assert text.format(root=root) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"val_size": 12}, "val_size must lie between 1 and 11, not 12"),
        ({"val_size": 0}, "val_size must lie between 1 and 11, not 0"),
        ({"val_size": -3}, "val_size must lie between 1 and 11, not -3"),
        ({"val_size": 11}, "val_size 11 leaves no image of class"),
        ({"test_size": 0}, "test_size"),
        ({"test_size": -1}, "test_size"),
        ({"image_size": 3}, "image_size must be at least 8 pixels, not 3"),
    ],
)
def test_sizes_out_of_range(folder, options, text):
    with pytest.raises(UserError, match=text):
        load(folder(), **options)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("cifar11",), "'cifar11'; known: digits, cifar10, cifar100, folder"),
        (("folder",), "needs its path"),
        (("digits", {"root": "/"}), "digits has no folder"),
        (("digits", {"image_size": 16}), "digits has no folder and no image size"),
        (("digits", {"val_size": 1397}), "val_size must lie between 1 and 1396, not 1397"),
        (("digits", {"test_size": 1797}), "test_size must lie between 1 and 1796, not 1797"),
    ],
)
def test_load_dataset_errors(arguments, text):
    name, options = (*arguments, {})[:2]
    with pytest.raises(UserError, match=text):
        load_dataset(name, **options)
