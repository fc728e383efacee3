"""Attacked images, to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from ldatlib.evaluation.robustness import from_bits
from ldatlib.models import Classifier
from ldatlib.report import glossary
from ldatlib.report.words import column_title
from ldatlib.study.records import Whitebox


@dataclass(frozen=True)
class Cell:
    """One image under one attack on one network."""

    defence: str
    x: Tensor  # [C, H, W]
    x_adv: Tensor  # [C, H, W]
    label: int
    predicted: int
    confidence: float  # of the predicted class


def gallery_rows(
    records: Mapping[str, Whitebox],
    models: Mapping[str, Classifier],
    saved: Mapping[str, Mapping[str, Tensor]],
) -> list[tuple[str, list[Cell]]]:
    """One image under every attack, a cell a network; all by defence.

    ``saved``: images by attack, as ``Run.adversarial`` gives them.
    """
    kept = min(len(images["y"]) for images in saved.values())
    index = _telling_image(list(records.values()), kept)

    def cell(name: str, key: str) -> Cell:
        images, model = saved[name], models[name]
        x_adv = images[key][index]
        device = next(model.parameters()).device
        with torch.no_grad():
            confidence, predicted = model(x_adv[None].to(device)).softmax(1).max(1)
        label = int(images["y"][index])
        return Cell(name, images["x"][index], x_adv, label, int(predicted), float(confidence))

    keys = next(iter(records.values())).attacks
    return [(column_title(key), [cell(name, key) for name in models]) for key in keys]


def _telling_image(records: Sequence[Whitebox], kept: int) -> int:
    """Of the first ``kept`` that all have right, the one that fools about half of the pairs."""
    clean = torch.stack([from_bits(record.clean_right)[:kept] for record in records]).all(0)
    columns = [column for record in records for column in record.attacks.values()]
    fooled = torch.stack([~from_bits(column.right)[:kept] for column in columns]).float().mean(0)
    return int((fooled - 0.5).abs().where(clean, torch.tensor(2.0)).argmin())


def gallery(
    rows: Sequence[tuple[str, Sequence[Cell]]], class_names: Sequence[str], magnify: float
) -> Figure:
    """Original, magnified perturbation and adversarial image, per attack (rows) and defence.

    ``rows``: (attack title, cells), see ``gallery_rows``.
    """
    columns = len(rows[0][1])
    layout = ConstrainedLayoutEngine(h_pad=0.01, hspace=0.0)
    figure = Figure(figsize=(2.7 * columns, 0.98 * len(rows) + 0.4), layout=layout)
    axes = figure.subplots(len(rows), 3 * columns, squeeze=False)
    for index, cell in enumerate(rows[0][1]):
        axes[0][3 * index + 1].annotate(
            glossary.defence(cell.defence),
            (0.5, 1),
            xytext=(0, 16),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            # A wider name would shrink the images.
            fontsize=8,
        )
    for row, (title, cells) in zip(axes, rows, strict=True):
        for index, cell in enumerate(cells):
            left, middle, right = row[3 * index : 3 * index + 3]
            _picture(left, cell.x)
            _picture(middle, (cell.x_adv - cell.x) * magnify / 2 + 0.5)
            _picture(right, cell.x_adv)
            fooled = cell.predicted != cell.label
            name = f"{class_names[cell.predicted]} {cell.confidence:.0%}"
            right.set_title(name, fontsize=7, color="tab:red" if fooled else "tab:green", pad=2)
            left.set_title(class_names[cell.label], fontsize=7, pad=2)
        row[0].set_ylabel(title, fontsize=6)
    return figure


def _picture(axis: Axes, image: Tensor) -> None:
    pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    cmap = "gray" if pixels.shape[2] == 1 else None
    axis.imshow(pixels.squeeze(), cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
