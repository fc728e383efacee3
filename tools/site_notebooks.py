"""Notebooks of the site: as a run has executed them, or a page that says why there is none."""

import json
from collections.abc import Iterable
from pathlib import Path


def sources(notebook: dict) -> list[tuple[str, str]]:
    """What stands in its cells, without the one that papermill puts in."""
    return [
        (cell["cell_type"], "".join(cell["source"]).rstrip())
        for cell in notebook["cells"]
        if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]


def executed(path: Path, original: Path, profile: str) -> dict | None:
    """A run's notebook; ``None`` where it was cut short, of other settings, or is another today."""
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    told = found["metadata"].get("papermill", {})
    given = told.get("parameters", {})
    if told.get("exception") or given.get("profile") != profile or given.get("overrides"):
        return None
    if sources(found) != sources(json.loads(original.read_text(encoding="utf-8"))):
        return None
    return found


def shown(notebook: dict, profile: str, title: str, other: str) -> dict:
    """For a page: what a reader would set stands in the parameters cell, no folder of a machine.

    ``title`` goes behind the first heading, ``other`` is a line below it.
    """
    cells: list[dict] = []
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "injected-parameters" in tags:
            continue
        source = "".join(cell["source"])
        if "parameters" in tags:
            source = source.replace('profile = "demo"', f'profile = "{profile}"')
        if not cells:
            head, _, rest = source.partition("\n")
            source = f"{head}{title}\n\n{other}\n{rest}"
        cells.append({**cell, "metadata": {"tags": tags}, "source": source})
    kernel = {k: notebook["metadata"][k] for k in ("kernelspec", "language_info")}
    return {**notebook, "cells": cells, "metadata": kernel}


def absent(heading: str, missing: Iterable[str], other: str) -> str:
    """Instead of a notebook some of whose results are not published."""
    of: dict[str, list[str]] = {}
    for name in missing:
        kind, _, training = name.partition(" ")
        of.setdefault(training, []).append(kind)
    total = sum(map(len, of.values()))
    count = f"{total} of its results are" if total > 1 else "one of its results is"
    listed = "\n".join(f"- `{training}`: {', '.join(of[training])}" for training in sorted(of))
    return (
        f"{heading}\n\n{other}\n\n"
        f"**Not drawn.** This notebook was not executed on CIFAR-10, as {count} not published, and "
        "the images that it takes to compute them are not part of the project. By training:\n\n"
        f"{listed}\n\n"
        "What is measured of its subject stands in [CIFAR-10 on two cores](../docs/cifar10.md).\n"
    )
