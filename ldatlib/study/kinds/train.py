"""Training a network of the run."""

from ldatlib.study import keys
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.training.checkpoint import load_model
from ldatlib.training.config import Storage
from ldatlib.training.state import state_path
from ldatlib.training.trainer import train


class Train(Kind):
    """One training: weights, log, and where it ended on validation images."""

    name = "train"
    stage = 0

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
            "last": result.log[-1],
            "best": max(result.log, key=lambda line: line.get("val_robust_accuracy", -1.0)),
        }

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


TRAIN = Train()
