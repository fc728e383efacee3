"""Runs of very little data end with everybody's report, or before their first computation."""

import re

import numpy as np
import pytest
from companion import LEAST, SHALLOW, whole_run
from hostile import NAMES, TITLES, Structure
from PIL import Image
from tiny import PROJECT, silent

from ldatlib.errors import UserError
from ldatlib.study import plugins
from ldatlib.study.run import open_run

# All that a run draws.
FIGURES = 17
# As names of folders: no slash, no control character that turns a line of text around.
FOLDERS = [name.replace("/", "|") for name in NAMES if len(name) < 200 and "\u202e" not in name]


def folder(root, names, train, test, side):
    """Pictures of these classes: noise on a colour of their own."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        for split, count in (("train", train), ("test", test)):
            place = root / split / name
            place.mkdir(parents=True)
            for index in range(count):
                noise = rng.integers(0, 90, (side, side, 3))
                pixels = noise + np.array([12 * number, 40 * number % 160, 30])
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.png")
    return root


def plugin(path, title):
    """The example's defence with a title that means something to matplotlib and HTML."""
    source = (PROJECT / "docs" / "examples" / "label_smoothing.py").read_text(encoding="utf-8")
    path.write_text(source.replace('"PGD-AT, smoothed labels"', repr(title)), encoding="utf-8")
    return path


def check(report):
    """Every picture has words, and nothing of a name became more than text."""
    found = Structure(report)
    assert len(found.alternatives) == FIGURES
    assert all(said and "No description" not in said for said in found.alternatives)
    assert len(set(found.alternatives)) == FIGURES
    attributes = {name for _, names in found.elements for name in names}
    assert not {name for name in attributes if name.startswith("on")}
    tags = [tag for tag, _ in found.elements]
    # Of those that run: the page's own, and the one that draws the charts. The others are data.
    scripts = [names for tag, names in found.elements if tag == "script"]
    assert tags.count("img") == FIGURES and scripts.count(()) == 2
    assert all(names in ((), ("type",)) for names in scripts)
    return found


@pytest.fixture(autouse=True)
def without_plugins():
    yield
    plugins.forget()


@pytest.mark.slow
def test_more_classes_than_validation_images_and_hostile_names(tmp_path):
    names = FOLDERS[:12]
    data = folder(tmp_path / "data", names, 3, 1, 16)
    own = plugin(tmp_path / "own.py", TITLES[0])
    overrides = LEAST | SHALLOW | {"data_root": str(data), "val_size": 10}
    overrides |= {"data_title": NAMES[6], "plugins": [str(own)]}
    overrides["defences"] = (*LEAST["defences"], "label_smoothing")
    found = check(whole_run(tmp_path / "run", overrides))
    text = "\n".join(found.texts)
    assert NAMES[6] in text and TITLES[0] in text


@pytest.mark.slow
def test_two_classes_of_one_test_picture(tmp_path):
    data = folder(tmp_path / "data", ["a", "b"], 3, 1, 16)
    overrides = LEAST | SHALLOW | {"data_root": str(data), "val_size": 2}
    # With the two whose features a claim compares.
    overrides["defences"] = ("standard", "trades", "ldat")
    text = "\n".join(check(whole_run(tmp_path / "run", overrides)).texts)
    assert "every class has one image" in text


@pytest.mark.slow
def test_networks_that_never_learn(tmp_path):
    """Of so many classes an untrained network has hardly an image right, of validation none."""
    names = [f"c{number:02}" for number in range(24)]
    data = folder(tmp_path / "data", names, 3, 1, 16)
    overrides = LEAST | SHALLOW | {"data_root": str(data), "val_size": 2, "lr": 1e-8}
    # Figures 1 and 2 want classes that the two validation images may not have.
    run = open_run("folder", overrides, tmp_path / "run", jobs=1)
    with pytest.raises(UserError, match="'c00', 'c01', 'c02', of which there is no") as stop:
        run.complete(run.plan("01"), silent)
    assert not (tmp_path / "run").exists()
    classes = re.search(r"raise val_size, or .*plane_classes=(\d+,\d+) \('c", str(stop.value))[1]
    overrides |= {"plane_classes": classes}
    text = "\n".join(check(whole_run(tmp_path / "run", overrides)).texts)
    assert "frozen: none, no validation image is right" in text


@pytest.mark.slow
def test_pictures_of_8_pixels_in_the_network_of_the_profile(tmp_path):
    """Four stages leave one pixel of 8x8."""
    data = folder(tmp_path / "data", ["a", "b", "c"], 4, 2, 8)
    overrides = LEAST | {"data_root": str(data), "val_size": 3}
    check(whole_run(tmp_path / "run", overrides))
