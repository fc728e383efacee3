"""Every picture of the companion. Functions take records, features or images, never a run.

Colours follow the defence through all figures. Each function returns a matplotlib Figure; ``save``
writes it as PNG and PDF.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from ldatlib.defences import TITLES
from ldatlib.evaluation.named_attacks import METHODS

# Colour-blind safe; the undefended network recedes, LDAT stands out.
_COLOURS = {
    "natural": "#999999",
    "standard": "#0173b2",
    "l2_at": "#029e73",
    "l2_at_wide": "#75c9a8",
    "trades": "#de8f05",
    "mart": "#cc78bc",
    "lbgat": "#ca9161",
    "ldat": "#d62728",
    "ldat_chosen": "#7f2704",
}
_NORM_TITLES = {"linf": r"$L_\infty$", "l2": r"$L_2$"}
_STYLE = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}


def style() -> None:
    """One look for all figures; called by the notebooks' first cell."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.8, rc=_STYLE)


def colour(defence: str):
    return _COLOURS[defence]


def save(figure: Figure, folder: Path, name: str) -> None:
    """``NAME.png`` and ``NAME.pdf``, free of dates so that the same figure gives the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Producer": None})


def _axes(rows: int, columns: int, width: float, height: float, **more):
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def toy_trajectories(
    weight: np.ndarray, bias: float, start: np.ndarray, paths: dict[str, np.ndarray], band: float
) -> Figure:
    """Fig. 3: the walk of each attack around the boundary ``w x + b = 0`` of a linear classifier.

    Above the plane, below the signed distance to the boundary over the steps. ``paths``: title ->
    points [K + 1, 2], beginning at ``start``; ``band``: half width of B.
    """
    length = np.linalg.norm(weight)
    figure, axes = _axes(2, len(paths), 3.4 * len(paths), 5.6, sharex="row", sharey="row")
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
    figure.suptitle("Boundary (solid), the band B around it (dashed, grey), x green, x + δ red")
    return figure


def feature_planes(planes: Sequence[dict], class_names: Sequence[str], arrows: int = 0) -> Figure:
    """Fig. 1 and 2: two-dimensional features, decision regions, natural and adversarial images.

    Each plane: ``title``, ``natural`` and ``adversarial`` [N, 2], ``y`` [N], ``classify`` (points
    [M, 2] -> classes [M]), and ``means`` [C, 2] or None. ``arrows`` draws that many of the moves
    from natural to adversarial.
    """
    palette = sns.color_palette("Set2", len(class_names))
    figure, axes = _axes(1, len(planes), 3.9 * len(planes), 3.9)
    for axis, plane in zip(axes[0], planes, strict=True):
        natural, adversarial, y = plane["natural"], plane["adversarial"], plane["y"]
        points = np.concatenate([natural, adversarial])
        if plane["means"] is not None:
            points = np.concatenate([points, plane["means"]])
        centre, half = (points.min(0) + points.max(0)) / 2, np.ptp(points, 0).max() * 0.55
        ticks = np.linspace(-half, half, 200)
        grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2) + centre
        regions = plane["classify"](grid).reshape(200, 200)
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
        for label, marker in zip(range(len(class_names)), "os^DvP*Xph", strict=False):
            own = y == label
            axis.plot(*natural[own].T, marker, color="tab:blue", ms=4, alpha=0.7, mew=0)
            axis.plot(*adversarial[own].T, marker, color="tab:red", ms=4, alpha=0.7, mew=0)
        if plane["means"] is not None:
            axis.plot(*plane["means"].T, "o", color="gold", mec="k", ms=9, zorder=4)
        axis.set(title=plane["title"], xticks=[], yticks=[])
    handles = [
        matplotlib.lines.Line2D([], [], marker="o", ls="", color=c, mec=e, label=t)
        for c, e, t in (
            ("tab:blue", "none", "natural"),
            ("tab:red", "none", "adversarial"),
            ("gold", "k", "centroid"),
        )
    ] + [
        matplotlib.lines.Line2D([], [], marker=m, ls="", color="0.4", label=f"class {name}")
        for m, name in zip("os^DvP*Xph", class_names, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def training_curves(logs: dict[str, list[dict]]) -> Figure:
    """Loss, validation accuracies, lambda, centroid distance, Algorithm 1's norm, over epochs.

    ``logs``: defence -> lines of its log.
    """
    panels = [
        ("loss", "training loss", "log"),
        ("val_clean_accuracy", "validation: clean accuracy", "linear"),
        ("val_robust_accuracy", r"validation: PGD $L_\infty$ accuracy", "linear"),
        ("perturbation_norm", r"mean $\|x' - x\|_2$ of training examples", "linear"),
        ("smallest_centroid_distance", "LDAT: smallest centroid distance", "linear"),
        ("lambda", r"LDAT: $\lambda_t$", "linear"),
    ]
    figure, axes = _axes(2, 3, 11, 5.8)
    for axis, (name, title, scale) in zip(axes.flat, panels, strict=True):
        for defence, log in logs.items():
            lines = [line for line in log if name in line]
            if not lines:
                continue
            epochs = [line["epoch"] for line in lines]
            values = [line[name] for line in lines]
            axis.plot(epochs, values, color=colour(defence), label=TITLES[defence])
            if name == "perturbation_norm" and defence == "ldat":
                raw = [line["attack_norm"] for line in lines]
                axis.plot(epochs, raw, ":", color=colour(defence))
                where = {"xy": (epochs[-1], raw[-1]), "xytext": (0, 6), "ha": "right"}
                text = "dotted: LDAT before projection"
                axis.annotate(text, **where, textcoords="offset points", fontsize=7)
        axis.set(title=title, xlabel="epoch", yscale=scale)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _curve(axis, xs: list[float], shares: list[dict], defence: str) -> None:
    values = [100 * share["value"] for share in shares]
    width = 2.5 if defence == "ldat" else 1.3
    axis.plot(xs, values, "-o", ms=3, lw=width, color=colour(defence), label=TITLES[defence])
    low, high = ([100 * share[end] for share in shares] for end in ("low", "high"))
    axis.fill_between(xs, low, high, color=colour(defence), alpha=0.08, lw=0)


def accuracy_by_eps(records: dict[str, dict]) -> Figure:
    """Fig. 4: robust accuracy against the budget of PGD, both norms. defence -> sweep record."""
    figure, axes = _axes(1, 2, 9, 3.8, sharey=True)
    for axis, norm in zip(axes[0], ("linf", "l2"), strict=True):
        for defence, record in records.items():
            points = [p for p in record["points"] if p["norm"] == norm]
            shares = [point["robust_accuracy"] for point in points]
            _curve(axis, [point["eps"] for point in points], shares, defence)
        title = f"PGD, {_NORM_TITLES[norm]}"
        axis.set(title=title, xlabel="budget (pixel units)", ylim=(-2, 102))
    axes[0][0].set_ylabel("robust accuracy (%), 95% interval")
    axes[0][1].legend()
    return figure


def accuracy_by_steps(records: dict[str, dict]) -> Figure:
    """Fig. 5: robust accuracy against iterations, PGD L-inf and C&W L2. defence -> record."""
    figure, axes = _axes(1, 2, 9, 3.8, sharey=True)
    for axis, (method, norm) in zip(axes[0], (("pgd", "linf"), ("cw", "l2")), strict=True):
        for defence, record in records.items():
            points = [p for p in record["points"] if p["method"] == method]
            shares = [point["robust_accuracy"] for point in points]
            _curve(axis, [point["steps"] for point in points], shares, defence)
        title = f"{METHODS[method].title}, {_NORM_TITLES[norm]}"
        axis.set(title=title, xlabel="iterations", ylim=(-2, 102))
    axes[0][0].set_ylabel("robust accuracy (%), 95% interval")
    axes[0][1].legend()
    return figure


def transfer_matrix(matrix) -> Figure:
    """Heat map of ``tables.transfer_matrix``: rows crafted on, columns shown to; percent."""
    figure, axes = _axes(1, 1, 1.0 + 0.85 * matrix.shape[1], 0.9 + 0.5 * matrix.shape[0])
    sns.heatmap(
        matrix,
        ax=axes[0][0],
        annot=True,
        fmt=".0f",
        cmap="viridis",
        vmin=0,
        vmax=100,
        cbar_kws={"label": "accuracy (%)"},
    )
    axes[0][0].set(xlabel="shown to", ylabel="PGD crafted on", title=r"Transfer, PGD $L_\infty$")
    axes[0][0].tick_params(axis="x", rotation=30)
    return figure


def replaced_attack(records: dict[str, dict]) -> Figure:
    """Fig. 6: LDAT with each training attack (name -> record): natural, PGD L-inf and L2."""
    panels = {"natural": "natural"} | {
        key: f"{METHODS[key.partition('_')[2]].title}, {_NORM_TITLES[key.partition('_')[0]]}"
        for key in next(iter(records.values()))["attacks"]
    }
    figure, axes = _axes(1, len(panels), 3.4 * len(panels), 3.2, sharey=True)
    colours = sns.color_palette("colorblind", len(records))
    for axis, (key, title) in zip(axes[0], panels.items(), strict=True):
        for index, record in enumerate(records.values()):
            share = (
                record["clean_accuracy"]
                if key == "natural"
                else record["attacks"][key]["robust_accuracy"]
            )
            value = 100 * share["value"]
            error = [[value - 100 * share["low"]], [100 * share["high"] - value]]
            axis.bar(index, value, yerr=error, color=colours[index], capsize=3)
            axis.annotate(f"{value:.0f}", (index, 2), ha="center", color="white", fontsize=8)
        axis.set_xticks(range(len(records)), list(records), rotation=30, ha="right")
        axis.set(title=title, ylim=(0, 102))
    axes[0][0].set_ylabel("accuracy (%), 95% interval")
    return figure


def tsne(clouds: dict, class_names: Sequence[str]) -> Figure:
    """Fig. 7: t-SNE of features, natural (dots) and adversarial (crosses) images by class.

    ``clouds``: title -> ``feature_space.Cloud`` of two dimensions. All panels have one scale.
    """
    figure, axes = _axes(1, len(clouds), 4.6 * len(clouds), 4.6, sharex=True, sharey=True)
    palette = sns.color_palette("tab10" if len(class_names) <= 10 else "husl", len(class_names))
    for axis, (title, cloud) in zip(axes[0], clouds.items(), strict=True):
        for label, name in enumerate(class_names):
            own = cloud.y == label
            dots = {"s": 9, "color": palette[label], "linewidths": 0.7}
            axis.scatter(*cloud.natural[own].T, marker="o", alpha=0.8, label=name, **dots)
            axis.scatter(*cloud.adversarial[own].T, marker="x", alpha=0.6, **dots)
        axis.set(title=title, xticks=[], yticks=[], aspect="equal")
    handles, labels = axes[0][0].get_legend_handles_labels()
    for marker, name in (("o", "natural"), ("x", "adversarial")):
        handles.append(matplotlib.lines.Line2D([], [], marker=marker, ls="", color="0.3"))
        labels.append(name)
    if len(labels) <= 24:
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    return figure


def gallery(
    rows: Sequence[tuple[str, Sequence[dict]]], class_names: Sequence[str], magnify: float
) -> Figure:
    """Original, magnified perturbation and adversarial image, per attack (rows) and defence.

    ``rows``: (attack title, cells); a cell has ``defence``, ``x`` and ``x_adv`` [C, H, W],
    ``label``, ``predicted`` (class numbers) and ``confidence`` (of the predicted class).
    """
    columns = len(rows[0][1])
    figure = Figure(figsize=(2.7 * columns, 0.98 * len(rows) + 0.4), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.01, hspace=0.0)
    axes = figure.subplots(len(rows), 3 * columns, squeeze=False)
    for index, cell in enumerate(rows[0][1]):
        axes[0][3 * index + 1].annotate(
            TITLES[cell["defence"]],
            (0.5, 1),
            xytext=(0, 16),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=9,
            weight="bold",
        )
    for row, (title, cells) in zip(axes, rows, strict=True):
        for index, cell in enumerate(cells):
            left, middle, right = row[3 * index : 3 * index + 3]
            _picture(left, cell["x"])
            _picture(middle, (cell["x_adv"] - cell["x"]) * magnify / 2 + 0.5)
            _picture(right, cell["x_adv"])
            fooled = cell["predicted"] != cell["label"]
            name = f"{class_names[cell['predicted']]} {cell['confidence']:.0%}"
            right.set_title(name, fontsize=7, color="tab:red" if fooled else "tab:green", pad=2)
            left.set_title(class_names[cell["label"]], fontsize=7, pad=2)
        row[0].set_ylabel(title, fontsize=6)
    return figure


def _picture(axis, image: Tensor) -> None:
    pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    cmap = "gray" if pixels.shape[2] == 1 else None
    axis.imshow(pixels.squeeze(), cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
