"""The shape of every record that a run leaves: one structure a kind, in JSON and in code.

A record's JSON has the fields of its structure and no others; ``docs/records.md`` and
``docs/records.schema.json`` are made from the structures. Beside these fields the file has
``sha256``, which ``ldatlib.files`` writes and checks.
"""

import json
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from ldatlib.errors import UserError
from ldatlib.files import path_of, read_json
from ldatlib.study.records.attacked import Basic, Sweep, Transfer, Whitebox, WorstCase
from ldatlib.study.records.common import Provenance, Record, Said, Scored, SelfCheck, Share
from ldatlib.study.records.representation import Detection, Exploratory, Features
from ldatlib.study.records.scrutiny import Adaptive, Autoattack, Masking, Search
from ldatlib.study.records.training import Train

__all__ = [
    "RECORDS",
    "Adaptive",
    "Autoattack",
    "Basic",
    "Detection",
    "Exploratory",
    "Features",
    "Masking",
    "Provenance",
    "Record",
    "Said",
    "Scored",
    "Search",
    "SelfCheck",
    "Share",
    "Sweep",
    "Train",
    "Transfer",
    "Whitebox",
    "WorstCase",
    "check",
    "content",
    "convert",
    "read",
    "said",
    "schema",
]

R = TypeVar("R", bound=Record)
RECORDS: dict[str, type[Record]] = {
    "train": Train,
    "whitebox": Whitebox,
    "worst_case": WorstCase,
    "basic": Basic,
    "validation": Basic,
    "sweep_eps": Sweep,
    "sweep_steps": Sweep,
    "transfer": Transfer,
    "features": Features,
    "detection": Detection,
    "search": Search,
    "autoattack": Autoattack,
    "masking": Masking,
    "adaptive": Adaptive,
}


def convert(kind: str, found: dict[str, Any]) -> Record:
    """The structure of what a record's JSON holds; ``msgspec.ValidationError`` names a field."""
    return msgspec.convert(found, RECORDS[kind])


def content(record: Record) -> dict[str, Any]:
    """What the record's JSON holds."""
    return msgspec.to_builtins(record)


def check(kind: str, found: dict[str, Any]) -> None:
    """Hold what is about to be written against its structure.

    Raises ``TypeError`` with the field's name: whoever writes it has a defect.
    """
    if found.get("kind") != kind:
        raise TypeError(f"a record of kind {kind} says that it is of kind {found.get('kind')!r}")
    try:
        # Through JSON once: what will be read back has lists for tuples and strings for keys.
        convert(kind, json.loads(json.dumps(found, allow_nan=False)))
    except msgspec.ValidationError as error:
        raise TypeError(f"a record of kind {kind}: {error}") from error


@overload
def read(path: Path) -> Record: ...
@overload
def read(path: Path, shape: type[R]) -> R: ...
def read(path: Path, shape: type[Record] = Record) -> Record:
    """The record in a file, as the structure of its kind.

    Raises ``UserError`` for a file that is cut or altered, of an unknown kind or of another one
    than ``shape`` is for, or not as this version writes it; it names file and field.
    """
    path = path_of(path)
    found = read_json(path)
    kind = found.get("kind")
    if not isinstance(kind, str) or kind not in RECORDS:
        known = ", ".join(RECORDS)
        raise UserError(
            f"the record {path} is of an unknown kind {kind!r}; known: {known}; delete it, or "
            "read it with the version that wrote it"
        )
    if not issubclass(RECORDS[kind], shape):
        raise UserError(f"the record {path} is of kind {kind}, which is not what is needed here")
    try:
        return convert(kind, found)
    except msgspec.ValidationError as error:
        raise UserError(
            f"the record {path} is not as this version writes kind {kind}: {error}; delete it, "
            "and it is computed again"
        ) from error


def said(record: Record) -> list[Said]:
    """What was said before the first attack of a record, in any norm; each once."""
    norms = getattr(record, "norms", {})
    found = [entry for part in (record, *norms.values()) for entry in getattr(part, "gate", ())]
    return list(dict.fromkeys(found))


def schema() -> dict[str, Any]:
    """JSON Schema: ``kinds`` (kind -> reference) and the ``$defs`` of all structures."""
    references, components = msgspec.json.schema_components(
        RECORDS.values(), ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "kinds": dict(zip(RECORDS, references, strict=True)),
        "$defs": components,
    }
