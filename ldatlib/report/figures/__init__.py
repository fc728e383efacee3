"""Every picture of the companion. Functions take records, features or tables, never a run.

Each returns a matplotlib Figure; ``save`` writes it as PNG and PDF; ``described`` has its title and
how to read it.
"""

from ldatlib.report.escape import class_key
from ldatlib.report.figures.ablation import replaced_attack
from ldatlib.report.figures.catalogue import FIGURES, Described, described
from ldatlib.report.figures.detector import (
    adaptive,
    defence_success,
    likelihood_histograms,
    threshold_static,
)
from ldatlib.report.figures.features import embedded, tsne
from ldatlib.report.figures.images import gallery, gallery_rows
from ldatlib.report.figures.likelihood import likelihood_over_epochs, small_model
from ldatlib.report.figures.look import caption, colour, save, style
from ldatlib.report.figures.masking import surfaces
from ldatlib.report.figures.plane import feature_planes, plane_of, toy_trajectories
from ldatlib.report.figures.rejection import rejection
from ldatlib.report.figures.training import length_limits, training_curves
from ldatlib.report.figures.transfer import transfer_heat_map
from ldatlib.report.figures.white_box import accuracy_by_eps, accuracy_by_steps, growing_eps
from ldatlib.report.figures.worst_case import scrutiny

__all__ = [
    "FIGURES",
    "Described",
    "accuracy_by_eps",
    "accuracy_by_steps",
    "adaptive",
    "caption",
    "class_key",
    "colour",
    "defence_success",
    "described",
    "embedded",
    "feature_planes",
    "gallery",
    "gallery_rows",
    "growing_eps",
    "length_limits",
    "likelihood_histograms",
    "likelihood_over_epochs",
    "plane_of",
    "rejection",
    "replaced_attack",
    "save",
    "scrutiny",
    "small_model",
    "style",
    "surfaces",
    "threshold_static",
    "toy_trajectories",
    "training_curves",
    "transfer_heat_map",
    "tsne",
]
