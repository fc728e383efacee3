"""The record of a training."""

from typing import Annotated, Any

from ldatlib.study.records.common import Count, NonNegative, Record, about

# A line of the training's log: numbers by name, which ones depends on the defence.
LogLine = dict[str, int | float]


class Train(Record, frozen=True, kw_only=True):
    """A training: what it cost, and where it ended. Its log, a line an epoch, lies beside it."""

    images_per_second: Annotated[NonNegative, about("training images, over all epochs")]
    execution: Annotated[
        dict[str, Any], about("how it ran: precision, compiled, memory layout, storage of weights")
    ]
    parameters: Annotated[Count, about("trainable numbers of the network")]
    checkpoints: Annotated[dict[str, str], about("`last` and `best`: names of the weights' files")]
    batch_norm: Annotated[str, about("mode of batch normalisation in attack and loss, in words")]
    val_images: Annotated[Count, about("validation images that an epoch was judged on")]
    log: Annotated[
        str | None,
        about("SHA-256 of the log's lines but for their seconds; null: before this was recorded"),
    ] = None
    last: Annotated[
        LogLine, about("last line of the log: `epoch`, `loss`, `val_clean_accuracy` in [0,1], ...")
    ]
    best: Annotated[LogLine, about("the line with the highest `val_robust_accuracy`")]
