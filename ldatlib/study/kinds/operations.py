"""What the kinds cost, in floating point operations: two a multiply-add."""

import functools
from collections.abc import Iterable

from ldatlib.evaluation.cost import forward_equivalents
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.models import NetworkConfig, build_network
from ldatlib.study.trainings import Training
from ldatlib.study.workspace import Workspace


@functools.lru_cache
def forward_operations(network: NetworkConfig, side: int) -> float:
    """One forward pass of one image of ``side`` x ``side`` pixels."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    model = build_network(network).eval()
    with counter, torch.no_grad():
        model(torch.zeros(1, network.in_channels, side, side))
    return float(counter.get_total_flops())


def forward_of(ws: Workspace, training: Training) -> float:
    """One forward pass of one image of the run by this training's network."""
    return forward_operations(training.config.network, ws.dataset.images["train"].shape[-1])


def of_training(ws: Workspace, training: Training) -> float:
    """An input-gradient pass costs as much as a forward one; a training pass three of them."""
    config, data = training.config, ws.view(training)
    per_image = config.defence.adversary.passes + config.defence.passes
    train_images = len(data.labels["train"]) * config.epochs
    val_images = min(config.val_limit, len(data.labels["val"])) * config.epochs / config.val_every
    total = train_images * per_image + val_images * (2 * config.val_steps + 2)
    return total * forward_operations(config.network, data.images["train"].shape[-1])


def of_attacks(ws: Workspace, training: Training, attacks: Iterable[Attack], images: int) -> float:
    """Every image attacked to the last iteration."""
    images = min(images, len(ws.dataset.labels["test"]))
    passes = sum(forward_equivalents(attack, ws.dataset.num_classes) for attack in attacks)
    return images * passes * forward_of(ws, training)
