"""Fig. 1 to 3: attacks on a linear classifier, and features of two dimensions."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ldatlib.gmm import GaussianMixtureHead
from ldatlib.models import Classifier
from ldatlib.report.escape import class_labels, in_figure
from ldatlib.report.figures.look import finished, panels

_MARKERS = "os^DvP*Xph"


@dataclass(frozen=True)
class Plane:
    """What Fig. 1 and 2 draw of one network whose features have two dimensions."""

    title: str
    natural: np.ndarray  # [N, 2]
    adversarial: np.ndarray  # [N, 2]
    y: np.ndarray  # [N]
    classify: Callable[[np.ndarray], np.ndarray]  # points [M, 2] -> classes [M]
    means: np.ndarray | None  # [C, 2], of a Gaussian-mixture head

    @property
    def moved(self) -> np.ndarray | None:
        """Moves from natural to adversarial [N], in units of the distance of class means.

        None where that is no unit: images of one class, or means in one point.
        """
        moved = np.linalg.norm(self.adversarial - self.natural, axis=1)
        centres = [self.natural[self.y == label].mean(0) for label in np.unique(self.y)]
        apart = [np.linalg.norm(a - b) for i, a in enumerate(centres) for b in centres[:i]]
        return moved / np.mean(apart) if any(apart) else None


def plane_of(title: str, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> Plane:
    """Features of images [N, ...] before and after an attack, all on the model's device."""
    with torch.no_grad():
        natural, adversarial = model.features(x), model.features(x_adv)
        right = [(model.head(f).argmax(1) == y).float().mean() for f in (natural, adversarial)]

    @torch.no_grad()
    def classify(points: np.ndarray) -> np.ndarray:
        return model.head(torch.tensor(points).to(natural)).argmax(1).cpu().numpy()

    return Plane(
        f"{title}: natural {right[0]:.0%}, PGD {right[1]:.0%}",
        natural.cpu().numpy(),
        adversarial.cpu().numpy(),
        y.cpu().numpy(),
        classify,
        model.head.means.detach().cpu().numpy()
        if isinstance(model.head, GaussianMixtureHead)
        else None,
    )


def toy_trajectories(
    weight: np.ndarray, bias: float, start: np.ndarray, paths: dict[str, np.ndarray], band: float
) -> Figure:
    """Fig. 3: the walk of each attack around the boundary ``w x + b = 0`` of a linear classifier.

    Above the plane, below the signed distance to the boundary over the steps. ``paths``: title ->
    points [K + 1, 2], beginning at ``start``; ``band``: half width of B.
    """
    length = np.linalg.norm(weight)
    figure, axes = panels(2, len(paths), 3.4 * len(paths), 5.6, sharex="row", sharey="row")
    points = np.concatenate([*paths.values(), start[None]])
    low, high = points.min(0) - 0.5, points.max(0) + 0.5
    along = np.array([-weight[1], weight[0]]) / length
    foot = start - (weight @ start + bias) / length**2 * weight
    line = foot + np.outer([-10, 10], along)
    shift = band * weight / length
    for (plane, steps), (title, path) in zip(axes.T, paths.items(), strict=True):
        plane.plot(*line.T, color="0.2", lw=1.5)
        for side in (shift, -shift):
            plane.plot(*(line + side).T, color="0.5", lw=1, ls="--")
        plane.plot(*path.T, "-o", color="tab:red", ms=4, lw=1, alpha=0.7)
        plane.plot(*start, "o", color="tab:green", ms=8)
        plane.set(title=title, xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        plane.set_xlabel("$x_1$")
        steps.axhspan(-band, band, color="0.9")
        steps.axhline(0, color="0.2", lw=1.5)
        signed = (path @ weight + bias) / length
        steps.plot(signed, "-o", color="tab:red", ms=4, lw=1)
        steps.plot(0, signed[0], "o", color="tab:green", ms=8)
        steps.set_xlabel("step")
    axes[0][0].set_ylabel("$x_2$")
    axes[1][0].set_ylabel("signed distance to the boundary")
    shown = "Boundary (solid), the band B around it (dashed, grey), x green, x + δ red"
    figure.suptitle(shown)
    shows = f"Walks of {', '.join(paths)} in the plane, and the distance to the boundary by step. "
    return finished(figure, f"{shows}{shown}.")


def feature_planes(planes: Sequence[Plane], class_names: Sequence[str], arrows: int = 0) -> Figure:
    """Fig. 1 and 2: two-dimensional features, decision regions, natural and adversarial images.

    ``arrows`` draws that many of the moves from natural to adversarial.
    """
    names, kinds = class_labels(class_names), ", ".join(plane.title for plane in planes)
    palette = sns.color_palette("Set2", len(names))
    figure, axes = panels(1, len(planes), 3.9 * len(planes), 3.9)
    for axis, plane in zip(axes[0], planes, strict=True):
        natural, adversarial, y = plane.natural, plane.adversarial, plane.y
        points = np.concatenate([natural, adversarial])
        if plane.means is not None:
            points = np.concatenate([points, plane.means])
        centre, half = (points.min(0) + points.max(0)) / 2, np.ptp(points, 0).max() * 0.55
        ticks = np.linspace(-half, half, 200)
        grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2) + centre
        regions = plane.classify(grid).reshape(200, 200)
        cmap = matplotlib.colors.ListedColormap(palette)
        extent = (*(centre[0] + half * np.array([-1, 1])), *(centre[1] + half * np.array([-1, 1])))
        axis.imshow(
            regions,
            extent=extent,
            origin="lower",
            cmap=cmap,
            vmin=0,
            vmax=len(class_names) - 1,
            alpha=0.35,
            interpolation="nearest",
        )
        for start, end in zip(natural[:arrows], adversarial[:arrows], strict=True):
            axis.plot(*np.stack([start, end]).T, color="0.4", lw=0.4, alpha=0.5, zorder=1)
        for label, marker in zip(range(len(names)), itertools.cycle(_MARKERS)):
            own = y == label
            axis.plot(*natural[own].T, marker, color="tab:blue", ms=4, alpha=0.7, mew=0)
            axis.plot(*adversarial[own].T, marker, color="tab:red", ms=4, alpha=0.7, mew=0)
        if plane.means is not None:
            axis.plot(*plane.means.T, "o", color="gold", mec="k", ms=9, zorder=4)
        axis.set(title=in_figure(plane.title), xticks=[], yticks=[], xlabel="feature 1")
    axes[0][0].set_ylabel("feature 2")
    handles = [
        matplotlib.lines.Line2D([], [], marker="o", ls="", color=c, mec=e, label=t)
        for c, e, t in (
            ("tab:blue", "none", "natural"),
            ("tab:red", "none", "adversarial"),
            ("gold", "k", "centroid"),
        )
    ] + [
        matplotlib.lines.Line2D([], [], marker=m, ls="", color="0.4", label=f"class {name}")
        for m, name in zip(itertools.cycle(_MARKERS), names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 9))
    joined = ", a line from each natural to its adversarial one" if arrows else ""
    shows = f"Features of two dimensions, natural blue and adversarial red{joined}"
    return finished(figure, f"{shows}, over decision regions: {kinds}.", class_names)
