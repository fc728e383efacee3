"""Kill a run at random moments, start it again until it ends, and hold it against an unbroken one.

    python tools/storm.py --kills 100          and its figures into data/results/storm.json
    python tools/storm.py --kills 3 --only 03  a short one, which writes nothing

Each round is one run in a small file system of its own: SIGKILL to every process of it, between
two files or while one is written; now and then two runners at once, a full disk, a time limit, or
a runner killed without its workers. After every kill what is finished is listed; it may never be
computed again. Needs Linux; without the right to mount, a limit on the size of files stands for
the full disk. Starts are forks of this process, which has imported the library.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

# Bits are compared: sums come in one order.
os.environ["OMP_NUM_THREADS"] = "1"
PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tools")]

from storm_round import FAULTS, SHOWN, Counts, Round, settings, start, wait  # noqa: E402

RESULT = PROJECT / "data" / "results" / "storm.json"
PAGE = PROJECT / "docs" / "reliability.md"
BEGIN, END = "<!-- begin storm -->\n", "<!-- end storm -->"


def unbroken(home: Path, only: list[str] | None, shown: tuple[str, ...]) -> Path:
    """A run that nothing disturbs."""
    root, log = home / "unbroken", home / "unbroken.log"
    chosen = [f"--only={number}" for number in only or ()]
    arguments = [*settings(), *chosen, "--out", str(root), "--jobs", "1"]
    if status := wait(start(arguments, shown, log)):
        raise RuntimeError(
            f"the unbroken run ended with {status}: {log.read_text(encoding='utf-8')}"
        )
    return root


def _round(given: tuple) -> Counts:
    number, kills, home, reference, options = given
    prepare()
    found = Round(number, options.seed, home, options).go(kills, reference)
    shutil.rmtree(home / f"round-{number}", ignore_errors=True)
    print(f"round {number}: {found.kills} kills, {found.files} files", *found.losses, sep="\n  ")
    sys.stdout.flush()
    return found


def prepare() -> None:
    """Import what a run imports: its starts are forks."""
    import foolbox  # noqa: F401
    import joblib  # noqa: F401
    import papermill  # noqa: F401
    import pyautoattack  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch
    import torch._dynamo  # noqa: F401 - loaded by torch itself at the first plan

    import ldatlib.study.run  # noqa: F401
    import runner  # noqa: F401

    torch.set_num_threads(1)


def storm(options: argparse.Namespace, home: Path) -> dict:
    """Rounds until there were so many kills; their figures."""
    # What kernels leave in the home folder is none of its.
    began, total, number = time.perf_counter(), Counts(), 0
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        os.environ[name] = str(home / name.lower())
    prepare()
    reference = unbroken(home, options.only, SHOWN if options.notebooks else ())
    spawn = multiprocessing.get_context("spawn")
    while total.kills < options.kills and number < options.kills:
        left = options.kills - total.kills
        sizes: list[int] = []
        while left > 0 and len(sizes) < options.side_by_side:
            sizes.append(min(options.kills_a_round, left))
            left -= sizes[-1]
        parts = [(number + i, kills, home, reference, options) for i, kills in enumerate(sizes)]
        if options.side_by_side == 1:
            rounds = [_round(parts[0])]
        else:
            with spawn.Pool(len(parts), maxtasksperchild=1) as pool:
                rounds = pool.map(_round, parts, chunksize=1)
        for found in rounds:
            total.add(found)
        number += len(parts)
    return {
        "seed": options.seed,
        "rounds": number,
        "kills": total.kills,
        "kills_by_phase": dict(sorted(total.phases.items())),
        "kills_in_a_write": total.cut_writes,
        "faults": dict(sorted(total.faults.items())),
        "starts": total.starts,
        "files_compared": total.files,
        "finished_pieces": total.kept,
        "leftovers_ignored": total.leftovers,
        "longest_unsaved_seconds": round(total.longest_unsaved, 1),
        "losses": total.losses,
        "seconds": round(time.perf_counter() - began),
    }


def section(found: dict) -> str:
    """The figures for the page."""
    faults = dict(found["faults"])
    refused = faults.pop("full, refused", 0)
    words = {
        "twice": "two runners at once",
        "full": "full disks",
        "limit": "time limits",
        "orphans": "runners killed without their workers",
    }
    named = ", ".join(f"{faults.get(name, 0)} {said}" for name, said in words.items())
    phases = ", ".join(f"{name} {count}" for name, count in found["kills_by_phase"].items())
    rows = {
        "rounds, each one whole run": found["rounds"],
        "kills": found["kills"],
        "of them in the middle of a file": found["kills_in_a_write"],
        "kills by phase": phases,
        "faults": f"{named}; {refused} full disks ended a run with one line",
        "starts": found["starts"],
        "files compared with the unbroken run": found["files_compared"],
        "finished pieces of work (records, epochs, attacks), none computed again": found[
            "finished_pieces"
        ],
        "temporary files and locks left by kills, all passed over": found["leftovers_ignored"],
        "longest time without anything kept": f"{found['longest_unsaved_seconds']} s",
        "**losses**": f"**{len(found['losses'])}**",
        "duration": f"{found['seconds'] / 60:.0f} min",
    }
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(
        [*lines, "", *(f"- {loss.splitlines()[0]}" for loss in found["losses"])]
    ).strip()


def page(text: str) -> str:
    """The page with the section of what was measured last."""
    before, rest = text.split(BEGIN)
    measured = "Not measured yet."
    if RESULT.is_file():
        measured = section(json.loads(RESULT.read_text(encoding="utf-8")))
    return f"{before}{BEGIN}{measured}\n{END}{rest.split(END)[1]}"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--kills", type=int, default=100)
    add("--seed", type=int, default=0)
    add("--faults", nargs="*", choices=FAULTS, default=FAULTS, help="none: --faults alone")
    add("--only", action="append", metavar="NN", help="what this notebook computes, no notebook")
    add("--kills-a-round", type=int, default=12)
    add("--side-by-side", type=int, default=2, metavar="N", help="rounds at once")
    add("--no-mount", action="store_true", help="as where nothing may be mounted")
    add("--keep", type=Path, metavar="DIR", help="work there, and leave the unbroken run")
    add("--page", action="store_true", help="only rewrite the section of docs/reliability.md")
    options = parser.parse_args(argv)
    options.notebooks = not options.only
    return options


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if options.page:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        found = storm(options, options.keep or Path(folder))
    print(json.dumps(found, indent=1))
    if not options.only:
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if found["losses"] else 0


if __name__ == "__main__":
    sys.exit(main())
