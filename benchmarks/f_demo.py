"""(f) The whole demo, by notebook and by kind of job, from an empty folder and again.

Runs ``runner.py`` twice in a folder that is removed afterwards and reads the records' seconds.
``--peak`` adds the memory at most: the sum of the proportional set sizes of all its processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from side_by_side import begin

PROJECT = Path(__file__).resolve().parent.parent


def family(root: int) -> set[int]:
    """A process and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, grown = {root}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return found


def proportional_set_size(pids: set[int]) -> int:
    """Bytes, each shared page counted in parts."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def run(arguments: list[str], peak: bool) -> tuple[float, float, list[str]]:
    """Seconds, bytes at most, and the runner's lines about notebooks."""
    started, highest = time.perf_counter(), 0
    command = [sys.executable, str(PROJECT / "runner.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    while process.poll() is None:
        if peak:
            highest = max(highest, proportional_set_size(family(process.pid)))
        time.sleep(0.5)
    reader.join()
    if process.returncode:
        raise SystemExit(f"the runner ended with status {process.returncode}")
    notebooks = [line.strip() for line in lines if ".ipynb in " in line]
    return time.perf_counter() - started, highest, notebooks


def by_kind(folder: Path) -> None:
    """Core-seconds of a run's records, kind by kind."""
    kinds: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for path in Path(folder, "records").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        kinds[record["kind"]][0] += 1
        kinds[record["kind"]][1] += record["seconds"]
    print("| kind of job | jobs | core-seconds |\n| --- | ---: | ---: |")
    for kind, (count, seconds) in sorted(kinds.items(), key=lambda item: -item[1][1]):
        print(f"| `{kind}` | {count} | {seconds:.0f} |")
    total = sum(seconds for _, seconds in kinds.values())
    print(f"| all | {sum(count for count, _ in kinds.values())} | {total:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", action="store_true", help="measure memory, too")
    parser.add_argument("--found", metavar="DIR", help="only count what a run there took")
    parser.add_argument("--quick", action="store_true", help="one notebook: does it run?")
    parser.add_argument("arguments", nargs="*", help="passed to runner.py, after --")
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    begin(argparse.Namespace(threads=threads, device="cpu"))
    if options.found:
        by_kind(Path(options.found))
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--out", folder, *options.arguments]
        if options.quick:
            arguments += ["--only", "01", "--set", "plane_epochs=1"]
        for name in ("cold", "again"):
            seconds, highest, notebooks = run(arguments, options.peak)
            memory = f", {highest / 2**30:.2f} GiB at most" if options.peak else ""
            print(f"{name}: {seconds:.0f} s wall{memory}; notebooks:")
            print("; ".join(line.partition("] ")[2] for line in notebooks) + "\n")
        by_kind(Path(folder))


if __name__ == "__main__":
    main()
