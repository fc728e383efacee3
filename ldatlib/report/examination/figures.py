"""Pictures of an examination: what is left over the budget, the detector, attacked images."""

from matplotlib.figure import Figure
from torch import Tensor

from ldatlib.report.escape import class_labels
from ldatlib.report.examination import frames
from ldatlib.report.figures.images import show
from ldatlib.report.figures.look import finished, panels, say
from ldatlib.report.words import NORMS, NORMS_IN_FIGURES
from ldatlib.study.records.examination import Examination

_COLOURS = {"linf": "#0173b2", "l2": "#de8f05"}
_SHOWN = 8


def curve(record: Examination) -> Figure:
    """What PGD leaves on ever larger balls, and at the budget what all attacks leave."""
    found = frames.curve(record)
    figure, axes = panels(1, len(record.norms), 4.2 * len(record.norms), 3.0, sharey=True)
    for axis, (name, norm) in zip(axes[0], record.norms.items(), strict=True):
        points = found[found.norm == name] if len(found) else found
        if len(points):
            low, high = points.robust_accuracy_low, points.robust_accuracy_high
            look = {"color": _COLOURS[name]}
            axis.plot(points.eps, points.robust_accuracy, "-o", ms=3, label="PGD", **look)
            axis.fill_between(points.eps, low, high, alpha=0.15, **look)
            axis.set_xscale("log")
            # Doubled from one to the next: ticks of their own would stand on each other.
            axis.set_xticks(list(points.eps), [f"{eps:.3g}" for eps in points.eps], fontsize=7)
            axis.minorticks_off()
        else:
            say(axis, "the tests for masking were not run")
        share = norm.robust_accuracy
        ends = [[100 * (share.value - share.low)], [100 * (share.high - share.value)]]
        place = {"color": "k", "ms": 5, "capsize": 3, "label": "all attacks"}
        axis.errorbar([norm.eps], [100 * share.value], yerr=ends, fmt="s", **place)
        axis.set(ylim=(-2, 102), xlabel=f"eps, {NORMS_IN_FIGURES[name]}, in pixel units")
        axis.legend(fontsize=8)
    axes[0][0].set_ylabel("right (%)")
    shows = "Images right under PGD over the budget (band: 95%), and under all attacks at the "
    return finished(figure, f"{shows}budget that was examined.")


def detector(record: Examination) -> Figure:
    """Robust with rejection, and error among the accepted, over clean acceptance."""
    found = frames.detector(record)
    figure, axes = panels(1, 2, 8.4, 3.0, sharey=True)
    for axis, (column, title) in zip(
        axes[0],
        {"robust_0": "robust with rejection", "error": "error among accepted"}.items(),
        strict=True,
    ):
        for name, points in found.groupby("norm", sort=False) if len(found) else []:
            points = points.sort_values("clean_acceptance")
            look = {"color": _COLOURS[str(name)]}
            if column in points:
                label = NORMS_IN_FIGURES[str(name)]
                axis.plot(points.clean_acceptance, points[column], label=label, **look)
                low, high = points[f"{column}_low"], points[f"{column}_high"]
                axis.fill_between(points.clean_acceptance, low, high, alpha=0.15, **look)
        if not axis.lines:
            say(axis, "no score was given")
        axis.set(ylim=(-2, 102), title=title, xlabel="clean images accepted (%)")
    axes[0][0].set_ylabel("images (%)")
    if axes[0][0].lines:
        axes[0][0].legend(fontsize=8)
    shows = "The detector under an attack that knows it, over the share of clean images accepted "
    return finished(figure, f"{shows}(bands: 95%).")


def gallery(record: Examination, x: Tensor, y: Tensor, x_adv: dict[str, Tensor]) -> Figure:
    """Images that fell in each norm: as they were, the perturbation magnified, as they were found.

    ``x`` and ``x_adv`` [N, C, H, W], ``y`` [N].
    """
    # An archive may name fewer classes than the model tells apart.
    names = [*record.class_names, *map(str, range(len(record.class_names), record.num_classes))]
    labels, norms = class_labels(names), list(record.norms)
    figure = Figure(figsize=(1.1 * _SHOWN, 3.6 * len(norms)), layout="constrained")
    axes = figure.subplots(3 * len(norms), _SHOWN, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, norm in enumerate(norms):
        delta = (x_adv[norm] - x).flatten(1)
        moved = (delta != 0).any(1).nonzero().squeeze(1)
        scale = 0.5 / max(float(delta.abs().max()), 1e-12)
        for column, row in enumerate(moved[:_SHOWN].tolist()):
            original, found = x[row], x_adv[norm][row]
            pictures = (original, (found - original) * scale + 0.5, found)
            for place, picture in enumerate(pictures):
                axis = axes[3 * number + place][column]
                axis.set_axis_on()
                show(axis, picture)
            axes[3 * number][column].set_title(f"{labels[int(y[row])]}", fontsize=7)
        if not len(moved):
            say(axes[3 * number][0], f"{NORMS[norm]}: none fell")
    shows = "Images that fell: as they were with their true class, the perturbation magnified, "
    said = f"{shows}and as they were found; {', '.join(NORMS[norm] for norm in norms)}."
    return finished(figure, said, names)
