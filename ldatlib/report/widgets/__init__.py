"""The threshold explorer of notebook 08: move the rejection threshold, see what it does.

Plain ipywidgets (extra ``notebooks``).
"""

from ldatlib.report.widgets.explorer import ThresholdExplorer, threshold_explorer

__all__ = ["ThresholdExplorer", "threshold_explorer"]
