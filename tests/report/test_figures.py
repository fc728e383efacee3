"""What the figures say: numbers of made records, and labels that stand apart."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from ldatlib.defences import make_defence
from ldatlib.report import figures
from ldatlib.report.figures.look import spread

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
