"""Compare two folders of runs: every file whole, and everything in it equal but for time and host.

    python tools/compare_runs.py REFERENCE RUN

Tensors (weights, attacked images) must be equal to the bit, records and logs but for seconds and
provenance, tables but for seconds. Exit status 1 where anything differs.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

# What a killed process leaves: a file that it was writing, the lock that it held or was taking.
LEFT = re.compile(r"\..+\.(tmp|lock)([.-].+)?")
# What another run of the same may have otherwise.
_TIMES = {"seconds", "images_per_second", "provenance"}
COMPUTED = ("records", "checkpoints", "adversarial", "partial")
SHOWN = ("figures", "tables", "notebooks", "report.html")


def files(root: Path, parts: tuple[str, ...] = COMPUTED + SHOWN) -> dict[str, Path]:
    """The files of a run by name within it, without what a killed process leaves."""
    found = (path for part in parts for path in [root / part, *(root / part).rglob("*")])
    named = {str(path.relative_to(root)): path for path in sorted(found) if path.is_file()}
    return {name: path for name, path in named.items() if not LEFT.fullmatch(path.name)}


def leftovers(root: Path) -> list[str]:
    """What killed processes have left in a run."""
    found = (path for path in root.rglob(".*") if LEFT.fullmatch(path.name))
    return sorted(str(path.relative_to(root)) for path in found)


def content(path: Path) -> Any:
    """What a file holds, read by whoever reads it in a run; an error where it is not whole."""
    import nbformat
    import pandas as pd
    from PIL import Image

    from ldatlib.files import load_tensors, read_json, read_json_lines

    if path.suffix == ".json":
        return read_json(path)
    if path.suffix == ".jsonl":
        return read_json_lines(path)
    if path.suffix == ".safetensors":
        return load_tensors(path)
    if path.suffix == ".csv":
        return pd.read_csv(path)
    if path.suffix == ".png":
        with Image.open(path) as image:
            return image.convert("RGBA").tobytes()
    if path.suffix == ".ipynb":
        return nbformat.read(path, 4)
    end = {".pdf": b"%%EOF", ".html": b"</html>"}[path.suffix]
    found = path.read_bytes()
    if not found.rstrip().endswith(end):
        raise ValueError(f"{path} does not end with {end.decode()}")
    return found


def timeless(value: object) -> object:
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in _TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def differences(reference: Path, run: Path, parts: tuple[str, ...] = COMPUTED + SHOWN) -> list[str]:
    """What of the run is missing, superfluous, not whole, or other than in the reference."""
    wanted, found = files(reference, parts), files(run, parts)
    said = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    said += [f"{name} is superfluous" for name in found.keys() - wanted.keys()]
    for name in sorted(wanted.keys() & found.keys()):
        try:
            if not _alike(content(wanted[name]), content(found[name]), found[name].suffix):
                said.append(f"{name} differs")
        except Exception as error:  # whatever a reader raises, the file is not whole
            said.append(f"{name} is not whole: {error}")
    return sorted(said)


def _alike(a, b, suffix: str) -> bool:
    import torch

    if suffix == ".safetensors":
        (tensors, header), (others, other) = a, b
        return (
            tensors.keys() == others.keys()
            and all(
                tensors[k].dtype == others[k].dtype and torch.equal(tensors[k], others[k])
                for k in tensors
            )
            and timeless(header) == timeless(other)
        )
    if suffix == ".csv":
        kept = [name for name in a if "second" not in name and name in b]
        return list(a) == list(b) and a[kept].equals(b[kept])
    # Pages and notebooks show seconds: whole, and without an error, is what can be asked.
    if suffix in (".html", ".pdf"):
        return True
    if suffix == ".ipynb":
        return [len(cell.get("outputs", ())) for cell in a.cells] == [
            len(cell.get("outputs", ())) for cell in b.cells
        ]
    return a == b if isinstance(a, bytes) else timeless(a) == timeless(b)


def finished(root: Path) -> dict[str, object]:
    """Every finished piece of work in a run -> what tells it from the same computed again.

    Records by their bytes, which hold seconds; epochs, and attacks of an interrupted evaluation,
    by their entry in the file that makes them count, seconds and all.
    """
    from ldatlib.files import load_tensors

    found: dict[str, object] = {}
    for name, path in files(root, COMPUTED).items():
        if path.suffix == ".json":
            content(path)
            found[name] = path.read_bytes()
        if (
            path.suffix != ".safetensors"
            or name.startswith("checkpoints")
            and ".state." not in name
        ):
            continue
        header = load_tensors(path)[1]
        key = path.name.partition(".")[0]
        if header["kind"] == "state":
            found |= {f"{key}, epoch {line['epoch']}": line for line in header["log"]}
        elif header["kind"] == "autoattack":
            found |= {f"{key}, {attack}": done for attack, done in header["done"].items()}
        elif header["kind"] == "partial":
            found[name] = path.read_bytes()
    for path in (root / "records").glob("*.jsonl"):
        key = path.stem.removeprefix("train-")
        # The state makes an epoch count; the log is written just before.
        if path.with_suffix(".json").is_file():
            lines = content(path)
            found |= {f"{key}, epoch {line['epoch']}": line for line in lines}
    return found


def lost(kept: dict[str, object], now: dict[str, object], root: Path) -> list[str]:
    """What was finished once and is not there, or is there computed again."""
    said = []
    for name, entry in kept.items():
        if name.startswith("partial/") and name not in now:
            # An evaluation's attacks are forgotten when its record is there.
            if not (root / "records" / f"{Path(name).name.partition('.')[0]}.json").is_file():
                said.append(f"{name} is gone")
        elif now.get(name) != entry:
            said.append(f"{name} was computed again" if name in now else f"{name} is gone")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    said = differences(options.reference, options.run)
    print(*said, f"{len(files(options.run))} files, {len(said)} differences", sep="\n")
    print(json.dumps({"leftovers": leftovers(options.run)}))
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
