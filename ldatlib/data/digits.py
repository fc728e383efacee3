"""Scikit-learn's 1,797 digits of 8x8, which come with that package."""

import numpy as np
import torch

from ldatlib.data.dataset import Dataset
from ldatlib.data.splits import Sizes, shuffled, stratified

TEST_SIZE = 400


def load_digits(sizes: Sizes) -> Dataset:
    """Test images are a share of every class, 400 unless said."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    # The images are integers from 0 to 16; 255 stands for 16.
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = shuffled(len(labels))
    images, labels = images[order], labels[order]
    test = stratified(labels, TEST_SIZE if sizes.test is None else sizes.test, "test_size")
    return Dataset.divided(
        "digits",
        "scikit-learn digits (8x8)",
        tuple(str(digit) for digit in range(10)),
        (images[~test], labels[~test]),
        (images[test], labels[test]),
        sizes,
        flip=False,
    )
