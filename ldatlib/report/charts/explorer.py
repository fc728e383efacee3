"""The threshold explorer: move the cut, see at once what it does to right and wrong images.

One Vega-Lite chart; everything that moves is computed in the page from ``cuts.rows``.
"""

import json
from collections.abc import Mapping
from typing import Any

import altair as alt

from ldatlib.errors import UserError
from ldatlib.report import detector, glossary
from ldatlib.report.charts import cuts
from ldatlib.report.charts.look import GREY, GRID, INK, Chart, data, drawn_up, finished, menu
from ldatlib.report.figures.detector import CUT, RIGHT, VALIDATION, WRONG
from ldatlib.report.words import set_title
from ldatlib.study.records import Detection

# Steps of the slider in one bar of the histogram.
_WIDE = 4
_WIDTH, _HEIGHT = 330, 200
# Array of a row -> images that are accepted, summed over the places from a cut's on.
_ARRAYS = ("right", "wrong", "clean", "good", "bad", "robust")
# Light and opaque: a legend takes one opacity, its first layer's, for all of its symbols.
_BEHIND = "#dbdbdb"
# What a coin would give.
_DIAGONAL = [{"false": 0, "true": 0}, {"false": 1, "true": 1}]
_FATES = {
    "kept": ("kept", "right and accepted", RIGHT),
    "lost": ("lost", "right, but rejected", VALIDATION),
    "missed": ("missed", "wrong and accepted", WRONG),
    "caught": ("caught", "wrong and rejected", VALIDATION),
}
_RATES = {
    "robust_percent": glossary.title("detection_robust"),
    "refused_percent": glossary.title("clean_rejection"),
    "success_percent": glossary.title("defence_success"),
}


@drawn_up
def explorer(
    records: Mapping[str, Detection],
    *,
    defence: str | None = None,
    score: str = "posterior",
    attack: str | None = None,
    threshold: float | None = None,
    controls: bool = True,
) -> Chart:
    """Histogram and ROC with a cut that a slider moves, the four counts, and three rates.

    Parameters
    ----------
    records : defence name -> its record of kind "detection"; all of the same data.
    defence, score, attack : what is shown first; else the first record, and its first attack.
    threshold : where the cut stands first, in units of the score; the frozen 95% threshold unless
        said. It is on the slider exactly, as are the recorded thresholds.
    controls : whether the page has inputs for defence, attack, score, split and cut. Without them
        the chart's parameters ``defence``, ``scored``,
        ``shown`` and ``place`` (of the cut in its ``cuts.grid``) wait for another hand.

    Raises
    ------
    UserError : no records, of another kind or of different data, an unknown choice, a threshold
        outside the score's range.
    """
    detector.check_same_data(records)
    defence = next(iter(records)) if defence is None else defence
    if defence not in records:
        raise UserError(f"no record of {defence!r}; known: {', '.join(records)}")
    record = records[defence]
    attack = detector.first_attack(record) if attack is None else attack
    detector.scored(record, score, attack)
    if threshold is None:
        threshold = detector.first_threshold(record, score)
    detector.check_threshold(record, score, threshold)
    also = {(defence, score): threshold}
    place = cuts.grid(record, score, threshold).nearest(threshold)
    if controls:
        parameters = _inputs(records, defence, score, attack, place)
    else:
        values = {"defence": defence, "scored": score, "shown": attack, "place": place}
        parameters = [alt.param(name=name, value=value) for name, value in values.items()]
    chosen = alt.Chart(data("sets")).transform_filter(
        "datum.defence == defence && datum.shown == shown && datum.score == scored"
    )
    along = _accumulated(chosen)
    here = along.transform_filter("datum.place == place")
    picture = alt.hconcat(_histogram(chosen, along, here), _roc(chosen, along, here), spacing=24)
    chart = alt.vconcat(picture, _counts(here), spacing=12).resolve_scale(color="independent")
    chart = chart.add_params(*parameters)
    names = ", ".join(map(glossary.defence, records))
    shows = "Histogram of the score with a threshold that a slider moves, ROC with its point, the "
    shows += (
        f"images kept, lost, missed and caught, and rates; by defence, attack and score: {names}."
    )
    return finished(chart, shows, sets=cuts.rows(records, also), diagonal=_DIAGONAL)


def _inputs(
    records: Mapping[str, Detection], defence: str, score: str, attack: str, place: int
) -> list[alt.Parameter]:
    defences = [(name, glossary.defence(name)) for name in records]
    attacks = dict.fromkeys(n for r in records.values() for n in detector.attacked_sets(r))
    scores = dict.fromkeys(name for record in records.values() for name in record.scores)
    splits = [("test", "test images"), ("val", "validation images (clean)")]
    # A choice that another defence lacks stays, and the posterior stands in.
    have = [name for name, found in records.items() if "log_likelihood" in found.scores]
    lacks = f"score == 'log_likelihood' && indexof({json.dumps(have)}, defence) < 0"
    slider = alt.binding_range(min=0, max=cuts.STEPS, step=1, name="cut ")
    return [
        menu("defence", "defence", defences, defence),
        menu("attack", "attack", [(name, set_title(name)) for name in attacks], attack),
        menu("score", "score", [(name, glossary.title(name)) for name in scores], score),
        menu("split", "split", splits, "test"),
        alt.param(name="scored", expr=f"{lacks} ? 'posterior' : score"),
        alt.param(name="shown", expr="split == 'val' ? 'val' : attack"),
        alt.param(name="place", value=place, bind=slider),
    ]


def _accumulated(chosen: alt.Chart) -> alt.Chart:
    """A row a cut: images that are accepted there, and shares."""
    summed: Any = {f"{name}_in": f"sum({name})" for name in _ARRAYS if name != "robust"}
    return (
        chosen.transform_flatten(list(_ARRAYS))
        .transform_window(frame=[None, 0], row="row_number()", robust_in="sum(robust)")
        .transform_calculate(place="datum.row - 1")
        .transform_calculate(
            cut="indexof(datum.moved, datum.place) < 0 ? datum.low + datum.place * "
            f"(datum.high - datum.low) / {cuts.STEPS} : "
            "datum.exact[indexof(datum.moved, datum.place)]"
        )
        .transform_window(
            frame=[None, 0], sort=[{"field": "place", "order": "descending"}], **summed
        )
        .transform_calculate(
            kept="datum.right_in",
            lost="datum.rights - datum.right_in",
            missed="datum.wrong_in",
            caught="datum.total - datum.rights - datum.wrong_in",
            true="datum.goods ? datum.good_in / datum.goods : NaN",
            false="datum.bads ? datum.bad_in / datum.bads : NaN",
        )
        .transform_calculate(
            robust_percent="100 * datum.robust_in / datum.total",
            refused_percent="100 * (1 - datum.clean_in / datum.cleans)",
            success_percent="100 * (datum.kept + datum.caught) / datum.total",
        )
    )


def _histogram(chosen: alt.Chart, along: alt.Chart, here: alt.Chart) -> Chart:
    """Percent of the images a bar, wrong stacked on right; behind them unattacked images."""
    summed: Any = {name: f"sum({name})" for name in ("right", "wrong", "clean")}
    bins = (
        along.transform_calculate(
            bar=f"min(floor(datum.place / {_WIDE}), {cuts.STEPS // _WIDE - 1})"
        )
        .transform_aggregate(groupby=["bar", "total", "cleans", "low", "high"], **summed)
        .transform_calculate(
            left=f"datum.low + datum.bar * {_WIDE / cuts.STEPS} * (datum.high - datum.low)",
            end=f"datum.low + (datum.bar + 1) * {_WIDE / cuts.STEPS} * (datum.high - datum.low)",
            first="100 * datum.right / datum.total",
            both="100 * (datum.right + datum.wrong) / datum.total",
            behind="100 * datum.clean / datum.cleans",
        )
    )
    axis = alt.Axis(title="score", tickCount=6)
    x = alt.X("left:Q", axis=axis, scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("both:Q", title="images (%)")
    tip = [
        alt.Tooltip("left:Q", title="score from", format=".3f"),
        alt.Tooltip("right:Q", title="right images"),
        alt.Tooltip("wrong:Q", title="wrong images"),
        alt.Tooltip("clean:Q", title="unattacked images"),
    ]
    shades = {"right": RIGHT, "wrong": WRONG, "unattacked": _BEHIND}
    colours = alt.Scale(domain=list(shades), range=list(shades.values()))
    legend = alt.Legend(title=None, orient="bottom", direction="horizontal")

    def bars(height: str, floor: Any, what: str) -> alt.Chart:
        shade = alt.Color("what:N", scale=colours, legend=legend)
        where = {"x": x, "x2": "end:Q", "y": y.copy(), "y2": floor}
        where["y"].shorthand = f"{height}:Q"
        of_bar = bins.transform_calculate(what=f"'{what}'")
        return of_bar.mark_bar(opacity=1).encode(**where, color=shade, tooltip=tip)

    zero = alt.Y2Datum(0)
    behind = bars("behind", zero, "unattacked")
    right = bars("first", zero, "right")
    wrong = bars("both", alt.Y2("first:Q"), "wrong")
    frozen = chosen.transform_flatten(["marks", "marked"])
    lines = frozen.mark_rule(strokeDash=[3, 3], color=GREY).encode(
        alt.X("marks:Q"), tooltip=[alt.Tooltip("marked:N", title="threshold"), "marks:Q"]
    )
    cut = here.mark_rule(color=CUT, strokeWidth=2).encode(alt.X("cut:Q"))
    title = chosen.mark_text(align="left", baseline="bottom", color=INK, fontSize=12, limit=_WIDTH)
    title = title.encode(x=alt.value(0), y=alt.value(-6), text="title:N")
    layers = alt.layer(behind, right, wrong, lines, cut, title)
    return layers.properties(width=_WIDTH, height=_HEIGHT, name="histogram")


def _roc(chosen: alt.Chart, along: alt.Chart, here: alt.Chart) -> Chart:
    """Accepted of clean correct images against accepted of successful adversarial ones."""
    scale = alt.Scale(domain=[0, 1], nice=False)
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format="%")
    x = alt.X(
        "false:Q", scale=scale, axis=axis, title="accepted of successful adversarial (or wrong)"
    )
    y = alt.Y("true:Q", scale=scale, axis=axis, title="accepted of clean correct")
    ends = alt.Chart(data("diagonal")).mark_line(color=GRID).encode(x, y)
    full = along.transform_filter("isValid(datum.true) && isValid(datum.false)")
    curve = full.mark_line(color=RIGHT).encode(x, y, order="place:Q")
    point = here.transform_filter("isValid(datum.true) && isValid(datum.false)")
    point = point.mark_circle(color=CUT, size=110, opacity=1).encode(
        x,
        y,
        tooltip=[
            alt.Tooltip("cut:Q", title="threshold", format=".4f"),
            alt.Tooltip("true:Q", title="accepted of clean correct", format=".1%"),
            alt.Tooltip("false:Q", title="accepted of the others", format=".1%"),
        ],
    )
    title = chosen.mark_text(align="left", baseline="bottom", color=INK, fontSize=12)
    title = title.encode(x=alt.value(0), y=alt.value(-6), text="auc:N")
    layers = alt.layer(ends, curve, point, title)
    return layers.properties(width=_HEIGHT, height=_HEIGHT, name="roc")


def _counts(here: alt.Chart) -> Chart:
    """The cut in units of the score, four counts and three rates."""
    fates = here.transform_fold(list(_FATES), as_=["fate", "count"])
    titles = " : ".join(
        f"datum.fate == '{name}' ? '{title}: {meaning}'"
        for name, (title, meaning, _) in _FATES.items()
    )
    fates = fates.transform_calculate(
        words=f"{titles} : ''", share="100 * datum.count / datum.total"
    )
    colours = alt.Scale(domain=list(_FATES), range=[shade for *_, shade in _FATES.values()])
    y = alt.Y("fate:N", sort=list(_FATES), axis=None)
    bar = fates.mark_bar(size=18, opacity=0.35).encode(
        x=alt.X("share:Q", scale=alt.Scale(domain=[0, 100]), axis=None),
        y=y,
        color=alt.Color("fate:N", scale=colours, legend=None),
    )
    number = fates.mark_text(align="right", fontWeight="bold", fontSize=14, color=INK)
    number = number.encode(x=alt.value(38), y=y, text="count:Q").properties(name="counts")
    words = fates.mark_text(align="left", color=INK, fontSize=12)
    words = words.encode(x=alt.value(46), y=y, text="words:N")
    left = alt.layer(bar, number, words).properties(width=_WIDTH, height=96)
    rates = here.transform_fold(list(_RATES), as_=["rate", "percent"])
    titles = " : ".join(f"datum.rate == '{name}' ? '{title}'" for name, title in _RATES.items())
    rates = rates.transform_calculate(
        words=f"{titles} : ''", shown="format(datum.percent, '.1f') + '%'"
    )
    y = alt.Y("rate:N", sort=list(_RATES), axis=None)
    percent = rates.mark_text(align="right", fontWeight="bold", fontSize=14, color=INK)
    percent = percent.encode(x=alt.value(50), y=y, text="shown:N").properties(name="rates")
    words = rates.mark_text(align="left", color=INK, fontSize=12)
    words = words.encode(x=alt.value(58), y=y, text="words:N")
    right = alt.layer(percent, words).properties(width=_HEIGHT, height=72)
    cut = here.transform_calculate(
        shown="'threshold ' + format(datum.cut, '.4f') + ' of ' + datum.axis"
    )
    cut = cut.mark_text(align="left", fontSize=13, color=INK).encode(x=alt.value(0), text="shown:N")
    cut = cut.properties(name="threshold", width=_HEIGHT, height=20)
    return alt.hconcat(left, alt.vconcat(cut, right, spacing=4), spacing=24)
