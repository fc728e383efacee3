"""The gallery, alive: attacked images of a chosen defence and attack."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import glossary
from ldatlib.report.charts.look import Chart, data, drawn_up, finished, menu
from ldatlib.report.figures.detector import RIGHT, WRONG
from ldatlib.report.pictures import uri_of_image
from ldatlib.report.words import column_title
from ldatlib.study.records import Whitebox

_SIDE = 84


MAGNIFY = 3.0


@drawn_up
def gallery(
    records: Mapping[str, Whitebox],
    saved: Mapping[str, Mapping[str, Tensor]],
    class_names: Sequence[str],
    count: int = 6,
) -> Chart:
    """Image, magnified change and attacked image of the first ``count`` saved images.

    Defence and attack are chosen in the page; a frame says whether the network still has the
    attacked image right, from the record.

    Parameters
    ----------
    records : defence -> its record of kind "whitebox".
    saved : defence -> images by attack, as ``Run.adversarial`` gives them: ``x`` and one an attack
        [n, C, H, W] in [0, 1], ``y`` [n].
    class_names : of the data, in the order of the labels.

    Raises ``UserError`` for no records, or none whose images are saved.
    """
    defences = [name for name in records if name in saved]
    if not defences:
        raise UserError("no attacked images to show; they lie in the folder adversarial of a run")
    keys = list(next(iter(records.values())).attacks)
    shown = min(count, *(len(saved[name]["y"]) for name in defences))
    natural, rows = [], []
    first = saved[defences[0]]
    for index in range(shown):
        name = class_names[int(first["y"][index])]
        natural.append({"place": index, "class": name, "image": uri_of_image(first["x"][index])})
    for name in defences:
        clean = from_bits(records[name].clean_right)
        for key in keys:
            right = from_bits(records[name].attacks[key].right)
            for index in range(shown):
                x, x_adv = saved[name]["x"][index], saved[name][key][index]
                fate = "right" if right[index] else "fooled" if clean[index] else "wrong before"
                found = {"defence": name, "attack": key, "place": index, "fate": fate}
                found["change"] = uri_of_image((x_adv - x) * MAGNIFY / 2 + 0.5)
                rows.append(found | {"image": uri_of_image(x_adv)})
    places = alt.X("place:O", axis=None)
    size: Any = {"width": _SIDE, "height": _SIDE}
    base = alt.Chart(data("natural")).encode(x=places)
    top = base.mark_image(**size).encode(y=alt.value(_SIDE / 2 + 14), url="image:N")
    label = base.mark_text(fontSize=11, limit=_SIDE).encode(y=alt.value(5), text="class:N")
    chosen = alt.Chart(data("attacked")).transform_filter(
        "datum.defence == defence && datum.attack == attack"
    )
    chosen = chosen.encode(x=places)
    middle = chosen.mark_image(**size).encode(y=alt.value(1.5 * _SIDE + 22), url="change:N")
    low = chosen.mark_image(**size).encode(y=alt.value(2.5 * _SIDE + 30), url="image:N")
    fates = {"right": RIGHT, "fooled": WRONG, "wrong before": "#767676"}
    colours = alt.Scale(domain=list(fates), range=list(fates.values()))
    fate = chosen.mark_text(fontSize=12, fontWeight="bold").encode(
        y=alt.value(3 * _SIDE + 42),
        text="fate:N",
        color=alt.Color("fate:N", scale=colours, legend=None),
    )
    defence = menu("defence", "defence", [(n, glossary.defence(n)) for n in defences], defences[0])
    attack = menu("attack", "attack", [(key, column_title(key)) for key in keys], keys[0])
    chart = alt.layer(top, label, middle, low, fate).add_params(defence, attack)
    chart = chart.properties(width=shown * (_SIDE + 12), height=3 * _SIDE + 50)
    names = ", ".join(map(glossary.defence, defences))
    shows = f"The first {shown} test images, the change by an attack ({MAGNIFY:g} times, grey is "
    shows += f"none) and the attacked image, by defence and attack: {names}."
    return finished(chart, shows, whole=True, natural=natural, attacked=rows)
