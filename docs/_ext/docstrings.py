"""The docstrings of this project for Sphinx: sections as in numpydoc, whose entries are sentences.

An entry is ``name : what it is``, where numpydoc has a type: types stand in the signatures. Each
section becomes a field of a list of entries. Names of the public library become links, and the
settings of a profile follow from its fields.
"""

import re
from dataclasses import fields, is_dataclass

import ldatlib

SECTIONS = ("Parameters", "Attributes", "Returns", "Raises")
_ENTRY = re.compile(r"([A-Za-z_*]\w*(?:, [A-Za-z_*]\w*)*) ?: (.+)")
# Names of one common word stand for other things too: "train" is also a kind of record.
_LINKED = [name for name in ldatlib.__all__ if "_" in name or not name.islower()]
_LITERAL = re.compile(rf"``({'|'.join(_LINKED)})``")


def entry(line: str) -> str:
    """``a, b : text`` with its names in bold."""
    names, text = _ENTRY.fullmatch(line).groups()
    bold = ", ".join(f"**{name}**" for name in names.replace("*", r"\*").split(", "))
    return f"{bold}: {text}"


def as_fields(lines: list[str]) -> list[str]:
    """A docstring's lines with its sections as fields, entries one below the other."""
    made, inside = [], False
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line in SECTIONS and set(below) == {"-"}:
            inside = True
            made += ["", f":{line}:", ""]
        elif inside and set(line) == {"-"}:
            continue
        elif inside and _ENTRY.fullmatch(line):
            made += ["", f"    {entry(line)}"]
        elif inside:
            made.append(f"    {line.strip()}".rstrip())
        else:
            made.append(line)
    return made


def setting(field) -> str:
    """What a field of a profile is, from what it says of itself."""
    about, kind = field.metadata, getattr(field.type, "__name__", None)
    parts = [kind if isinstance(field.type, type) and kind else str(field.type)]
    if "low" in about:
        parts.append(f"{about['low']:,} to {about['high']:,}")
    if "known" in about:
        known = about["known"]() if callable(about["known"]) else about["known"]
        parts.append(", ".join(f"``{name}``" for name in known))
    return f"**{field.name}** ({'; '.join(parts)}; ``{field.default!r}``): {about['about']}."


def settings(found: object) -> list[str]:
    """The settings of a dataclass whose fields say what they are about; none of any other."""
    if not (isinstance(found, type) and is_dataclass(found)):
        return []
    said = [setting(field) for field in fields(found) if "about" in field.metadata]
    if not said:
        return []
    return ["", ":Settings:", "", *(line for text in said for line in (f"    {text}", ""))]


def process(app, what, name, obj, options, lines: list[str]) -> None:
    if what == "data":
        # Not the docstring of its type: what a constant is for stands in the page itself.
        return lines.clear()
    made = [_LITERAL.sub(r":py:obj:`~ldatlib.\1`", line) for line in as_fields(lines)]
    lines[:] = made + settings(obj)


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
