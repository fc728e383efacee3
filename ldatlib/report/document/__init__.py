"""The report of a run: ``report.html``, one file that asks for no other.

It shows what there is, and names what is missing; nothing is computed that takes time.
"""

from ldatlib.report.document.lead import in_short
from ldatlib.report.document.whole import html, write

__all__ = ["html", "in_short", "write"]
