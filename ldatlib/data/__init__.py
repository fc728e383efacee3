"""Images to train and evaluate on: ``load_dataset`` by name, ``Dataset.from_arrays`` your own."""

from ldatlib.data.cifar import CIFAR, outline
from ldatlib.data.dataset import Dataset, augment, to_float
from ldatlib.data.description import DESCRIPTION, describe
from ldatlib.data.load import DATASETS, load_dataset

__all__ = [
    "CIFAR",
    "DATASETS",
    "DESCRIPTION",
    "Dataset",
    "augment",
    "describe",
    "load_dataset",
    "outline",
    "to_float",
]
