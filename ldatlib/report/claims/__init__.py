"""The paper's claims, put to the records of a run.

An observation takes the records (``Evidence``) and returns what was ``Seen``: whether the claim
holds here (True, False, or None: cannot tell), the numbers as text, and how far it reaches.
Networks are compared on the same images, several comparisons of a claim are corrected, and "hardly"
or "approaches" have a stated margin: ``rules``.
"""

from ldatlib.report.claims.evidence import Evidence, NoRecord
from ldatlib.report.claims.rules import Seen
from ldatlib.report.claims.table import CLAIMS, OUTCOMES, Claim, Judged, claims, judged, sentences

__all__ = [
    "CLAIMS",
    "OUTCOMES",
    "Claim",
    "Evidence",
    "Judged",
    "NoRecord",
    "Seen",
    "claims",
    "judged",
    "sentences",
]
