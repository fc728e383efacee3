"""Charts drawn by Vega without a browser, and what the explorer's says."""

import io
import re
from html import unescape

import vl_convert
from PIL import Image

FATES = ("kept", "lost", "missed", "caught")
RATES = {"robust": "robust_percent", "refused": "refused_percent", "success": "success_percent"}


def drawn(spec, **parameters):
    """A Vega-Lite specification as SVG; ``parameters`` of the chart are set first."""
    for parameter in spec["params"]:
        if parameter["name"] in parameters:
            parameter["value"] = parameters.pop(parameter["name"])
    assert not parameters
    return vl_convert.vegalite_to_svg(spec, vl_version="6.4")


def read_off(svg):
    """Kept, lost, missed and caught; and the rates in percent, without robust accuracy."""
    counts, rates = read_all(svg)
    return counts, {name: rates[name] for name in ("success", "refused")}


def read_all(svg):
    """The same with robust accuracy: what the explorer's SVG, or page, has as text."""
    found = dict(re.findall(r'aria-label="fate: (\w+); count: (\d+)"', unescape(svg)))
    counts = [int(found[name]) for name in FATES]
    shown = dict(re.findall(r'aria-label="rate: (\w+); shown: ([\d.]+)%"', unescape(svg)))
    return counts, {name: float(shown[key]) for name, key in RATES.items()}


def png() -> bytes:
    """A picture of one pixel, as a file."""
    written = io.BytesIO()
    Image.new("RGB", (1, 1)).save(written, "PNG")
    return written.getvalue()
