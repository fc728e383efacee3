"""Write the pages of docs that are made from the code: records and their schema, the glossary.

python tools/reference.py            writes docs/records.md, records.schema.json, glossary.md
python tools/reference.py --check    says what would change; exit status 1 if anything
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

RECORDS_HEAD = """\
# Records: what a run leaves, field by field

<!-- Made by tools/reference.py from ldatlib/study/records: change the structures there. -->

Whatever a run measures it writes into `runs/PROFILE/records/KIND-TRAINING-KEY.json`; those that
are published lie in `data/results/cifar10-small/records`. They are plain JSON with numbers as
numbers, and can be read without this project. [records.schema.json](records.schema.json) says the
same as this page for machines (JSON Schema 2020-12); `ldatlib.study.records.read(path)` gives a
record as a structure with these fields as attributes.

- Shares and accuracies lie in [0,1]; budgets are in pixel units of images in [0,1].
- `right` and its like are strings of `0` and `1`, a digit an image, in the order of the split.
- A mapping "by attack" has keys `NORM_METHOD`, such as `linf_pgd`; the norms are `linf` and `l2`.
- Beside the fields below every file has `sha256`: that of the other fields as JSON with sorted
  keys. A file that was cut or altered is refused.
- A field that is not always there has a default; one that is not listed does not exist.
"""
TYPES = {"number": "number", "integer": "integer", "string": "text", "boolean": "true or false"}


def words(shape: dict[str, Any]) -> str:
    """The type of a field, from its schema, for reading."""
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in shape:
        return " or ".join(words(option) for option in shape["anyOf"])
    kind = shape.get("type")
    if kind == "array":
        return f"list of {words(shape['items'])}"
    if kind == "object":
        values = words(shape.get("additionalProperties", {}))
        return f"mapping to {values}" if values else "mapping"
    if kind == "null":
        return "null"
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
    limits = " and ".join(f"{word} {shape[key]:g}" for key, word in bounds.items() if key in shape)
    name = "digits 0 and 1" if "pattern" in shape else TYPES.get(kind or "", "")
    return f"{name} {limits}".strip()


def table(structure: dict[str, Any], without: set[str]) -> list[str]:
    """Rows of the fields of a structure, those of the header left out."""
    lines = ["| field | type | meaning |", "| --- | --- | --- |"]
    for name, shape in structure["properties"].items():
        if name in without:
            continue
        optional = "" if name in structure.get("required", []) else " (optional)"
        lines.append(f"| `{name}`{optional} | {words(shape)} | {shape.get('description', '')} |")
    return lines


def records_page() -> str:
    from ldatlib.study.records import RECORDS, Record, schema

    parts = schema()["$defs"]
    # The header is a structure of its own in the code, and part of each kind's in the schema.
    header = {field.encode_name for field in _fields(Record)}
    kinds: dict[str, list[str]] = {}
    for kind, structure in RECORDS.items():
        kinds.setdefault(structure.__name__, []).append(kind)
    anyone = parts[RECORDS["train"].__name__]
    shown = {name: shape for name, shape in anyone["properties"].items() if name in header}
    lines = [RECORDS_HEAD, "## Every record", ""]
    lines += table({**anyone, "properties": shown}, set())
    for name, own in kinds.items():
        title = ", ".join(f"`{kind}`" for kind in own)
        lines += ["", f"## {title}", "", parts[name]["description"], ""]
        lines += table(parts[name], header)
    lines += ["", "## Parts", ""]
    for name, structure in sorted(parts.items()):
        if name not in kinds:
            lines += [f"### {name}", "", structure["description"], "", *table(structure, set()), ""]
    return "\n".join(lines).rstrip() + "\n"


def _fields(structure: type) -> tuple:
    import msgspec

    return msgspec.structs.fields(structure)


def schema_page() -> str:
    from ldatlib.study.records import schema

    return json.dumps(schema(), indent=1) + "\n"


def pages() -> dict[str, str]:
    """Path below docs -> content."""
    from ldatlib.report import glossary

    return {
        "records.md": records_page(),
        "records.schema.json": schema_page(),
        "glossary.md": glossary.page(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    stale = []
    for name, content in pages().items():
        path = PROJECT / "docs" / name
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            stale.append(name)
            if not options.check:
                path.write_text(content, encoding="utf-8")
    print("differs from the code:" if options.check else "rewritten:", stale or "nothing")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
