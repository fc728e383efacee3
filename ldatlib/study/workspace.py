"""Where a run keeps its files, and what of them belongs to its trainings.

A run lives in one folder, and this module names what lies there:

    checkpoints/*.safetensors   last and best weights of every training
    records/*.json, *.jsonl     one record a training and evaluation, one log a training
    adversarial/*.safetensors   images that the attacks found, for pictures and re-scoring
    partial/*.safetensors       attacks of evaluations that were interrupted
    cache/*.safetensors, *.json pixels of a large folder of pictures, and what is known of them
    plugins/*.py                the plug-ins that it was computed with
    figures/  tables/  notebooks/  report.html

What is computed on a workspace stands in ``kinds``; in which order, in ``schedule``.
"""

import functools
import time
from pathlib import Path

import torch
from torch import Tensor

from ldatlib.data import CIFAR, Dataset, load_dataset, outline
from ldatlib.errors import MissingDataError, UserError
from ldatlib.evaluation.partial import Partial
from ldatlib.execution import default_device, place
from ldatlib.files import log_checksum, path_of, read_json, read_json_lines
from ldatlib.models import Classifier
from ldatlib.study import keys, plugins
from ldatlib.study.profiles import PROFILES
from ldatlib.study.settings import Profile
from ldatlib.study.trainings import Training, Trainings
from ldatlib.training.checkpoint import load_model


class Workspace(Trainings):
    """A profile and its folder: data, trainings, their keys, weights and logs.

    Parameters
    ----------
    root : the folder of the run; made when something is written.
    deadline : in seconds of ``time.time()``; what computes stops in good order then.
    processes : those that a single evaluation may be shared among, on a CPU.
    """

    def __init__(
        self, profile: Profile, root: Path, deadline: float | None = None, processes: int = 1
    ):
        self.profile, self.root = profile, path_of(root)
        self.deadline, self.processes = deadline, processes
        # Records that are to be made anew (``jobs.forget``), also where a worker keeps a copy.
        self.forgotten: set[Path] = set()

    def __getstate__(self) -> dict:
        # Workers load the data themselves: cheaper than sending it, and cached there. Plug-ins
        # travel as they were loaded here, whatever their files hold by then.
        kept = ("profile", "root", "deadline", "processes")
        sources = [(plugin.path, plugin.source) for plugin in plugins.loaded(self.profile.plugins)]
        return {"plugins": sources} | {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict) -> None:
        for path, source in state.pop("plugins"):
            plugins.load_source(path, source)
        vars(self).update(state, forgotten=set())

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline

    # --- data -------------------------------------------------------------------------------

    @functools.cached_property
    def dataset(self) -> Dataset:
        return self._load()

    def _load(self, download: bool = True) -> Dataset:
        p = self.profile
        return load_dataset(
            p.dataset,
            root=p.data_root,
            image_size=p.image_size,
            val_size=p.val_size,
            train_size=p.train_size,
            test_size=p.test_size,
            title=p.data_title,
            flip=p.flip,
            cache=self.root / "cache",
            download=download,
        )

    def plan_without_data(self) -> bool:
        """Stand-in images where CIFAR is not at hand, for planning alone; whether they stand in."""
        p = self.profile
        if p.dataset in CIFAR:
            try:
                self.dataset = self._load(download=False)
            except MissingDataError:
                stand_in = outline(p.dataset, p.val_size, p.train_size, p.test_size)
                self.dataset = stand_in.with_flip(p.flip)
                return True
        return False

    @functools.cached_property
    def plane_dataset(self) -> Dataset:
        """The images of Figures 1 and 2: those of the classes ``plane_classes``.

        A folder may have fewer classes than the profile draws by itself. Raises ``UserError`` where
        others were asked for, or fewer than two are left.
        """
        p, data = self.profile, self.dataset
        known = [c for c in p.plane_classes if c < data.num_classes]
        own = PROFILES.get(p.name)
        asked = own is None or p.plane_classes != own.plane_classes
        if len(known) < 2 or (asked and len(known) < len(p.plane_classes)):
            raise UserError(
                f"plane_classes={','.join(map(str, p.plane_classes))}: {data.title} has the "
                f"classes 0 to {data.num_classes - 1}; choose two or more of them, such as "
                "--set plane_classes=0,1"
            )
        return data.subset(known, p.plane_images)

    def view(self, training: Training) -> Dataset:
        """The images that this training sees."""
        return self.plane_dataset if training.view == "plane" else self.dataset

    def test_images(self, limit: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The first test images and their labels, the same ones for everybody."""
        x, y = self.dataset.split("test", limit)
        return x.to(device), y.to(device)

    # --- trainings --------------------------------------------------------------------------

    def training_key(self, training: Training) -> str:
        """What the weights of a training are found by (``keys``)."""
        return keys.digest(
            {
                "kind": "train",
                "numerics": keys.NUMERICS["train"],
                "fingerprint": self.view(training).fingerprint,
                "config": training.config,
                "plugin": plugins.source_of(training.config),
            }
        )

    def file(self, folder: str, *parts: str, suffix: str = ".json") -> Path:
        """A file of the run by what it is and the key it is found by."""
        return self.root / folder / f"{'-'.join(parts)}{suffix}"

    def checkpoint_path(self, training: Training, which: str = "last") -> Path:
        """``which``: ``"last"``, the primary one, or ``"best"`` on validation images."""
        suffix = {"last": ".safetensors", "best": ".best.safetensors"}[which]
        return self.file("checkpoints", training.label, self.training_key(training), suffix=suffix)

    def log_path(self, training: Training) -> Path:
        key = self.training_key(training)
        return self.file("records", "train", training.label, key, suffix=".jsonl")

    def log(self, training: Training) -> list[dict]:
        """A training's log: one dictionary an epoch.

        Raises ``UserError`` where it is cut, or is not the one that the training's record tells of.
        """
        path = self.log_path(training)
        lines, record = read_json_lines(path), path.with_suffix(".json")
        expected = read_json(record).get("log") if record.is_file() else None
        if expected is not None and log_checksum(lines) != expected:
            raise UserError(
                f"the log {path} is not the one that {record.name} tells of; delete both, and it "
                "is trained again"
            )
        return lines

    def model(self, training: Training, which: str = "last") -> Classifier:
        """A trained model of this run on the default device, in eval mode."""
        return place(load_model(self.checkpoint_path(training, which)), default_device())

    def partial(self, record: Path) -> Partial:
        """Where the evaluation that ends in this record keeps what it has done so far."""
        return Partial(self.root / "partial", record.stem, self.deadline)
