"""Publish a run of cifar10-small: its records, logs and weights into data/results/cifar10-small.

    python tools/publish.py --set dataset=folder --set data_root=DIR --set data_title=TITLE

takes the same settings as the run itself. Whatever of it is done is published, nothing is
computed; files of an earlier publication that no longer belong are removed. ``--unpack`` is the way
back: it copies what is published into the run's folder, from which the run goes on.
"""

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

PROFILE = "cifar10-small"


def main() -> None:
    from cifar_seeds import SEEDS

    from ldatlib.study import published
    from ldatlib.study.profiles import RESULTS
    from ldatlib.study.run import open_run
    from ldatlib.study.settings import parse_assignments

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--out", help="folder of the run (default: runs/PROFILE)")
    parser.add_argument("--unpack", action="store_true", help="into the run's folder instead")
    options = parser.parse_args()
    run = open_run(PROFILE, parse_assignments(options.assignments), options.out)
    folder = RESULTS / PROFILE
    if options.unpack:
        # Without the attacked images, of which only some are kept: they are made again.
        published.unpack(folder, run.root, ("records", "checkpoints"))
        print(f"{folder} -> {run.root}")
        return
    # Notebook 01 draws features of images; those are not published.
    jobs = [job for number in range(2, 10) for job in run.plan(f"{number:02}")]
    more = open_run(PROFILE, parse_assignments(options.assignments) | SEEDS, options.out)
    jobs += more.jobs_of("train", more.trainings()) + more.jobs_of("whitebox", more.trainings())
    weights = {training.label for training in run.select_seed(run.trainings())}
    kept = set(published.publish(run, jobs, folder, weights))
    for path in [p for p in folder.rglob("*") if p.is_file() and p not in kept]:
        path.unlink()
    size = sum(path.stat().st_size for path in kept) / 2**20
    done = sum(job.done for job in {job.path: job for job in jobs}.values())
    print(f"{done} of {len({job.path for job in jobs})} results, {size:.1f} MiB in {folder}")


if __name__ == "__main__":
    main()
