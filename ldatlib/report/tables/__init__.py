"""Tables from records: ours, beside the paper's where it has the same cell; in percent.

Frames of numbers hold a share as three columns, the value and both ends of its 95% Wilson
interval; those for reading hold "value ± half the interval".
"""

from ldatlib.report.tables.ablation import basic_row, table3, table3_beside_paper
from ldatlib.report.tables.black_box import table4, table4_beside_paper, transfer_matrix
from ldatlib.report.tables.detector import (
    COUNTS,
    WORST_CASES,
    adaptive_at_frozen,
    adaptive_for_reading,
    adaptive_rows,
    areas,
    outcome_rows,
    outcomes_for_reading,
    scores_by_attack,
    thresholds,
)
from ldatlib.report.tables.features import (
    feature_distances,
    feature_numbers,
    feature_numbers_for_reading,
    why_undefined,
)
from ldatlib.report.tables.files import path
from ldatlib.report.tables.likelihood import (
    chosen_by_validation,
    likelihood_study,
    likelihood_study_for_reading,
)
from ldatlib.report.tables.masking import alarms, masking_rows, masking_verdicts
from ldatlib.report.tables.rejection import rejection_for_reading, rejection_rows
from ldatlib.report.tables.training import trainings
from ldatlib.report.tables.white_box import over_seeds, table1, table1_beside_paper
from ldatlib.report.tables.worst_case import scrutiny, scrutiny_for_reading

__all__ = [
    "COUNTS",
    "WORST_CASES",
    "adaptive_at_frozen",
    "adaptive_for_reading",
    "adaptive_rows",
    "alarms",
    "areas",
    "basic_row",
    "chosen_by_validation",
    "feature_distances",
    "feature_numbers",
    "feature_numbers_for_reading",
    "likelihood_study",
    "likelihood_study_for_reading",
    "masking_rows",
    "masking_verdicts",
    "outcome_rows",
    "outcomes_for_reading",
    "over_seeds",
    "path",
    "rejection_for_reading",
    "rejection_rows",
    "scores_by_attack",
    "scrutiny",
    "scrutiny_for_reading",
    "table1",
    "table1_beside_paper",
    "table3",
    "table3_beside_paper",
    "table4",
    "table4_beside_paper",
    "thresholds",
    "trainings",
    "transfer_matrix",
    "why_undefined",
]
