"""Charts in a page that asks nobody for anything: one copy of the scripts, data in the text."""

import json
from collections.abc import Mapping
from functools import cache
from html import escape

import altair as alt

from ldatlib.errors import UserError
from ldatlib.report.charts.look import Chart, caption

# A page has inputs above a chart; on a narrow screen panels stand below each other.
STYLE = """\
.ldat-chart{overflow-x:auto;margin:0 0 .5em}
.ldat-chart svg{max-width:100%;height:auto}
.ldat-chart .vega-embed{display:flex;flex-direction:column;padding:0}
.ldat-chart .vega-bindings{order:-1;display:flex;flex-wrap:wrap;gap:.3em 1.2em;margin:.3em 0}
.ldat-chart .vega-bind label{display:inline-flex;align-items:center;gap:.4em}
.ldat-chart select{max-width:16em}
.ldat-chart input[type=range]{width:min(22em,60vw)}
.ldat-chart input[name=place]+span{display:none}
"""
# Draws every chart of the page, one after another; a failure is said where the chart would be.
_DRAW = """\
function stack(view, width) {
  if (view.hconcat) { view.vconcat = view.hconcat; delete view.hconcat; }
  if (view.width > width) view.width = width;
  for (const kind of ["vconcat", "concat", "layer"])
    (view[kind] || []).forEach(part => stack(part, width));
  if (view.spec) { view.columns = 1; stack(view.spec, width); }
}
async function draw(element) {
  const found = element.querySelector("script[type='application/json']");
  if (!found || element.dataset.drawn) return;
  element.dataset.drawn = "no";
  const spec = JSON.parse(found.textContent);
  const room = element.clientWidth || window.innerWidth;
  if (room < 560 && !spec.usermeta.whole) stack(spec, Math.max(room - 90, 180));
  const place = document.createElement("div");
  element.append(place);
  try {
    const drawn = await vegaEmbed(place, spec, {renderer: "svg", actions: false});
    element.querySelector("[data-still]")?.remove();
    element.ldatView = drawn.view;
    element.dataset.drawn = "yes";
  } catch (error) {
    place.textContent = "This chart could not be drawn: " + error.message;
    console.error(error);
  }
}
async function all() {
  for (const element of document.querySelectorAll(".ldat-chart")) await draw(element);
  document.documentElement.dataset.chartsDrawn = "yes";
}
document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", all) : all();
"""


@cache
def script() -> str:
    """The JavaScript that draws every ``element`` of a page: 0.9 MB, once, for its head or end."""
    import vl_convert

    bundle = vl_convert.javascript_bundle(_DRAW, vl_version=_version())
    # Within <script> the text ends at the first of these, whatever it is to JavaScript.
    for ending in ("</script", "<!--"):
        assert ending not in bundle.lower()
    return bundle


def _version() -> str:
    """Of Vega-Lite, as vl-convert calls what Altair writes for: ``6.4``."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def specification(chart: Chart) -> str:
    """The chart as JSON for the inside of a ``<script>``: no text in it can end one."""
    text = json.dumps(chart.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # In JSON these stand in strings alone, where an escape means the same.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def element(chart: Chart, name: str, still: str = "") -> str:
    """A chart as HTML, to be drawn by ``script``; readers of screens get its caption.

    ``name``: the element's ``id``, unique in the page; ``still``: HTML, such as the static figure,
    that stands there until the chart is drawn, and where no script runs.

    Raises ``UserError`` for a name that is no word.
    """
    if not name.isidentifier():
        raise UserError(f"a chart's name in a page is a word of letters and digits, not {name!r}")
    said = escape(caption(chart), quote=True)
    waiting = f"<div data-still>{still}</div>" if still else ""
    return (
        f'<div class="ldat-chart" id="{name}" role="group" aria-label="{said}">{waiting}'
        f'<script type="application/json">{specification(chart)}</script></div>'
    )


def html(charts: Mapping[str, Chart], title: str = "Charts") -> str:
    """A whole page of charts, by name: one copy of the scripts, and no request to anybody."""
    parts = "".join(
        f"<section><h2>{escape(name.replace('_', ' '))}</h2>{element(chart, name)}"
        f"<p>{escape(caption(chart))}</p></section>"
        for name, chart in charts.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # A browser asks for an icon unless the page has one.
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        "<style>body{font:16px system-ui,sans-serif;max-width:60em;margin:1em auto;padding:0 1em}"
        f"{STYLE}</style></head><body><h1>{escape(title)}</h1>{parts}"
        f"<script>{script()}</script></body></html>"
    )
