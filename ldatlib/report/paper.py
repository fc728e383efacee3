"""The paper's own tables, as they stand in ``paper_tables`` beside this module."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ldatlib.data import CIFAR, Dataset
from ldatlib.errors import UserError
from ldatlib.training.config import TrainConfig

FOLDER = Path(__file__).resolve().parent / "paper_tables"
TABLES = (1, 2, 3, 4, 5)
EPOCHS = {"PreAct ResNet-18": 250, "WRN-28-10": 300}
# Of CIFAR's 50,000; the rest may be kept for validation.
LEAST_TRAINING_IMAGES = 45_000
CIFAR10_CLASSES = frozenset(
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
)


@dataclass(frozen=True)
class Counterparts:
    """The tables of the paper that a run stands beside, and the data they were measured on."""

    white_box: int
    black_box: int
    data: str


def counterparts(num_classes: int) -> Counterparts:
    """Tables 2 and 5 for a hundred classes, as CIFAR-100 has; 1 and 4, on CIFAR-10, for others."""
    if num_classes == 100:
        return Counterparts(2, 5, "CIFAR-100")
    return Counterparts(1, 4, "CIFAR-10")


def is_papers_data(dataset: Dataset) -> bool:
    """Whether the images are CIFAR's, or a copy of them in a folder of CIFAR-10's ten classes."""
    return dataset.name in CIFAR or set(dataset.class_names) == CIFAR10_CLASSES


def is_papers_scale(config: TrainConfig, train_images: int) -> bool:
    """Whether network, epochs and number of images are at least those of the paper."""
    epochs = EPOCHS.get(config.network.title)
    return epochs is not None and config.epochs >= epochs and train_images >= LEAST_TRAINING_IMAGES


def table(number: int) -> pd.DataFrame:
    """Table 1 to 5 of the paper, accuracies in percent. Columns: ``paper_tables/README.md``."""
    if number not in TABLES:
        raise UserError(f"the paper has tables 1 to 5, no table {number}")
    path = FOLDER / f"table{number}.csv"
    if not path.is_file():
        raise UserError(f"{path} is missing; run from a checkout of the project")
    return pd.read_csv(path)
