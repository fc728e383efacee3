"""The kinds of results that a run computes, one room a subject. ``KINDS`` has them by name."""

from ldatlib.study.kinds.adaptive import ADAPTIVE
from ldatlib.study.kinds.base import Kind
from ldatlib.study.kinds.detector import DETECTION
from ldatlib.study.kinds.features import FEATURES
from ldatlib.study.kinds.scrutiny import AUTOATTACK, MASKING
from ldatlib.study.kinds.search import SEARCH
from ldatlib.study.kinds.sweeps import SWEEP_EPS, SWEEP_STEPS
from ldatlib.study.kinds.train import TRAIN
from ldatlib.study.kinds.transfer import TRANSFER
from ldatlib.study.kinds.white_box import BASIC, VALIDATION, WHITE_BOX, WORST_CASE

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        TRAIN,
        WHITE_BOX,
        WORST_CASE,
        BASIC,
        VALIDATION,
        SWEEP_EPS,
        SWEEP_STEPS,
        TRANSFER,
        FEATURES,
        DETECTION,
        SEARCH,
        AUTOATTACK,
        MASKING,
        ADAPTIVE,
    )
}
