"""Attacked images, to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from torch import Tensor

from ldatlib.evaluation.robustness import from_bits
from ldatlib.models import Classifier
from ldatlib.report import glossary
from ldatlib.report.escape import class_labels
from ldatlib.report.figures.look import colour, finished, named, say
from ldatlib.report.words import column_title
from ldatlib.study.records import Whitebox

# A name of a class beyond which its confidence stands below it.
_LONG = 7


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
    rows: Sequence[tuple[str, Sequence[Cell]]],
    class_names: Sequence[str],
    magnify: float | None = None,
) -> Figure:
    """The original once; magnified perturbation and attacked image, by attack (rows) and defence.

    ``rows``: (attack title, cells), see ``gallery_rows``. A perturbation's colours diverge: red
    is brighter, blue darker (the mean over the channels), white unchanged. Without ``magnify`` the
    largest change of a row has the fullest colour.
    """
    columns, names = len(rows[0][1]), class_labels(class_names)
    layout = ConstrainedLayoutEngine(h_pad=0.03, hspace=0.0, w_pad=0.03, wspace=0.0)
    size = 2.1 * columns + 1.2, 1.06 * len(rows) + 0.7
    figure = Figure(figsize=size, layout=layout)
    # Room for the attacks' names, and above for the defences'.
    layout.set(rect=(0, 0, 1, 1 - 0.3 / size[1]))
    axes = figure.subplots(len(rows), 1 + 2 * columns, squeeze=False)
    for axis in axes[1:, 0]:
        axis.set_axis_off()
    first = rows[0][1][0]
    show(axes[0][0], first.x)
    axes[0][0].set_title(f"the image:\n{names[first.label]}", fontsize=8, pad=3)
    for number, cell in enumerate(rows[0][1]):
        _heading(figure, axes[0][1 + 2 * number], cell.defence)
    for row, (title, cells) in zip(axes, rows, strict=True):
        largest = max(float((c.x_adv - c.x).mean(0).abs().max()) for c in cells)
        factor = magnify or 1 / max(largest, 1e-12)
        for number, cell in enumerate(cells):
            middle, right = row[1 + 2 * number : 3 + 2 * number]
            if not torch.equal(first.x, cell.x):
                # Made by hand: of several images each row shows its own.
                show(row[0], cell.x)
            _change(middle, (cell.x_adv - cell.x) * factor)
            show(right, cell.x_adv)
            fooled = cell.predicted != cell.label
            sure = f"{names[cell.predicted]}, {cell.confidence:.0%} sure"
            if len(names[cell.predicted]) > _LONG:
                sure = f"{names[cell.predicted]},\n{cell.confidence:.0%} sure"
            right.set_title(sure, fontsize=7, color="tab:red" if fooled else "0.35", pad=2)
        row[1].set_ylabel(title.replace(" ", "\n", 1), fontsize=7, rotation=0, ha="right")
        row[1].yaxis.set_label_coords(-0.08, 0.4)
        row[1].yaxis.label.set_in_layout(False)
    shown = rows[0][1]
    titles = ", ".join(glossary.defence(cell.defence) for cell in shown)
    fell = [
        f"{glossary.defence(cell.defence)} {sum(c[k].predicted != c[k].label for _, c in rows)}"
        for k, cell in enumerate(shown)
    ]
    shows = f"A test image under each attack on {titles}: perturbation and attacked image. "
    shows += f"Of {len(rows)} attacks succeed: {', '.join(fell)}."
    if not all(cell.clean for cell in shown):
        wrong = "No saved image is right for all of these networks: those that have it wrong "
        figure.suptitle(f"{wrong}are not attacked", fontsize=8)
    return finished(figure, shows, class_names)


def _heading(figure: Figure, axis: Axes, defence: str) -> None:
    """The name of a defence above its two columns, the first of which is ``axis``.

    A part of the figure: in an axis a wide name would shrink the images, and what is left out of
    the layout is left out of the tight box, too, to which a notebook cuts its pictures.
    """
    heading = Annotation(
        named(defence),
        (1.05, 1),
        xytext=(0, 26),
        xycoords=axis.transAxes,
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=colour(defence),
    )
    figure.add_artist(heading)


def _change(axis: Axes, delta: Tensor) -> None:
    """A perturbation [C, H, W], already magnified, from blue (darker) over white to red."""
    mean = delta.detach().cpu().mean(0).numpy()
    axis.imshow(mean, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color="0.8")
    if not delta.any():
        say(axis, "nothing\nfound")


def show(axis: Axes, image: Tensor) -> None:
    """An image [C, H, W] in [0,1], without an axis; what is outside is cut."""
    pixels = image.detach().cpu().clamp(0, 1)
    # Other numbers of channels have no colours: their mean is shown.
    seen = pixels.permute(1, 2, 0) if len(pixels) == 3 else pixels.mean(0)
    axis.imshow(seen.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
