"""Choose the network of the profile cifar10-small: robust accuracy for the same time of a core.

PGD-AT is trained with each candidate for about the same seconds on one core, on a schedule of
its own that ends there (cosine to 0), and attacked on validation images with PGD L-inf of 40
steps. The network that keeps most is chosen. Test images play no part.

    python tools/choose_network.py --set data_root=DIR --set dataset=folder --seconds 240

prints the table and writes data/results/cifar10-small-network.json.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from joblib import Parallel, delayed

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

# depth, width, stages, stride of the first convolution
CANDIDATES = ((10, 16, 4, 2), (10, 32, 4, 2), (8, 32, 3, 2), (10, 16, 4, 1))
TRAIN_SIZE, VAL_SIZE = 10_000, 2000


def measure(network: tuple[int, int, int, int], assignments: dict, seconds: float) -> dict:
    """PGD-AT with this network: how many epochs the time allows, and what they give."""
    import msgspec
    import torch

    from ldatlib import open_run

    torch.set_num_threads(1)
    names = ("depth", "width", "stages", "stem_stride")
    settings = dict(zip(names, network, strict=True)) | {"train_size": TRAIN_SIZE}
    settings |= assignments | {"val_every": 10_000, "val_size": VAL_SIZE}

    def opened(folder: str, **more):
        return open_run("cifar10-small", settings | more, folder, jobs=1)

    def silent(line: str) -> None:
        pass

    def seconds_of(images: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            run = opened(folder, epochs=1, train_size=images)
            return run.records("train", [run.training("standard")], say=silent)[0].seconds

    # The difference leaves out what every training pays once, its validation included.
    rate = 2560 / (seconds_of(3840) - seconds_of(1280))
    epochs = max(round(seconds * rate / TRAIN_SIZE), 1)
    with tempfile.TemporaryDirectory() as folder:
        run = opened(folder, epochs=epochs)
        (record,) = run.records("train", [run.training("standard")], say=silent)
        (found,) = run.records("validation", [run.training("standard")], say=silent)
    kept = ("seconds", "images_per_second", "parameters", "execution", "dataset", "fingerprint")
    row = {
        "network": record.config["network"],
        "epochs": epochs,
        "train_size": TRAIN_SIZE,
        "clean": found.clean_accuracy,
        **{key: column.robust_accuracy for key, column in found.attacks.items()},
        **{name: getattr(record, name) for name in kept},
    }
    return msgspec.to_builtins(row)


def main() -> None:
    from ldatlib.execution import default_device
    from ldatlib.files import write_json
    from ldatlib.study.provenance import provenance
    from ldatlib.study.schedule import default_processes
    from ldatlib.study.settings import parse_assignments

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240, help="of one core, a training")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    options = parser.parse_args()
    assignments = parse_assignments(options.assignments)
    started = time.perf_counter()
    rows = Parallel(n_jobs=default_processes())(
        delayed(measure)(network, assignments, options.seconds) for network in CANDIDATES
    )
    for row, network in zip(rows, CANDIDATES, strict=True):
        print(
            f"depth, width, stages, stride {network}: {row['epochs']} epochs in "
            f"{row['seconds']:.0f} s, clean {row['clean']['value']:.1%}, "
            f"PGD {row['linf_pgd']['value']:.1%}"
        )
    chosen = max(rows, key=lambda row: row["linf_pgd"]["value"])["network"]
    print(f"chosen: {chosen}; all in {time.perf_counter() - started:.0f} s")
    content = {
        "split": "val",
        "defence": "standard",
        "seed": 0,
        "seconds_of_a_core": options.seconds,
        "chosen": chosen,
        "rows": rows,
        "provenance": provenance(default_device()),
    }
    write_json(PROJECT / "data" / "results" / "cifar10-small-network.json", content)


if __name__ == "__main__":
    main()
