"""Which digits a checkpoint has never seen: no image of its training or validation is examined."""

import pytest
from torch import nn

from ldatlib import load_dataset
from ldatlib.data.images import load_images
from ldatlib.study.held_out import digits_split

DEMO = {"val_size": 300, "test_size": 300}


def checkpoint(sizes, **header):
    """A network with the header of a training on digits that were divided so."""
    data = load_dataset("digits", **sizes)
    model = nn.Identity()
    model.header = {"dataset": data.title, "fingerprint": data.fingerprint, **header}
    return model, data


def images(data):
    return {split: len(labels) for split, labels in data.labels.items()}


def pixels(tensor):
    return {bytes(image) for image in tensor.flatten(1).numpy()}


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (DEMO, None),
        (DEMO, "whole"),
        ({"val_size": 120, "test_size": 90, "train_size": 50}, "whole"),
    ],
)
def test_the_test_images_are_those_of_its_own_training(sizes, said):
    """Those of the header; before sizes stood there, of the profile with that fingerprint."""
    model, data = checkpoint(sizes)
    if said:
        model.header["images"] = images(data)
    found, words = digits_split(model)
    assert f"the {sizes['test_size']} of the checkpoint's own training" in words
    examined = load_images("digits", limit=1000, sizes=found)
    x, y = data.split("test")
    assert examined.x.equal(x) and examined.y.equal(y)


def test_the_default_split_of_digits_holds_images_that_the_demo_validates_on():
    """Why a checkpoint's own split is looked for."""
    tested = pixels(load_dataset("digits").images["test"])
    demo = load_dataset("digits", **DEMO).images
    assert len(tested & pixels(demo["val"])) > 90 and pixels(demo["test"]) < tested


@pytest.mark.parametrize("said", [None, {"val": 3}, {"train": "x", "val": [], "test": -1}])
def test_a_checkpoint_that_does_not_say_is_examined_on_the_demos(said):
    model, _ = checkpoint({"val_size": 120, "test_size": 90})
    model.header["images"] = said
    found, words = digits_split(model)
    assert (found.val, found.test) == (300, 300) and "does not say" in words


def test_of_any_other_model_it_is_said_what_is_test():
    other, _ = checkpoint(DEMO)
    other.header["dataset"] = "CIFAR-10"
    for model in (nn.Identity(), lambda x: x, other):
        assert digits_split(model) == (None, digits_split(None)[1])
    assert "the 400 that load_dataset" in digits_split(None)[1]
