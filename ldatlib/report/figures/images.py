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
from ldatlib.report.escape import class_labels
from ldatlib.report.figures.look import finished, named
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
    clean: bool  # whether the network has the image right without an attack


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
        clean = records[name].clean_right[index] == "1"
        found = int(predicted), float(confidence)
        return Cell(name, images["x"][index], x_adv, label, *found, clean)

    keys = next(iter(records.values())).attacks
    return [(column_title(key), [cell(name, key) for name in models]) for key in keys]


def _telling_image(records: Sequence[Whitebox], kept: int) -> int:
    """Of the first ``kept`` that all have right, the one that fools about half of the pairs.

    Where there is none, of those that most have right.
    """
    right = torch.stack([from_bits(record.clean_right)[:kept] for record in records])
    clean = right.float().mean(0)
    columns = [column for record in records for column in record.attacks.values()]
    fooled = torch.stack([~from_bits(column.right)[:kept] for column in columns]).float().mean(0)
    return int((fooled - 0.5).abs().where(clean == clean.max(), torch.tensor(2.0)).argmin())


def gallery(
    rows: Sequence[tuple[str, Sequence[Cell]]], class_names: Sequence[str], magnify: float
) -> Figure:
    """Original, magnified perturbation and adversarial image, per attack (rows) and defence.

    ``rows``: (attack title, cells), see ``gallery_rows``.
    """
    columns, names = len(rows[0][1]), class_labels(class_names)
    layout = ConstrainedLayoutEngine(h_pad=0.01, hspace=0.0)
    figure = Figure(figsize=(2.7 * columns, 0.98 * len(rows) + 0.4), layout=layout)
    axes = figure.subplots(len(rows), 3 * columns, squeeze=False)
    for index, cell in enumerate(rows[0][1]):
        axes[0][3 * index + 1].annotate(
            named(cell.defence),
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
            show(left, cell.x)
            show(middle, (cell.x_adv - cell.x) * magnify / 2 + 0.5)
            show(right, cell.x_adv)
            fooled = cell.predicted != cell.label
            name = f"{names[cell.predicted]} {cell.confidence:.0%}"
            right.set_title(name, fontsize=7, color="tab:red" if fooled else "tab:green", pad=2)
            left.set_title(names[cell.label], fontsize=7, pad=2)
        row[0].set_ylabel(title, fontsize=6)
    shown = rows[0][1]
    titles = ", ".join(glossary.defence(cell.defence) for cell in shown)
    shows = f"A test image under each attack on {titles}: original, perturbation, attacked."
    if not all(cell.clean for cell in shown):
        wrong = "No saved image is right for all of these networks: those that have it wrong "
        figure.suptitle(f"{wrong}are not attacked", fontsize=8)
    return finished(figure, shows, class_names)


def show(axis: Axes, image: Tensor) -> None:
    """An image [C, H, W] in [0,1], without an axis; what is outside is cut."""
    pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    cmap = "gray" if pixels.shape[2] == 1 else None
    axis.imshow(pixels.squeeze(), cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
