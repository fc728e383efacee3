"""The command ``ldat``, also ``python -m ldatlib``: one training or evaluation, without Jupyter.

    ldat train --profile cifar10 --training ldat --out runs/gpu --time-limit 9m
    ldat evaluate --profile cifar10 --training ldat --kinds whitebox,autoattack --out runs/gpu
    ldat clean --profile demo
    ldat examine mine.py:make_model --data cifar10 --eps-linf 8/255 --dry-run
    ldat compare runs/examine-mine.py-make_model runs/examine-other.py-make_model

They need torch, torchvision, scikit-learn, pandas, safetensors, msgspec, filelock, joblib,
cloudpickle and tqdm; ``evaluate`` foolbox and pyautoattack, too. The output folder is one of the
runner's: ``runner.py --profile cifar10 --out runs/gpu`` takes what lies there for its own.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from importlib import metadata

from ldatlib.errors import UserError, exit_status

Work = Callable[[argparse.Namespace], int]
# Options that stand for a setting.
_SETTINGS = {"data": "data_root", "precision": "precision", "storage": "storage"}
_SETTINGS |= {"shard_mib": "shard_mib"}


def _say(text: str) -> None:
    print(text, flush=True)


def _open(options: argparse.Namespace):
    """The run that the options name."""
    from ldatlib.execution import use_device
    from ldatlib.study.cluster import cluster_of
    from ldatlib.study.run import open_run
    from ldatlib.study.settings import parse_assignments, parse_duration

    if options.device:
        use_device(options.device)
    limit = getattr(options, "time_limit", None)
    deadline = None if limit is None else time.time() + parse_duration(limit)
    overrides: dict[str, object] = dict(parse_assignments(options.assignments))
    if options.plugins:
        overrides["plugins"] = options.plugins
    for option, setting in _SETTINGS.items():
        if (value := getattr(options, option, None)) is not None:
            overrides[setting] = value
    processes = getattr(options, "processes", 1)
    address, apart = (getattr(options, name, None) for name in ("cluster", "apart"))
    cluster = cluster_of(address, bool(apart), processes)
    return open_run(options.profile, overrides, options.out, 1, deadline, processes, cluster)


def _listed(run) -> int:
    run.plan_without_data()
    print("\n".join(training.label for training in run.every_training()))
    return 0


def train(options: argparse.Namespace) -> int:
    """Train one network of a profile; leaves record, log and weights in the run's folder."""
    run = _open(options)
    if options.list:
        return _listed(run)
    run.records("train", [_chosen(run, options)], _say)
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Evaluate one trained network of a profile, attack by attack; leaves records."""
    from ldatlib.study.jobs import with_needs
    from ldatlib.study.kinds import KINDS

    run = _open(options)
    if options.list:
        return _listed(run)
    kinds, known = (
        [kind.strip() for kind in options.kinds.split(",")],
        [kind for kind in KINDS if kind != "train"],
    )
    for kind in kinds:
        if kind not in known:
            raise UserError(f"unknown kind {kind!r}; known: {', '.join(known)}")
    training = _chosen(run, options)
    if not run.jobs_of("train", [training])[0].done:
        raise UserError(
            f"{training.label} is not trained in {run.root}; "
            "run `ldat train` with the same options first"
        )
    # What they are made from is computed, too; networks are not trained on the way.
    jobs = [job for kind in kinds for job in with_needs(run, kind, [training])]
    run.complete([job for job in jobs if job.kind != "train"], _say)
    return 0


def _chosen(run, options: argparse.Namespace):
    if not options.training:
        raise UserError("name what to train or evaluate: --training ldat (--list names all)")
    return run.find_training(options.training, options.seed)


def clean(options: argparse.Namespace) -> int:
    """List the files of a run that these settings do not use, and remove them when asked.

    ``--remove`` deletes what an earlier numerics version has left; with ``--other-settings`` also
    what other overrides, seeds or switches made, which may be asked for again.
    """
    from ldatlib.files.locks import alone
    from ldatlib.study.clean import OTHER, unused

    run = _open(options)
    if not run.root.is_dir():
        raise UserError(f"no run in {run.root}; name its folder with --out DIR")
    with alone(run.root / "runner", "running the notebooks of"):
        found = unused(run)
        going = [f for f in found if options.remove and (options.other or f.reason != OTHER)]
        for file in found:
            name = file.path.relative_to(run.root)
            print(f"{file.size / 2**20:9.2f} MiB  {name}  ({file.reason})")
        for file in going:
            file.path.unlink(missing_ok=True)

    def total(files) -> str:
        return f"{len(files)} files, {sum(file.size for file in files) / 2**20:.2f} MiB"

    if not found:
        print(f"nothing unused in {run.root}")
    elif options.remove:
        print(f"removed: {total(going)}; kept: {total([f for f in found if f not in going])}")
    else:
        print(
            f"unused: {total(found)}; --remove deletes those of an earlier numerics version, "
            "with --other-settings all"
        )
    return 0


def examine(options: argparse.Namespace) -> int:
    """Examine any model: what is left under every attack, and whether to believe it."""
    from ldatlib.execution import use_device
    from ldatlib.report.examination.command import Request, run

    if options.device:
        use_device(options.device)
    given = {f.name: getattr(options, f.name) for f in fields(Request) if f.name != "command"}
    return run(Request(**given, command=shlex.join(["ldat", *options.argv])), _say)


def compare(options: argparse.Namespace) -> int:
    """Compare two examinations of the same images: what is left of each, tested in pairs."""
    from ldatlib.report.examination.comparison_command import run

    return run(options.first, options.second, options.out, _say)


def _examined(sub: argparse.ArgumentParser) -> None:
    """The options of ``examine``; defaults are those of ``Request``."""
    add = sub.add_argument
    add(
        "source",
        metavar="SOURCE",
        help="FILE.py:FUNCTION, MODULE:FUNCTION, a checkpoint NAME.safetensors, or NAME.pt2",
    )
    add("--trust", action="store_true", help="load NAME.pt2, which can run any code that is in it")
    add("--data", required=True, help="digits, cifar10, cifar100, a folder, or FILE.npz")
    add("--eps-linf", metavar="EPS", help="L-inf budget in pixel units, such as 8/255")
    add("--eps-l2", metavar="EPS", help="L2 budget in pixel units, such as 0.5")
    add("--images", type=int, default=1000, metavar="N", help="at most so many (default: 1000)")
    add("--effort", default="standard", help="quick, standard (default) or thorough")
    add("--reject", metavar="SCORE", help="posterior, log_likelihood, or FILE.py:FUNCTION")
    add("--accept", type=float, default=0.95, help="clean share it accepts (default: 0.95)")
    add(
        "--sibling",
        action="append",
        default=[],
        metavar="SOURCE",
        help="another network of the same task, for the test by transfer; may be repeated",
    )
    add("--threshold-data", metavar="DATA", help="images that freeze its threshold; as --data")
    add("--eot", type=int, metavar="N", help="passes that a randomised model is averaged over")
    add("--out", metavar="DIR", help="output folder (default: runs/examine-SOURCE)")
    add("--time-limit", metavar="TIME", help="stop in good order, such as 9m; go on next time")
    add("--dry-run", action="store_true", help="say what would be computed and stop")
    add("--processes", type=int, default=1, metavar="N", help="on the CPU (default: 1)")
    add("--cluster", metavar="ADDRESS", help="attack on a Dask scheduler's workers")
    add("--batch-size", type=int, default=128, metavar="N", help="images a batch (default: 128)")
    add("--seed", type=int, default=0, help="of the attacks (default: 0)")
    add("--data-root", metavar="DIR", help="where CIFAR's archive lies or is put")
    add("--image-size", type=int, metavar="N", help="side of a folder's pictures")
    add("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")


def parser() -> argparse.ArgumentParser:
    """The command line of ``ldat``."""
    top = argparse.ArgumentParser(prog="ldat", description=__doc__.splitlines()[0])
    top.add_argument("--version", action="version", version=f"ldat {_version()}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, work: Work, *, profile: str) -> argparse.ArgumentParser:
        about = work.__doc__.splitlines()[0]
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(work=work)
        add = sub.add_argument
        add("--profile", default=profile, help=f"settings by name (default: {profile})")
        add("--set", dest="assignments", action="append", default=[], metavar="NAME=VALUE")
        add("--plugin", dest="plugins", action="append", metavar="FILE", help="a file of your own")
        add("--data", metavar="DIR", help="folder of the data; same as --set data_root=DIR")
        add("--out", metavar="DIR", help="output folder (default: runs/PROFILE)")
        add("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
        return sub

    def of_one_training(sub: argparse.ArgumentParser) -> None:
        add = sub.add_argument
        add("--training", help="which: ldat, standard, ... (--list names all)")
        add("--seed", type=int, help="another seed than the profile's")
        add("--time-limit", metavar="TIME", help="stop in good order, such as 9m; go on next time")
        add("--list", action="store_true", help="list the profile's trainings and stop")
        add("--cluster", metavar="ADDRESS", help="on a Dask scheduler's workers: tcp://HOST:8786")
        about = "they do not see the folder: files travel"
        add("--no-shared-folder", dest="apart", action="store_true", help=about)

    sub = command("train", train, profile="cifar10")
    of_one_training(sub)
    sub.add_argument("--precision", help="float32, bfloat16, auto; same as --set precision=...")
    sub.add_argument(
        "--half",
        dest="storage",
        action="store_const",
        const="half",
        help="keep float16 weights; same as --set storage=half",
    )
    sub.add_argument("--shard-mib", metavar="N", help="in files of N MiB; as --set shard_mib=N")

    sub = command("evaluate", evaluate, profile="cifar10")
    of_one_training(sub)
    sub.add_argument(
        "--kinds",
        default="whitebox",
        help="what to measure, by comma (default: whitebox); an unknown one lists all",
    )
    sub.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="processes on the CPU that share worst_case or autoattack (default: 1)",
    )

    sub = command("clean", clean, profile="demo")
    sub.add_argument(
        "--remove", action="store_true", help="delete what an earlier version has left"
    )
    sub.add_argument(
        "--other-settings",
        dest="other",
        action="store_true",
        help="with --remove: also what other overrides, seeds or switches made",
    )

    about = examine.__doc__.splitlines()[0]
    sub = commands.add_parser("examine", help=about, description=about)
    sub.set_defaults(work=examine)
    _examined(sub)

    about = compare.__doc__.splitlines()[0]
    sub = commands.add_parser("compare", help=about, description=about)
    sub.set_defaults(work=compare)
    sub.add_argument("first", metavar="A", help="folder of an examination, or examination.json")
    sub.add_argument("second", metavar="B", help="another of the same images")
    sub.add_argument("--out", metavar="DIR", help="output folder (default: runs/compare-A-B)")
    return top


def _version() -> str:
    try:
        return metadata.version("ldatlib")
    except metadata.PackageNotFoundError:
        return "(from a checkout that is not installed)"


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit status: 0, 1 for bad input, 3 where a time limit came first."""
    options = parser().parse_args(argv)
    options.argv = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: options.work(options))


if __name__ == "__main__":
    sys.exit(main())
