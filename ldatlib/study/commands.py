"""One training or one evaluation of a profile from the command line, without Jupyter.

    python -m ldatlib.training.trainer --profile cifar10 --training ldat --out runs/gpu --time-limit 9m
    python -m ldatlib.evaluation.robustness --profile cifar10 --training ldat --out runs/gpu --time-limit 9m

They need torch, torchvision, scikit-learn, pandas, safetensors and tqdm, and the second one foolbox
and pyautoattack. The output folder is one of the runner's: ``runner.py --profile cifar10 --out
runs/gpu`` takes what lies there for its own.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable

from ldatlib.errors import OutOfTime, UserError

# Exit status where the time limit came first: the same command goes on.
UNFINISHED = 3
_SHORTHANDS = {
    "data": "data_root",
    "precision": "precision",
    "storage": "storage",
    "shard_mib": "shard_mib",
}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """``"90"``, ``"90s"``, ``"9m"``, ``"1.5h"`` -> seconds; ``UserError`` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise UserError(f"a time limit is a number of s, m or h, such as 9m, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def _parser(module: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m ldatlib.{module}", description=about)
    add = parser.add_argument
    add("--profile", default="cifar10", help="settings by name (default: cifar10)")
    add("--training", help="what to train: ldat, standard, ... (--list names all)")
    add("--seed", type=int, help="another seed than the profile's")
    add("--set", dest="assignments", action="append", default=[], metavar="NAME=VALUE")
    add("--data", metavar="DIR", help="folder of the data; same as --set data_root=DIR")
    add("--out", metavar="DIR", help="output folder (default: runs/PROFILE)")
    add("--time-limit", metavar="TIME", help="stop in good order, such as 9m; go on next time")
    add("--list", action="store_true", help="list the profile's trainings and stop")
    return parser


def _open(options: argparse.Namespace):
    from ldatlib.study.experiments import open_run
    from ldatlib.study.profiles import parse_assignments

    limit = options.time_limit
    deadline = None if limit is None else time.time() + parse_duration(limit)
    overrides = parse_assignments(options.assignments)
    for option, setting in _SHORTHANDS.items():
        if (value := getattr(options, option, None)) is not None:
            overrides[setting] = value
    processes = getattr(options, "processes", 1)
    return open_run(options.profile, overrides, options.out, 1, deadline, processes)


def ended(work: Callable[[], int]) -> int:
    """The exit status of ``work``, with one line for whatever a user is meant to read."""
    try:
        return work()
    except OutOfTime as stop:
        print(f"{stop}; the same command goes on from there", flush=True)
        return UNFINISHED
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(parser: argparse.ArgumentParser, argv, work: Callable) -> int:
    options = parser.parse_args(argv)

    def chosen() -> int:
        run = _open(options)
        if options.list:
            run.plan_without_data()
            print("\n".join(training.label for training in run.every_training()))
            return 0
        if not options.training:
            raise UserError("name what to train or evaluate: --training ldat (--list names all)")
        work(run, run.find_training(options.training, options.seed), options)
        return 0

    try:
        return ended(chosen)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from what was kept", file=sys.stderr)
        return 130


def _say(text: str) -> None:
    print(text, flush=True)


def train_command(argv: list[str] | None = None) -> int:
    """Train one training of a profile; leaves record, log and weights in the run's folder."""
    parser = _parser("trainer", "Train one defence of a profile; started again, it goes on.")
    add = parser.add_argument
    add("--precision", help="float32, bfloat16, auto; same as --set precision=...")
    add(
        "--half",
        dest="storage",
        action="store_const",
        const="half",
        help="keep float16 weights; same as --set storage=half",
    )
    add("--shard-mib", metavar="N", help="in files of N MiB; same as --set shard_mib=N")

    def work(run, training, options):
        run.train([training], _say)

    return _run(parser, argv, work)


def evaluate_command(argv: list[str] | None = None) -> int:
    """Evaluate one trained training of a profile, attack by attack; leaves records in its folder."""
    from ldatlib.study.jobs import KINDS

    known = [kind for kind in KINDS if kind != "train"]
    parser = _parser("robustness", "Evaluate one trained defence; started again, it goes on.")
    parser.add_argument(
        "--kinds",
        default="whitebox",
        help=f"what to measure, by comma (default: whitebox): {', '.join(known)}",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="processes on the CPU that share worst_case or autoattack (default: 1)",
    )

    def work(run, training, options):
        kinds = options.kinds.split(",")
        for kind in kinds:
            if kind not in known:
                raise UserError(f"unknown kind {kind!r}; known: {', '.join(known)}")
        jobs = [job for kind in kinds for job in run.jobs_of(kind, [training])]
        run.complete(jobs, _say)

    return _run(parser, argv, work)
