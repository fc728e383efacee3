"""Tables of notebooks as HTML, and what pictures say of themselves; pages: ``components``."""

import pandas as pd
from pandas.io.formats.style import Styler

# A notebook typesets $...$ in its text as formulas, but for elements of these classes.
_PLAIN = 'class="tex2jax_ignore mathjax_ignore"'
# Where a PNG says what it shows; ``figures.save`` writes it.
DESCRIPTION = "Description"


def styled(frame: pd.DataFrame, name: str, precision: int = 6) -> Styler:
    """A table for reading, whatever text is in it; ``name`` makes its HTML the same every time."""
    style = frame.style.set_uuid(name).set_table_attributes(_PLAIN)
    style = style.format(escape="html", precision=precision)
    for axis in (0, 1):
        style = style.format_index(escape="html", precision=precision, axis=axis)
    return style
