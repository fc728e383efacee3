"""What the notebooks conclude, in sentences made from the numbers of a run.

Each function takes records, or what a notebook has made of them, and returns a sentence an entry.
Where networks are compared, the images are the same and the p-values corrected (Holm) over the
comparisons of the sentence. What the paper says to it is ``report.claims.sentences``.
"""

from ldatlib.report.conclusions.ablations import lengths, within_l2
from ldatlib.report.conclusions.black_box import own_attack, surrogates
from ldatlib.report.conclusions.detector import confident_successes, direction, gains, thresholds
from ldatlib.report.conclusions.features import one_attack, probes
from ldatlib.report.conclusions.headline import (
    Advice,
    Contest,
    advice,
    contests,
    rejecting,
    standing,
)
from ldatlib.report.conclusions.plane import nearness, walks
from ldatlib.report.conclusions.scrutiny import (
    detectors,
    masks,
    refusals,
    searches,
    worst_cases,
)
from ldatlib.report.conclusions.training import centroids, perturbations
from ldatlib.report.conclusions.white_box import (
    convergence,
    emptied,
    minimal_norm_gaps,
    oddities,
)

__all__ = [
    "Advice",
    "Contest",
    "advice",
    "contests",
    "rejecting",
    "standing",
    "centroids",
    "confident_successes",
    "convergence",
    "detectors",
    "direction",
    "emptied",
    "gains",
    "lengths",
    "masks",
    "minimal_norm_gaps",
    "nearness",
    "oddities",
    "one_attack",
    "own_attack",
    "perturbations",
    "probes",
    "refusals",
    "searches",
    "surrogates",
    "thresholds",
    "walks",
    "within_l2",
    "worst_cases",
]
