"""What the figures say: numbers of made records, and labels that stand apart."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from ldatlib.defences import make_defence
from ldatlib.report import conclusions, figures
from ldatlib.report.figures.images import Cell
from ldatlib.report.figures.look import named, spread

heights = st.lists(st.floats(0, 100), min_size=1, max_size=12).map(sorted)


@given(heights, st.floats(0.1, 8))
def test_labels_stand_apart_in_order_and_inside(wanted, gap):
    found = spread(wanted, gap, 0.0, 100.0)
    assert len(found) == len(wanted)
    assert min(found) >= -1e-6 and max(found) <= 100 + 1e-6
    assert all(b - a >= gap - 1e-6 for a, b in zip(found, found[1:], strict=False))


def test_labels_with_room_stay_where_they_are():
    assert spread([10.0, 50.0, 90.0], 5.0, 0.0, 100.0) == [10.0, 50.0, 90.0]
    # Two at one place part by the same on either side.
    assert spread([50.0, 50.0], 6.0, 0.0, 100.0) == [47.0, 53.0]
    # Without room for all they share it.
    assert spread([1.0, 1.0, 1.0], 60.0, 0.0, 100.0) == [0.0, 50.0, 100.0]


def test_transfer_outlines_the_diagonal_and_the_least_of_each_column():
    matrix = pd.DataFrame([[10.0, 70.0], [5.0, 60.0]], index=["a", "b"], columns=["a", "b"])
    figure = figures.transfer_heat_map(matrix)
    frames = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and not p.get_fill()]
    own = {tuple(np.floor(p.get_xy())) for p in frames if p.get_edgecolor() == to_rgba("#56b4e9")}
    least = {tuple(np.floor(p.get_xy())) for p in frames if p.get_edgecolor() == to_rgba("#d62728")}
    # (column, row): both on the diagonal; "a" is fooled most by images of "b".
    assert own == {(0, 0), (1, 1)} and least == {(0, 1), (1, 1)}
    assert "a by images of b" in figures.caption(figure)


def test_a_length_is_bounded_by_the_ball_of_its_attack():
    class Training:
        def __init__(self, name):
            self.name = name
            self.config = type(
                "Config",
                (),
                {"defence": make_defence(name, eps_linf=8 / 255, eps_l2=0.5, radius=1.5)},
            )

    limits = figures.length_limits([Training(n) for n in ("natural", "standard", "ldat")], 64)
    # 8/255 in each of 64 numbers: the corner is 8 times as far as a face.
    assert limits == {"standard": pytest.approx(8 * 8 / 255), "ldat": 1.5}


def test_epochs_are_whole_and_accuracies_percent():
    log = [{"epoch": e, "loss": 1.0 / e, "val_clean_accuracy": 0.5} for e in (1, 2, 3)]
    figure = figures.training_curves({"standard": log}, {"standard": 2.0})
    axis = next(a for a in figure.axes if "natural accuracy" in a.get_title())
    assert list(axis.lines[0].get_ydata()) == [50.0] * 3
    ticks = axis.xaxis.get_major_locator().tick_values(1, 3)
    assert all(float(tick).is_integer() for tick in ticks)


def test_a_budget_of_several_defences_says_of_how_many():
    norms = {"perturbation_norm": 1.0, "attack_norm": 1.0}
    log = [{"epoch": e, "loss": 1.0} | norms for e in (1, 2)]
    limits = {"standard": 2.0, "trades": 2.0, "ldat": 2.25}
    figure = figures.training_curves(dict.fromkeys(limits, log), limits)
    shown = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert {"budget of 2 defences: 2.00", f"radius {named('ldat')} 2.25"} <= shown


def of_first(run, kind):
    first = run.select_seed(run.trainings())
    return {t.name: r for t, r in zip(first, run.records(kind, first), strict=True)}


def test_figure_4_names_the_accuracy_at_the_budget_in_place_of_a_legend(run):
    records = of_first(run, "sweep_eps")
    figure = figures.accuracy_by_eps(records, run.profile.budgets)
    for axis, (norm, budget) in zip(figure.axes, run.profile.budgets.items(), strict=True):
        shown = {text.get_text() for text in axis.texts}
        for name, record in records.items():
            (point,) = [p for p in record.points if p.norm == norm and p.eps == budget]
            assert f"{named(name)} {100 * point.robust_accuracy.value:.0f}%" in shown
        assert axis.get_legend() is None and axis.get_xscale() == "log"


def test_figures_4_and_5_say_how_many_images_they_have(run):
    """And that a line is at Table 1's iterations: the dots there are not its numbers."""
    eps, steps = (of_first(run, kind) for kind in ("sweep_eps", "sweep_steps"))
    images = len(next(iter(eps.values())).points[0].right)
    drawn = figures.accuracy_by_eps(eps), figures.accuracy_by_steps(steps, 40)
    for figure in drawn:
        assert all(f"{images} images" in axis.get_title() for axis in figure.axes)
        assert f"{images} images: " in figures.caption(figure)
    assert "Table 1's iterations" in {text.get_text() for text in drawn[1].axes[0].texts}


def test_headings_of_the_gallery_are_whole_inline_and_saved():
    """A notebook cuts a picture to its tight box; a file has the figure's."""
    image = torch.full((1, 8, 8), 0.5)
    names = ("natural", "standard", "ldat_chosen")
    row = [Cell(name, image, image + 0.1, 5, 3, 0.9, True) for name in names]
    figure = figures.gallery([("L-inf PGD", row), ("L2 C&W", row)], [str(k) for k in range(10)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    tight = figure.get_tightbbox(renderer).transformed(figure.dpi_scale_trans)
    texts = {text.get_text(): text for text in figure.findobj(Text) if text.get_text()}
    assert {named(name) for name in names} <= texts.keys()
    for title, text in texts.items():
        box = text.get_window_extent(renderer)
        for around in (tight, figure.bbox):
            assert around.x0 <= box.x0 and box.x1 <= around.x1, title
            assert around.y0 <= box.y0 and box.y1 <= around.y1, title


def test_figure_5_says_in_the_panel_whether_its_attack_has_converged(run):
    records = of_first(run, "sweep_steps")
    said = conclusions.convergence(records)
    for axis, sentence in zip(figures.accuracy_by_steps(records, 40).axes, said, strict=True):
        assert ("not converged" in axis.get_title()) == ("has not converged" in sentence)


def test_figure_8_draws_the_thresholds_where_they_mean_something(run):
    record = of_first(run, "detection")["ldat_chosen"]
    axes = figures.likelihood_histograms(record).axes
    cuts = [sorted(float(line.get_xdata()[0]) for line in axis.lines) for axis in axes]
    frozen = {score: record.scores[score].thresholds["accept_95"] for score in record.scores}
    assert cuts[0] == sorted([0.6, frozen["posterior"]])
    assert cuts[-1] == [frozen["log_likelihood"]]


def test_figure_9_shows_one_network_and_two_rivals_and_no_probability_on_a_likelihood(run):
    figure = figures.defence_success(of_first(run, "detection"), own="ldat_chosen")
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 4 and sum(named("ldat_chosen") in title for title in titles) == 2
    dots = [len(axis.lines) for axis in figure.axes]
    # None, 0.6 and two frozen ones, and the line below clean rejection; on the likelihood no 0.6.
    assert dots == [5, 4, 5, 5]
    assert "no meaning" in figure.axes[1].get_xlabel()
