"""Figure 3: the walks in closed form, and the live chart's points against them.

The gradient of a linear classifier points straight at the boundary, so a walk is its lengths: PGD's
grow by its step up to its budget, Algorithm 1's by 1 + gamma, or shrink by 1 - gamma once behind.
"""

import re

import numpy as np
import pytest
from charted import drawn, png

from ldatlib import UserError, open_run
from ldatlib.report import charts, trajectories
from ldatlib.report.document import alive

WHERE = (trajectories.WEIGHT, trajectories.BIAS, trajectories.START)
# (1.2 * 1.8 + 0.9 * 1.4 - 1.2) / 1.5
AWAY = 1.48


def straight(lengths):
    """Points at these distances from the start, towards the boundary."""
    weight, _, start = WHERE
    return start - np.outer(lengths, weight / np.linalg.norm(weight))


def recursion(gamma, steps):
    """Lengths of Algorithm 1's perturbations, by hand."""
    lengths = [0.0]
    for k in range(steps):
        eps = lengths[-1] if k else 1.0
        lengths.append(eps * (1 - gamma if lengths[-1] > AWAY else 1 + gamma))
    return lengths


def signed(lengths, last):
    """What a chart says of the distance after each step, to its digits."""
    return {k: pytest.approx(AWAY - lengths[k], abs=6e-5) for k in range(last + 1)}


def pgd(steps):
    return [min(0.4 * k, 2.2) for k in range(steps + 1)]


def test_pgd_walks_to_the_rim_of_its_ball():
    walk = trajectories.pgd_walk(*WHERE, num_steps=8)
    assert walk == pytest.approx(straight(pgd(8)), abs=1e-9)
    assert trajectories.distance(walk[0], *WHERE[:2]) == pytest.approx(AWAY)


def test_friendly_pgd_stops_behind_the_boundary_or_does_not_stop():
    walk = trajectories.pgd_walk(*WHERE, num_steps=8)
    assert len(trajectories.friendly(walk, *WHERE[:2])) == 5  # 1.48 / 0.4 = 3.7: the start and 4
    short = trajectories.pgd_walk(*WHERE, num_steps=8, eps=1.0)
    assert np.array_equal(trajectories.friendly(short, *WHERE[:2]), short)


@pytest.mark.parametrize("gamma", [0.05, 0.2, 0.5])
def test_algorithm_1_is_its_recursion(gamma):
    walk = trajectories.algorithm_1(*WHERE, num_steps=12, gamma=gamma)
    assert walk == pytest.approx(straight(recursion(gamma, 12)), abs=1e-9)


def shown(svg):
    """k -> signed distance, of the points of the right panel."""
    found = re.findall(r'aria-label="step: (\d+); signed[^"]*; distance: ([^"]+)"', svg)
    return {int(k): float(value.replace("\N{MINUS SIGN}", "-")) for k, value in found}


def test_the_chart_shows_the_walk_that_is_chosen():
    spec = charts.figure_3((0.1, 0.2), 12).to_dict()
    for gamma in (0.1, 0.2):
        svg = drawn(spec, attack="Algorithm 1", gamma=gamma, steps=11)
        assert shown(svg) == signed(recursion(gamma, 11), 11)
        # Without a gamma PGD is the same at each.
        svg = drawn(spec, attack="PGD", gamma=gamma, steps=7)
        assert shown(svg) == signed(pgd(7), 7)
        assert "PGD in the plane" in svg and "after step 7: 0.72 behind the boundary" in svg
    svg = drawn(spec, attack="friendly PGD", gamma=0.2, steps=12)
    assert shown(svg) == signed(pgd(4), 4) and "after step 4: 0.12 behind" in svg
    svg = drawn(spec, attack="PGD", gamma=0.2, steps=2)
    assert "after step 2: 0.68 before the boundary" in svg


def test_the_caption_names_what_there_is():
    said = charts.caption(charts.figure_3((0.2,), 12))
    assert "Algorithm 1, PGD or friendly PGD" in said and "attack, gamma and the number" in said
    alone = {0.2: trajectories.algorithm_1(*WHERE, num_steps=12, gamma=0.2)}
    said = charts.caption(charts.toy_trajectories(*WHERE, alone))
    assert "PGD" not in said and "ball" not in said


def test_what_there_is_no_walk_of():
    for gammas, steps in (((0.1,), 12), ((0.2,), 5)):
        with pytest.raises(UserError, match="no walk of 10 steps with gamma 0.2"):
            charts.figure_3(gammas, steps)


def test_the_report_has_it_where_notebook_01_was_run(tmp_path):
    run = open_run("demo", out=tmp_path, jobs=1)
    assert alive.pictures(run, "fig3") == ""
    (tmp_path / "figures").mkdir(exist_ok=True)
    (tmp_path / "figures" / "fig3.png").write_bytes(png())
    found = alive.pictures(run, "fig3")
    assert '<div class="ldat-chart" id="fig3"' in found and 'class="static"' in found
    assert charts.caption(charts.figure_3()) in found and len(found) < 100_000
