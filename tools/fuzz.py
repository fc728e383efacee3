"""Call what users call with generated input, many thousand times, and count how it ends.

    python tools/fuzz.py --examples 10000           the long run, some ten minutes of a core
    python tools/fuzz.py --examples 500 --only folders --seed 3

A call may succeed, or be refused in one line; everything else is printed as a finding, and the
exit status is 1. ``--write`` keeps the figures in ``data/results/fuzz.json``, from which
``tools/published_tables.py`` makes the table of docs/reliability.md. The calls: ``tests/fuzz``.
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
    parser.add_argument("--only", help="this target alone")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULT.name}")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    from fuzzing import FINDING, REFUSAL, SUCCESS, run
    from targets import TARGETS

    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    limit = used * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    chosen = [target for target in TARGETS if options.only in (None, target.name)]
    shares = sum(target.share for target in chosen)
    rows, found = [], 0
    started = time.process_time()
    for target in chosen:
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
            }
        )
    seconds = round(time.process_time() - started)
    calls = sum(row["calls"] for row in rows)
    print(f"{calls} calls, {found} findings, {seconds} s of the processor")
    if options.write:
        from ldatlib.files import write_json

        about = {"seed": options.seed, "python": platform.python_version(), "seconds": seconds}
        write_json(RESULT, {"examples": options.examples, **about, "targets": rows})
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
