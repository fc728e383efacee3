"""What a result is found by, so that it is found again as long as nothing it depends on changes.

A key is a hash of what decides the numbers: the data's fingerprint, the training's configuration,
what is measured and how, and the numerics version of the kind. Of a configuration only what is
not at its default is hashed, and only what the defence uses (each has its own settings): a new
field with a default leaves every key as it is. So a default must never be changed in place:
``tests/study/test_keys.py`` pins today's keys.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass

# The version of each kind's numbers: raised when the same settings give other numbers than before.
# Only what is made from that kind's results is then computed anew; everything of ``train``.
# tests/study/test_golden.py holds a tiny run of every kind against stored figures.
NUMERICS = {
    "train": 1,
    "whitebox": 1,
    "worst_case": 2,
    "basic": 1,
    "validation": 1,
    "sweep_eps": 1,
    "sweep_steps": 1,
    "transfer": 1,
    "features": 2,
    "detection": 1,
    "search": 1,
    "autoattack": 1,
    "masking": 4,
    "adaptive": 2,
}
LENGTH = 10


def minimal(value: object) -> object:
    """A configuration as JSON values, without what is at its default.

    Dataclasses become dictionaries of the fields that differ from their default; of a mapping,
    entries that are None are left out, so that a setting added later may default to that. What
    tells classes apart that stand for one another, such as adversaries, is their ``kind``.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kept = {"kind": value.kind} if hasattr(value, "kind") else {}
        for field in fields(value):
            own = getattr(value, field.name)
            if field.type is float and isinstance(own, int):
                own = float(own)  # 1 and 1.0 are one setting
            if field.default is not MISSING and own == field.default:
                continue
            if field.default_factory is not MISSING and own == field.default_factory():
                continue
            kept[field.name] = minimal(own)
        return kept
    if isinstance(value, Mapping):
        return {str(k): minimal(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [minimal(element) for element in value]
    return value


def full(value: object) -> object:
    """The same with every field, as records show it."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(k): full(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [full(element) for element in value]
    return value


def digest(content: dict) -> str:
    """The key of this content: the first characters of its SHA-256."""
    text = json.dumps(minimal(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
