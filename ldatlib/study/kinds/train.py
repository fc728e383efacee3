"""Training a network of the run."""

import torch

from ldatlib.data.splits import SPLITS
from ldatlib.files import log_checksum
from ldatlib.models import build_network
from ldatlib.study import keys
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.study.trainings import Training
from ldatlib.study.workspace import Workspace
from ldatlib.training.checkpoint import load_model
from ldatlib.training.config import Storage
from ldatlib.training.state import state_path
from ldatlib.training.trainer import train


class Train(Kind):
    """One training: weights, log, and where it ended on validation images."""

    name = "train"

    def compute(self, ws, training, device):
        p, data = ws.profile, ws.view(training)
        result = train(
            training.config,
            data,
            ws.checkpoint_path(training),
            log_path=ws.log_path(training),
            device=device,
            on_epoch=lambda line: None,
            compile=p.compile,
            storage=Storage(p.storage == "half", p.shard_mib and p.shard_mib * 2**20),
            deadline=ws.deadline,
            # Until the record is there: a training killed just before would begin anew.
            keep_state=True,
        )
        images = len(data.labels["train"]) * training.config.epochs
        return {
            "seconds": round(result.seconds, 2),
            "images_per_second": round(images / result.seconds, 1),
            "execution": result.execution,
            "parameters": sum(p.numel() for p in load_model(result.last).parameters()),
            "checkpoints": {"last": result.last.name, "best": result.best.name},
            "batch_norm": "eval in the attack; train in the loss, natural and adversarial apart",
            "val_images": min(training.config.val_limit, len(data.labels["val"])),
            "log": log_checksum(result.log),
            "last": result.log[-1],
            "best": max(result.log, key=lambda line: line.get("val_robust_accuracy", -1.0)),
        }

    def obstacle(self, ws, training):
        if training.view == "plane" and (reason := _empty_plane(ws)):
            return reason
        images, batch = len(ws.view(training).labels["train"]), training.config.batch_size
        if min(images, batch) == 1 and not _takes_one_image(ws, training):
            remedy = "batch_size" if batch == 1 else "train_size or plane_images"
            return (
                f"{training.label}: its batch norm has no variance over a batch of one image of "
                f"{_side(ws)}x{_side(ws)} pixels; raise {remedy}"
            )
        return None

    def line(self, record, training):
        last = record.last
        return (
            f"trained {training.label}: {last['epoch']} epochs in {record.seconds:.0f} s, "
            f"validation clean {last['val_clean_accuracy']:.1%}, "
            f"PGD {last['val_robust_accuracy']:.1%}"
        )

    def settings(self, ws, training):
        return {}

    def operations(self, ws, training):
        return operations.of_training(ws, training)

    def products(self, ws, training):
        return ws.checkpoint_path(training), ws.log_path(training)

    def states(self, ws, training):
        return (state_path(ws.checkpoint_path(training)),)

    def needs(self, ws, training):
        return []

    @property
    def numerics(self):
        return {"train": keys.NUMERICS["train"]}

    def key(self, ws, training):
        return ws.training_key(training)


def _empty_plane(ws: Workspace) -> str | None:
    """A split without an image of the few classes that are drawn, and what can be done."""
    drawn, whole = ws.plane_dataset, ws.dataset
    empty = next((split for split in SPLITS if not len(drawn.labels[split])), None)
    if empty is None:
        return None
    present = [set(whole.labels[split].tolist()) for split in SPLITS]
    everywhere = sorted(set.intersection(*present))[:3]
    remedy = f"raise {empty}_size"
    if len(everywhere) > 1:
        classes = ",".join(map(str, everywhere))
        names = ", ".join(repr(whole.class_names[label]) for label in everywhere)
        remedy += f", or draw others: --set plane_classes={classes} ({names})"
    kind = {"train": "training", "val": "validation", "test": "test"}[empty]
    return (
        f"Figures 1 and 2 draw {', '.join(map(repr, drawn.class_names))}, of which there is no "
        f"image among the {len(whole.labels[empty])} {kind} images; {remedy}"
    )


def _side(ws: Workspace) -> int:
    return ws.dataset.images["train"].shape[-1]


def _takes_one_image(ws: Workspace, training: Training) -> bool:
    """Whether the network trains on a batch of one: batch norm needs several values a channel."""
    network = training.config.network
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            model = build_network(network).train()
            model(torch.zeros(1, network.in_channels, _side(ws), _side(ws)))
        except ValueError:
            return False
    return True


TRAIN = Train()
