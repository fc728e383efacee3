"""What is too little to compute is said before anything is computed."""

import numpy as np
import pytest
from tiny import TINY, silent

from ldatlib.errors import UserError
from ldatlib.study.run import open_run


def arrays(path, classes, train, test_labels, side=8):
    """An archive of noise: ``train`` images a class, and a test image for each label."""
    rng = np.random.default_rng(0)
    y_train, y_test = np.repeat(np.arange(classes), train), np.array(test_labels)
    np.savez(
        path,
        x_train=rng.integers(0, 256, (len(y_train), side, side), dtype=np.uint8),
        x_test=rng.integers(0, 256, (len(y_test), side, side), dtype=np.uint8),
        y_train=y_train,
        y_test=y_test,
        class_names=[f"n{number}" for number in range(classes)],
    )
    return str(path)


@pytest.fixture
def opened(tmp_path):
    def run(classes=5, train=4, test_labels=(0, 1, 2, 3, 4), side=8, **settings):
        root = arrays(tmp_path / "data.npz", classes, train, test_labels, side)
        own = {"val_size": 5, "test_size": None, "plane_classes": "0,1,2"}
        overrides = TINY | own | {"dataset": "npz", "data_root": root} | settings
        return open_run("demo", overrides, tmp_path / "run", jobs=1)

    return run


def refusal(run, notebook="01"):
    with pytest.raises(UserError) as stop:
        run.complete(run.plan(notebook), silent)
    assert "\n" not in str(stop.value) and not run.root.exists()
    return str(stop.value)


def test_drawn_classes_without_a_test_image(opened):
    said = refusal(opened(test_labels=(3, 4, 3)))
    assert said.startswith(
        "Figures 1 and 2 draw 'n0', 'n1', 'n2', of which there is no image among"
    )
    assert "the 3 test images; raise test_size" in said
    assert said.endswith("or draw others: --set plane_classes=3,4 ('n3', 'n4')")


def test_drawn_classes_without_a_validation_image(opened):
    run = opened(classes=30, train=2, test_labels=range(30), val_size=2)
    present = sorted(set(run.dataset.labels["val"].tolist()))
    assert not {0, 1, 2} & set(present)
    said = refusal(run)
    assert "the 2 validation images; raise val_size, or draw others" in said
    assert f"plane_classes={','.join(map(str, present))} (" in said


def test_drawn_classes_without_a_training_image(opened):
    run = opened(train_size=2)
    left = set(run.dataset.labels["train"].tolist())
    drawn = sorted(set(range(5)) - left)[:2]
    run = opened(train_size=2, plane_classes=",".join(map(str, drawn)))
    said = refusal(run)
    assert "the 2 training images; raise train_size" in said


def test_only_what_draws_them_is_refused(opened):
    run = opened(test_labels=(3, 4, 3))
    run.check(run.plan("02"))
    with pytest.raises(UserError, match="Figures 1 and 2"):
        run.check(run.plan("01"))


@pytest.mark.parametrize("classes", ["0,7", "5,6", "4,5,6"])
def test_classes_that_were_asked_for_and_are_not_there(opened, classes):
    with pytest.raises(UserError, match=f"plane_classes={classes}: data has the classes 0 to 4"):
        opened(plane_classes=classes).plan("01")


def test_classes_that_only_the_profile_draws_are_left_out(opened):
    run = opened(classes=2, test_labels=(0, 1), plane_classes="0,1,4")
    assert run.profile.plane_classes == (0, 1, 4)  # the demo's
    assert run.plane_dataset.class_names == ("n0", "n1")


def test_a_batch_of_one_image_of_one_pixel(opened):
    """Three stages leave 2x2 pixels of 8x8, four of them one: batch norm has no variance there."""
    said = refusal(opened(batch_size=1, depth=10, stages=4), "02")
    assert said == (
        "standard-s0: its batch norm has no variance over a batch of one image of 8x8 pixels; "
        "raise batch_size"
    )
    run = opened(batch_size=1, depth=8, stages=3)
    run.check(run.plan("02"))


def test_images_too_small_for_the_tiles_of_square(opened):
    said = refusal(opened(side=4, scrutiny_norms="linf,l2"), "09")
    assert said == (
        "autoattack: Square under L2 needs images of 5x5 pixels or more, these have 4x4; choose "
        "--set autoattack_norms=linf, or larger images"
    )
    small = opened(side=4, autoattack_norms="linf", scrutiny_norms="linf,l2")
    assert refusal(small, "09").startswith("masking: Square under L2 needs images of 5x5")
    flat = {"scrutiny_norms": "linf", "autoattack_norms": "linf"}
    for run in (opened(side=4, **flat), opened(side=5)):
        run.check(run.plan("09"))


def test_a_validation_split_too_large_is_said_with_a_remedy(opened):
    with pytest.raises(
        UserError, match="val_size must lie between 1 and 19, not 300: there are 20"
    ):
        opened(val_size=300).plan("02")
    with pytest.raises(UserError, match="val_size 19 leaves no image of class 'n[0-4]'"):
        opened(val_size=19).plan("02")


def test_names_that_are_no_line_of_text(tmp_path):
    path = arrays(tmp_path / "data.npz", 2, 4, (0, 1))
    overrides = TINY | {"dataset": "npz", "data_root": path, "val_size": 2, "test_size": None}
    with pytest.raises(UserError, match=r"the title must be a line of text, not 'a\\nb'"):
        open_run("demo", overrides | {"data_title": "a\nb"}, tmp_path).plan("02")
    content = dict(np.load(path)) | {"class_names": ["one", "t\two"]}
    np.savez(path, **content)
    with pytest.raises(
        UserError, match=r"the name of a class must be a line of text, not 't\\two'"
    ):
        open_run("demo", overrides, tmp_path).plan("02")
