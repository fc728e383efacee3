"""Folders of pictures, pictures of every kind and damage, and arrays.

Every class has a grey of its own, so that a picture under another label, or read otherwise than it
was written, is seen.
"""

import contextlib
import io
import os

import numpy as np
import torch
from fuzzing import mostly
from hypothesis import strategies as st
from PIL import Image

from ldatlib.data import Dataset, load_dataset
from ldatlib.data.pictures import read_pictures

# No slash and no zero; whatever else a file system takes.
_FILE_TEXT = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=8
)
CLASS_NAMES = mostly(
    st.sampled_from(["cat", "dog", "e\u0301", "$x$", "_bg", "猫", "a b", "-", "~", "0"]),
    _FILE_TEXT,
    st.sampled_from(["Cat", "\u00e9", "\udcff", "a\nb", "n" * 120, ".h", "\u202e", "con", "None"]),
    of=12,
)
FILES = st.tuples(
    mostly(st.sampled_from(["a", "b", "c", "A", "é", "e\u0301", ".h", "x.y"]), _FILE_TEXT),
    mostly(
        st.sampled_from([".png", ".PNG", ".jpg", ".pgm", ".tiff", ".jfif"]),
        st.sampled_from([".txt", "", ".gif", ".png "]),
    ),
    mostly(
        st.sampled_from(["picture", "picture", "colour", "alpha", "deep", "palette"]),
        st.sampled_from(["empty", "text", "folder", "link", "dangling", "cut"]),
        of=40,
    ),
    mostly(st.just((8, 8)), st.tuples(st.integers(1, 20), st.integers(1, 20))),
)
FOLDERS = st.fixed_dictionaries(
    {
        "train": mostly(
            st.dictionaries(
                CLASS_NAMES, st.lists(FILES, min_size=3, max_size=5), min_size=2, max_size=3
            ),
            st.dictionaries(CLASS_NAMES, st.lists(FILES, max_size=3), max_size=2),
            of=15,
        ),
        "same": mostly(st.just(True), st.just(False), of=15),
        "test": st.dictionaries(CLASS_NAMES, st.lists(FILES, max_size=2), max_size=3),
        "missing": mostly(st.just(""), st.sampled_from(["train", "test", "all"]), of=25),
        "val_size": mostly(st.integers(1, 3), st.integers(-1, 12)),
    },
    optional={
        "image_size": mostly(st.integers(8, 20), st.integers(-3, 600)),
        "train_size": mostly(st.integers(1, 3), st.integers(-1, 8)),
        "test_size": mostly(st.just(2), st.integers(-1, 8)),
        "flip": st.booleans(),
        "title": st.text(max_size=6),
    },
)
_STEP = 30


def _grey_of(position: int) -> int:
    return 40 + _STEP * position


def _picture(kind: str, size: tuple[int, int], grey: int) -> Image.Image:
    if kind == "colour":
        return Image.new("RGB", size, (grey, grey, grey))
    if kind == "alpha":
        return Image.new("RGBA", size, (grey, grey, grey, 255))
    if kind == "deep":
        return Image.fromarray(np.full(size[::-1], grey * 257, np.uint16))
    if kind == "palette":
        return Image.new("L", size, grey).convert("P")
    return Image.new("L", size, grey)


def _write(path: str, kind: str, size: tuple[int, int], grey: int) -> bool:
    """One entry of a folder; whether it is a picture as it should be."""
    try:
        if kind == "folder":
            os.mkdir(path)
        elif kind in ("link", "dangling"):
            os.symlink("/dev/null" if kind == "link" else "/nowhere/at/all", path)
        else:
            stream = io.BytesIO()
            _picture(kind, size, grey).save(stream, "PNG")
            content = stream.getvalue()
            content = {"empty": b"", "text": b"none", "cut": content[:-20]}.get(kind, content)
            with open(path, "wb") as file:
                file.write(content)
    except (OSError, UnicodeEncodeError):  # the file system does not take that name
        return False
    return True


def folder(case, root):
    root = root / "pictures"
    given = {key: case[key] for key in case if key not in ("train", "same", "test", "missing")}
    train = case["train"]
    test = {name: files[:1] for name, files in train.items()} if case["same"] else case["test"]
    greys = {name: _grey_of(i) for i, name in enumerate(dict.fromkeys([*train, *test]))}
    if case["missing"] != "all":
        root.mkdir()
    for split, classes in (("train", train), ("test", test)):
        if case["missing"] in (split, "all"):
            continue
        (root / split).mkdir()
        for name, files in classes.items():
            where = os.path.join(str(root / split), name)
            try:
                os.mkdir(where)
            except (OSError, UnicodeEncodeError):
                continue
            for stem, ending, kind, size in files:
                _write(os.path.join(where, stem + ending), kind, size, greys[name])
    data = load_dataset("folder", root=root, **given)
    found = set(os.listdir(root / "train"))
    assert set(data.class_names) <= found and list(data.class_names) == sorted(data.class_names)
    for split in data.images:
        x, y = data.split(split)
        for image, label in zip(x, y, strict=True):
            grey = greys[data.class_names[int(label)]] / 255
            assert (image - grey).abs().max() < 0.01, (split, data.class_names[int(label)])


def names_of_folder(case):
    return ["pictures", "val_size", "train_size", "test_size", "image_size", "title", "class"]


# One file of pixels

_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("1", "L", "P", "RGB"),
    "PPM": ("1", "L", "RGB", "I"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
    "WEBP": ("L", "RGB", "RGBA"),
}
_LOSSLESS = ("PNG", "BMP", "PPM", "TIFF")
DAMAGES = st.one_of(
    st.none(),
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("flip"), st.floats(0, 0.2), st.integers(0, 7)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.integers(1, 40)),
    st.tuples(st.just("delete"), st.floats(0, 1), st.integers(1, 40)),
    st.tuples(st.just("zeros"), st.floats(0, 1), st.integers(1, 40)),
)
PICTURES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([(f, m) for f, modes in _MODES.items() for m in modes]),
        "size": st.tuples(st.integers(1, 24), st.integers(1, 24)),
        "seed": st.integers(0, 99),
        "exif": st.one_of(st.none(), st.integers(0, 9)),
        "damage": DAMAGES,
        "image_size": st.one_of(st.none(), st.integers(8, 24)),
        "name": st.one_of(st.just("x.png"), _FILE_TEXT.map(lambda stem: f"{stem}.png")),
    }
)


def damaged(content: bytes, damage) -> bytes:
    """The bytes after one accident; as they are for ``None``."""
    if damage is None or not content:
        return content
    what, place, number = damage
    at = min(int(place * len(content)), len(content) - 1)
    if what == "cut":
        return content[:at]
    if what == "flip":
        return content[:at] + bytes([content[at] ^ 1 << number]) + content[at + 1 :]
    if what == "insert":
        return content[:at] + bytes(range(65, 65 + number)) + content[at:]
    if what == "delete":
        return content[:at] + content[at + number :]
    return content[:at] + bytes(min(number, len(content) - at)) + content[at + number :]


def _noise(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    rng, shape = np.random.default_rng(seed), size[::-1]
    if mode == "F":
        return Image.fromarray(rng.random(shape, np.float32))
    if mode in ("I;16", "I"):
        deep = Image.fromarray(rng.integers(0, 65536, shape).astype(np.uint16))
        return deep if mode == "I;16" else deep.convert("I")
    if mode in ("RGBA", "LA", "CMYK", "YCbCr", "LAB"):
        count = {"LA": 2, "YCbCr": 3, "LAB": 3}.get(mode, 4)
        raw = rng.integers(0, 256, (*shape, count)).astype(np.uint8)
        return Image.frombytes(mode, size, raw.tobytes())
    colour = Image.fromarray(rng.integers(0, 256, (*shape, 3)).astype(np.uint8))
    return colour if mode == "RGB" else colour.convert(mode)


def picture(case, folder):
    (form, mode), size = case["kind"], case["size"]
    image = _noise(mode, size, case["seed"])
    stream = io.BytesIO()
    more = {}
    if case["exif"] is not None and form in ("JPEG", "PNG", "WEBP"):
        exif = Image.Exif()
        exif[0x0112] = case["exif"]
        more["exif"] = exif
    image.save(stream, form, **more)
    content = stream.getvalue()
    changed = damaged(content, case["damage"])
    path = folder / case["name"]
    try:
        path.write_bytes(changed)
    except (OSError, UnicodeEncodeError):
        return
    pixels = read_pictures({"train": [path], "test": []}, folder, case["image_size"], None)["train"]
    assert pixels.dtype == torch.uint8 and pixels.shape[0] == 1 and pixels.shape[1] in (1, 3)
    whole = changed == content and not more and form in _LOSSLESS and mode in ("L", "RGB")
    if whole and size[0] == size[1] and case["image_size"] in (None, size[0]):
        expected = torch.from_numpy(np.array(image))
        found = pixels[0, 0] if mode == "L" else pixels[0].permute(1, 2, 0)
        assert torch.equal(found, expected)


def names_of_picture(case):
    # As a terminal takes it.
    return [case["name"], case["name"].encode("unicode_escape").decode(), "image"]


# Arrays

_DTYPES = "uint8 float32 float64 float16 int64 int8 bool >f4 complex64 U3 object".split()
_SIDE = st.integers(4, 8)
ARRAYS = st.fixed_dictionaries(
    {
        "dtype": mostly(st.sampled_from(["uint8", "float32", "float64"]), st.sampled_from(_DTYPES)),
        "shape": mostly(
            st.one_of(
                st.tuples(_SIDE, _SIDE),
                st.tuples(st.sampled_from([1, 3]), _SIDE, _SIDE),
                st.tuples(_SIDE, _SIDE, st.sampled_from([1, 3])),
            ),
            st.lists(st.integers(0, 4), max_size=4).map(tuple),
        ),
        "count": mostly(st.integers(8, 12), st.integers(0, 12)),
        "classes": mostly(st.integers(2, 3), st.integers(1, 5)),
        "first": mostly(st.just(0), st.sampled_from([1, -1, 2**40]), of=15),
        "label_dtype": mostly(
            st.sampled_from(["int64", "int32", "uint8"]),
            st.sampled_from(["uint64", "float32", "U1", "bool", ">i4", "object"]),
        ),
        "spoil": mostly(
            st.just(""), st.sampled_from("nan inf 2 -1 300 list labels".split()), of=15
        ),
        "torch": st.booleans(),
        "layout": st.sampled_from(["", "", "reversed", "read-only", "fortran"]),
        "val_size": mostly(st.integers(1, 3), st.integers(-1, 20), st.floats(), st.none()),
    },
    optional={
        "class_names": mostly(
            st.none(),
            st.lists(st.text(max_size=3), max_size=5),
            st.just(["a", "b"]),
            st.integers(),
            st.text(max_size=3),
        ),
        "title": mostly(st.text(max_size=5), st.none(), st.integers()),
        "train_size": mostly(st.integers(1, 4), st.none(), st.integers(-1, 12), st.floats()),
        "test_size": mostly(st.integers(1, 6), st.integers(-1, 12), st.text(max_size=2)),
        "flip": mostly(st.booleans(), st.integers(0, 3), st.text(max_size=2)),
    },
)


def arrays(case, folder):
    count, dtype = case["count"], np.dtype(case["dtype"])
    y = (np.arange(count) % case["classes"] + case["first"]).astype(case["label_dtype"])
    level = np.arange(count) % case["classes"] * _STEP
    x = np.broadcast_to(level.reshape(-1, *[1] * len(case["shape"])), (count, *case["shape"]))
    x = (x / 255 if dtype.kind == "f" else x).astype(dtype)
    if x.size and case["spoil"] in ("nan", "inf", "2", "-1", "300") and dtype.kind == "f":
        x.reshape(-1)[0] = float(case["spoil"])
    if case["layout"] == "reversed":
        x, y = x[::-1], y[::-1]
    elif case["layout"] == "fortran":
        x = np.asfortranarray(x)
    elif case["layout"] == "read-only":
        x.flags.writeable = False
    if case["torch"]:
        with contextlib.suppress(TypeError, ValueError):  # dtypes that torch does not have
            x, y = torch.from_numpy(x.copy()), torch.from_numpy(y.copy())
    if case["spoil"] == "list":
        x = x.tolist()
    if case["spoil"] == "labels":
        y = y[:-1]
    kept = ("val_size", "class_names", "title", "train_size", "test_size", "flip")
    data = Dataset.from_arrays(x, y, x, y, **{key: case[key] for key in kept if key in case})
    for split in data.images:
        found, labels = data.split(split)
        grey = labels.float() * _STEP / 255
        assert (found - grey.view(-1, 1, 1, 1)).abs().max() < 0.003, split
    assert all(isinstance(name, str) and name.strip() for name in data.class_names)


def names_of_arrays(case):
    fixed = ["x_train", "x_test", "y_train", "y_test", "class", "title", "flip"]
    return [*fixed, "val_size", "train_size", "test_size"]
