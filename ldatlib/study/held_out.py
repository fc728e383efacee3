"""Which digits a network has never seen: they come as one set, and every training divides it anew.

CIFAR, folders and archives have test images of their own. Of the digits, those that one profile
tests on another has validated on; whose split a checkpoint has, its header's fingerprint tells.
"""

from collections.abc import Iterator
from typing import Any

from ldatlib.data import load_dataset
from ldatlib.data.splits import SPLITS, Sizes
from ldatlib.errors import UserError
from ldatlib.study.profiles import PROFILES

_DATA = "digits"


def digits_split(model: Any) -> tuple[Sizes | None, str]:
    """How the digits were divided for the training of a model, and which are test images, in words.

    ``None`` for a model that is no checkpoint of ours, or of other data: the split of
    ``load_dataset("digits")``. The smallest test split is part of every larger one.
    """
    default = load_dataset(_DATA)
    header = getattr(model, "header", None)
    if not isinstance(header, dict) or header.get("dataset") != default.title:
        count = len(default.labels["test"])
        return None, (
            f'its test images are the {count} that load_dataset("{_DATA}") sets apart; whether the '
            "model has seen some of them in training is for you to know"
        )
    for sizes in _candidates(header):
        try:
            found = _divided(sizes)
        except UserError:
            continue  # what a file says of its images is anybody's
        if found.fingerprint == header.get("fingerprint"):
            return sizes, f"its test images are the {sizes.test} of the checkpoint's own training"
    demo = _of_profile("demo")
    return demo, (
        "the checkpoint does not say how it divided the digits: its test images are taken to be "
        f"the {demo.test} of the profile demo"
    )


def _divided(sizes: Sizes):
    return load_dataset(_DATA, val_size=sizes.val, train_size=sizes.train, test_size=sizes.test)


def _candidates(header: dict) -> Iterator[Sizes]:
    """By the header; one of before sizes were written there has those of a profile, or defaults."""
    said = header.get("images")
    if isinstance(said, dict) and set(said) == set(SPLITS):
        try:
            yield Sizes(**said)
        except UserError:
            pass
    for name, profile in PROFILES.items():
        if profile.dataset == _DATA:
            yield _of_profile(name)


def _of_profile(name: str) -> Sizes:
    profile = PROFILES[name]
    return Sizes(profile.val_size, profile.train_size, profile.test_size)
