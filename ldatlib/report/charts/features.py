"""Fig. 7, alive: t-SNE of the features, with the image under the pointer."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import seaborn as sns
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.report.charts.look import Chart, data, drawn_up, finished
from ldatlib.report.escape import class_key
from ldatlib.report.pictures import NOTHING, uri_of_image
from ldatlib.study.records import Features

_SIDE = 330


@drawn_up
def tsne(
    records: Mapping[str, Features],
    class_names: Sequence[str],
    images: Tensor | None = None,
) -> Chart:
    """Fig. 7: natural (dots) and adversarial (crosses) features by class; hover shows the image.

    Parameters
    ----------
    records : title -> its record of kind "features".
    class_names : of the data, in the order of the labels.
    images : natural images [n, C, H, W] in [0, 1], the first of the records', as they lie in the
        folder ``adversarial`` of a run (``x``); points of later ones have a text alone.

    Raises ``UserError`` for no records.
    """
    if not records:
        raise UserError("no records of features to draw; compute them with run.records")
    rows: list[dict[str, Any]] = []
    for title, record in records.items():
        flat = record.embedding
        for kind in ("natural", "adversarial"):
            for number, ((x, y), label) in enumerate(zip(getattr(flat, kind), flat.y, strict=True)):
                row = {"network": title, "kind": kind, "class": class_names[label]}
                rows.append(row | {"number": number, "x": round(x, 2), "y": round(y, 2)})
    pictures = [] if images is None else [uri_of_image(image) for image in images]
    under = [{"number": number, "image": uri} for number, uri in enumerate(pictures)]
    palette = sns.color_palette("tab10" if len(class_names) <= 10 else "husl", len(class_names))
    colours = alt.Scale(domain=list(class_names), range=list(palette.as_hex()))
    chosen = alt.selection_point(name="classes", fields=["class"], bind="legend")
    legend = alt.Legend(
        title="a click takes the others away", titleLimit=300, columns=6, orient="top"
    )
    # The vega tooltip draws a field called ``image`` as one.
    tips = [alt.Tooltip("image:N")] if under else []
    tips += [alt.Tooltip("class:N"), alt.Tooltip("kind:N")]
    flat_axis: Any = {"axis": None, "scale": alt.Scale(zero=False)}
    drawn: list[Chart] = []
    for title in records:
        base = alt.Chart(data("features")).transform_filter(alt.datum.network == title)
        if under:
            found = alt.LookupData(data("images"), "number", ["image"])
            base = base.transform_lookup("number", found, default=NOTHING)
        points = base.mark_point(size=22, strokeWidth=1.4).encode(
            x=alt.X("x:Q", **flat_axis),
            y=alt.Y("y:Q", **flat_axis),
            color=alt.Color("class:N", scale=colours, legend=legend),
            shape=alt.Shape(
                "kind:N",
                scale=alt.Scale(domain=["natural", "adversarial"], range=["circle", "cross"]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            opacity=alt.when(chosen).then(alt.value(0.8)).otherwise(alt.value(0.05)),
            tooltip=tips,
        )
        # One view has the legend's choice, and all follow it.
        points = points if drawn else points.add_params(chosen)
        drawn.append(points.properties(width=_SIDE, height=_SIDE, title=title))
    chart = alt.hconcat(*drawn, spacing=24)
    shows = f"t-SNE of natural and adversarial features, a colour a class: {', '.join(records)}."
    if under:
        shows += " Under the pointer stands the image before the attack."
    key = class_key(class_names)
    return finished(
        chart, f"{shows} Classes: {key}." if key else shows, features=rows, images=under
    )
