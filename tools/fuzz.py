"""Call what users call with generated input, many thousand times, and count how it ends.

    python tools/fuzz.py --examples 10000           the long run, some ten minutes of a core
    python tools/fuzz.py --examples 500 --only folders --seed 3

A call may succeed, or be refused in one line; everything else is printed as a finding, and the
exit status is 1. ``--write`` keeps the figures in ``data/results/fuzz.json``, from which
``tools/published_tables.py`` makes the table of docs/reliability.md; those of other targets stay
where they are of as many calls in all and of the same seed. The calls: ``tests/fuzz``.
"""

import argparse
import platform
import resource
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests"), str(PROJECT / "tests" / "fuzz")]

RESULT = PROJECT / "data" / "results" / "fuzz.json"
# A call that asks for more has found something; this machine must not pay for it.
MOST_MEMORY = 6 * 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000, help="calls in all")
    parser.add_argument("--seed", type=int, help="other calls than the usual ones")
    parser.add_argument("--only", action="append", help="this target alone (repeat for more)")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULT.name}")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    from fuzzing import FINDING, REFUSAL, SUCCESS, run
    from targets import TARGETS

    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    limit = used * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    chosen = [target for target in TARGETS if not options.only or target.name in options.only]
    # Of a run of some targets that is kept, each has its part of the whole.
    shares = 1 if options.write else sum(target.share for target in chosen)
    rows, found = [], 0
    for target in chosen:
        started = time.process_time()
        tally = run(target, round(options.examples * target.share / shares), options.seed)
        counts = [tally.counts[ending] for ending in (SUCCESS, REFUSAL, FINDING)]
        print(
            f"{target.name:14} {sum(counts):6} calls  {counts[0]:6} succeeded  "
            f"{counts[1]:6} refused  {counts[2]:4} findings  {tally.seconds:6.1f} s",
            flush=True,
        )
        for said in tally.findings.values():
            print(f"  {said}", flush=True)
        found += counts[2]
        rows.append(
            {
                "target": target.name,
                "about": target.about,
                "calls": sum(counts),
                "successes": counts[0],
                "refusals": counts[1],
                "findings": counts[2],
                "seconds": round(time.process_time() - started, 1),
            }
        )
    seconds = sum(row["seconds"] for row in rows)
    calls = sum(row["calls"] for row in rows)
    print(f"{calls} calls, {found} findings, {seconds:.0f} s of the processor")
    if options.write:
        write(options.examples, options.seed, rows, [target.name for target in TARGETS])
    return 1 if found else 0


def write(examples: int, seed: int | None, rows: list[dict], names: list[str]) -> None:
    """These rows, and those of other targets that the same run has left, in the targets' order."""
    from filelock import FileLock

    from ldatlib.files import read_json, write_json

    about = {"examples": examples, "seed": seed, "python": platform.python_version()}
    lock = RESULT.with_name(f".{RESULT.name}.lock")
    with FileLock(lock):
        old = read_json(RESULT) if RESULT.is_file() else {}
        kept = old["targets"] if old and {key: old[key] for key in about} == about else []
        by_name = {row["target"]: row for row in [*kept, *rows]}
        ordered = [by_name[name] for name in names if name in by_name]
        write_json(RESULT, about | {"targets": ordered})
        lock.unlink()


if __name__ == "__main__":
    sys.exit(main())
