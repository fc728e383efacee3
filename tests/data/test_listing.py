"""Which files of a folder are pictures; what is passed over is counted, what is unclear named."""

import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from ldatlib.data.listing import ENDINGS, list_pictures
from ldatlib.data.load import load_dataset
from ldatlib.data.names import shown
from ldatlib.errors import UserError


@pytest.fixture
def root(tmp_path):
    """Two classes of three pictures in each split."""
    base = tmp_path / "pets"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                add(base / split / name / f"{number}.png")
    return base


def add(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), 40, np.uint8)).save(path, format="PNG")
    return path


def names(root, split="train"):
    return {name: [p.name for p in paths] for name, paths in list_pictures(root)[split].items()}


def said(caplog):
    lines = [r.getMessage() for r in caplog.records if r.name == "ldatlib.data.listing"]
    assert all("\n" not in line for line in lines)
    return lines


def refusal(root):
    with pytest.raises(UserError) as caught:
        list_pictures(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_by_class_sorted_by_name(root, caplog):
    add(root / "train/cat/10.png")
    assert names(root) == {"cat": ["0.png", "1.png", "10.png", "2.png"], "dog": names(root)["dog"]}
    assert not said(caplog)


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_endings_that_are_read(root, ending, caplog):
    add(root / f"train/cat/x{ending}")
    add(root / f"train/cat/y{ending.upper()}")
    assert len(names(root)["cat"]) == 5 and not said(caplog)


def test_what_is_passed_over_is_counted_in_one_line(root, caplog):
    for name in ("a.txt", "b.txt", "c.HEIC", "Thumbs.db", "README", ".DS_Store", "x.~!"):
        (root / "train/cat" / name).write_text("")
    (root / "train/.git").mkdir()
    (root / "test/dog/._0.png").write_text("")
    (root / "test/labels.csv").write_text("")
    add(root / "test/dog/more/1.png")
    add(root / "test/dog/folder.png/1.png")
    os.mkfifo(root / "test/dog/pipe.png")
    assert len(names(root, "test")["dog"]) == 3
    (line,) = said(caplog)
    kinds = "hidden 3, .txt 2, folders inside class folders 2"
    assert line.startswith(f"passed over in {root}: 13 ({kinds}, ") and line.endswith(", others 3)")


def test_each_kind_by_its_words(root, caplog):
    (root / "train/cat/x.heic").write_text("")
    (root / "train/cat/README").write_text("")
    (root / "train/cat/x.~!").write_text("")
    (root / "train/list.txt").write_text("")
    os.mkfifo(root / "train/cat/pipe.png")
    list_pictures(root)
    (line,) = said(caplog)
    start, _, kinds = line.rstrip(")").partition(" (")
    assert start == f"passed over in {root}: 5"
    assert set(kinds.split(", ")) == {
        ".heic 1",
        "without an ending 1",
        "of odd endings 1",
        "beside the class folders 1",
        "devices or pipes 1",
    }


def test_it_is_said_once_a_process(root, caplog):
    (root / "train/cat/x.heic").write_text("")
    for _ in range(2):
        list_pictures(root)
    assert len(said(caplog)) == 1


@pytest.mark.slow
def test_it_is_said_on_stderr_without_any_setting_and_not_by_workers(root):
    (root / "train/cat/x.heic").write_text("")
    code = (
        "import multiprocessing, pathlib, sys\nfrom ldatlib.data.listing import list_pictures\n"
        "def work():\n    print(len(list_pictures(pathlib.Path(sys.argv[1]))), flush=True)\n"
        "worker = multiprocessing.get_context('fork').Process(target=work)\n"
        "worker.start(); worker.join(); work()"
    )
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True)
    assert done.stdout == "2\n2\n"
    assert done.stderr == f"passed over in {root}: 1 (.heic 1)\n"


def test_no_images_names_what_is_there_instead(root):
    for path in (root / "train/cat").iterdir():
        path.rename(path.with_suffix(".heic"))
    assert refusal(root).startswith(
        f"no images in {root}/train/cat, only others: 3 (.heic 3); add some"
    )


def test_links(root, tmp_path, caplog):
    """Linked classes and pictures are as good as others."""
    (root / "train/cat").rename(tmp_path / "elsewhere")
    (root / "train/cat").symlink_to(tmp_path / "elsewhere")
    (root / "train/dog/link.png").symlink_to(tmp_path / "elsewhere/0.png")
    assert {name: len(files) for name, files in names(root).items()} == {"cat": 3, "dog": 4}
    assert len(load_dataset("folder", root=root, val_size=2).images["train"]) == 5
    assert not said(caplog)


def test_a_link_to_nothing_is_named(root):
    (root / "train/dog/b.png").symlink_to("/nowhere/x.png")
    message = refusal(root)
    assert f"{root}/train/dog/b.png is a link to nothing, /nowhere/x.png; bring" in message
    for number in range(5):
        (root / f"train/dog/a{number}.png").symlink_to("/nowhere")
    assert "train/dog/a0.png is a link to nothing, /nowhere (and 5 more there)" in refusal(root)


def test_a_link_to_nothing_among_2000_pictures(root, tmp_path):
    """Where there are so many, pixels are cached by what the files look like from outside."""
    original = root / "train/dog/0.png"
    for number in range(2000):
        os.link(original, root / f"train/dog/many{number}.png")
    (root / "train/dog/b.png").symlink_to("/nowhere")
    with pytest.raises(UserError, match="train/dog/b.png is a link to nothing"):
        load_dataset("folder", root=root, val_size=4, cache=tmp_path / "cache")


def test_links_in_a_circle_and_classes_that_link_to_nothing(root):
    (root / "train/dog/b.png").symlink_to("b.png")
    assert "train/dog/b.png is a link to nothing, b.png" in refusal(root)
    (root / "train/dog/b.png").unlink()
    (root / "train/wolf").symlink_to("/nowhere")
    assert f"{root}/train/wolf is a link to nothing" in refusal(root)


def test_a_link_to_nothing_that_would_be_no_picture_is_passed_over(root, caplog):
    (root / "train/dog/notes.txt").symlink_to("/nowhere")
    list_pictures(root)
    assert said(caplog) == [f"passed over in {root}: 1 (.txt 1)"]


@pytest.mark.parametrize(("split", "other"), [("train", "test"), ("test", "train")])
def test_a_class_that_one_split_lacks_is_named(root, split, other):
    add(root / split / "wolf/0.png")
    differ = f"classes differ between train and test under {root}: "
    assert refusal(root) == f"{differ}'wolf' is in {split} alone"
    add(root / other / "bear/0.png")
    assert refusal(root) == f"{differ}'bear' is in {other} alone, one of 2 such classes"


COMPOSED = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
APART = unicodedata.normalize("NFD", COMPOSED)


def test_classes_that_differ_in_the_encoding_of_accents(root):
    for name in (COMPOSED, APART):
        add(root / "train" / name / "0.png")
    message = refusal(root)
    assert r"'cafe\u0301' and 'caf\xe9'" in message and "accents are encoded" in message


def test_a_class_that_is_encoded_otherwise_in_the_other_split(root):
    add(root / "train" / COMPOSED / "0.png")
    add(root / "test" / APART / "0.png")
    message = refusal(root)
    assert r"'cafe\u0301' of test is 'caf\xe9' in train; give both one name" in message


def test_a_class_that_is_capitalised_in_the_other_split(root):
    (root / "test/cat").rename(root / "test/Cat")
    assert "'Cat' of test is 'cat' in train; give both one name" in refusal(root)


def test_letters_may_be_classes_in_both_cases(root, caplog):
    for split in ("train", "test"):
        add(root / split / "Cat/0.png")
    assert sorted(names(root)) == ["Cat", "cat", "dog"]
    (line,) = said(caplog)
    assert "the classes Cat and cat differ only in case" in line
    assert "(2 such pairs)" in line  # in both splits


@pytest.mark.parametrize(
    ("one", "other"), [("0.png", "0.PNG"), (f"{COMPOSED}.png", f"{APART}.png")]
)
def test_pictures_whose_names_hardly_differ_are_read_and_said(root, caplog, one, other):
    for name in (one, other):
        add(root / "train/cat" / name)
    assert {one, other} <= set(names(root)["cat"])
    (line,) = said(caplog)
    assert ascii(one)[1:] in line and ascii(other)[1:] in line and "only one of them" in line


def test_a_class_whose_name_is_no_text_is_named(root):
    os.rename(os.fsencode(root / "train/dog"), os.fsencode(root / "train") + b"/caf\xe9")
    assert r"train/caf\udce9 has a name that is no UTF-8" in refusal(root)
    os.rename(os.fsencode(root / "train") + b"/caf\xe9", root / "train/a\nb")
    assert r"train/a\nb has a name" in refusal(root)


@pytest.mark.parametrize(
    "name",
    ["\u0645\u06cc\u200c\u0634\u0648\u062f", "a\xa0b", "$x_1$ <b>", "\U0001f468\u200d\U0001f33e"],
)
def test_a_class_may_have_any_text_for_its_name(root, name):
    for split in ("train", "test"):
        add(root / split / name / "0.png")
    assert name in names(root)


def test_pictures_whose_names_are_no_text_are_read(root, tmp_path, monkeypatch):
    from ldatlib.data import pictures

    monkeypatch.setattr(pictures, "_WORTH_CACHING", 1)
    odd = os.fsencode(root / "train/dog") + b"/caf\xe9.png"
    os.rename(root / "train/dog/0.png", odd)
    data = load_dataset("folder", root=root, val_size=2, cache=tmp_path / "cache")
    assert (
        len(data.images["train"]) == 4
        and len(list((tmp_path / "cache").glob("*.safetensors"))) == 1
    )
    with open(odd, "wb") as stream:
        stream.write(b"")
    with pytest.raises(UserError, match=r"caf\\udce9.png: it is empty"):
        load_dataset("folder", root=root, val_size=2)


def test_the_home_folder_in_a_path(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert load_dataset("folder", root="~/pets", val_size=2).title == "pets"
    with pytest.raises(UserError, match="no folder ~nobody_here/pets/train"):
        load_dataset("folder", root="~nobody_here/pets")


def test_a_folder_that_may_not_be_listed(root, monkeypatch):
    def deny(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", deny)
    assert refusal(root) == f"cannot list {root}/train: Permission denied; change its permissions"


def test_a_path_on_one_line_of_any_terminal():
    assert shown("a/b c\N{SNOWMAN}.png") == "a/b c\N{SNOWMAN}.png"
    assert shown("a\nb\udce9\x1b[1m") == r"a\nb\udce9\x1b[1m"


@pytest.mark.parametrize(("given", "expected"), [(None, True), (False, False), (True, True)])
def test_mirroring_can_be_switched_off(root, given, expected):
    data = load_dataset("folder", root=root, val_size=2, flip=given)
    assert data.flip is expected
    assert data.fingerprint == load_dataset("folder", root=root, val_size=2).fingerprint


def test_mirroring_can_be_switched_on():
    assert load_dataset("digits", flip=True).flip and not load_dataset("digits").flip
