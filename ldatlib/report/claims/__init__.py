"""The paper's claims, put to the records of a run.

An observation takes the records (``Evidence``) and returns whether the claim was seen here (True,
False, or None: cannot tell) and the numbers as text. Comparisons of two networks use McNemar's
exact test on the same images at 5%, or the intervals of the two shares.
"""

from ldatlib.report.claims.evidence import Evidence, NoRecord
from ldatlib.report.claims.table import CLAIMS, Claim, claims

__all__ = ["CLAIMS", "Claim", "Evidence", "NoRecord", "claims"]
