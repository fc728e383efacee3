"""Does a collapsed LDAT come back once its likelihood term is gone? docs/regularizer.md says no.

Three trainings of the network of cifar10-small, each from seed 0 with a learning rate that starts
full and falls to 0:

    collapse   lambda constant at 1: every feature goes to one point
    back       goes on from those weights without the term (lambda 0), learning rate full again
    fresh      without the term, from the beginning: what there was to come back to

    python tools/no_way_back.py --set data_root=DIR --set dataset=folder

prints what each epoch ends with, on validation images, and writes data/results/no-way-back.json.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

RESULT = PROJECT / "data" / "results" / "no-way-back.json"
COLLAPSE_EPOCHS, EPOCHS = 3, 6
KEPT = (
    "epoch",
    "lr",
    "lambda",
    "loss",
    "smallest_centroid_distance",
    "val_clean_accuracy",
    "val_robust_accuracy",
    "val_own_centroid",
    "val_between_centroids",
    "val_feature_norm",
)


def measure(settings: dict, folder: Path) -> dict:
    """The three trainings' logs, an entry an epoch, and what they were made of."""
    from ldatlib import load_model, open_run, train

    run = open_run("cifar10-small", settings, folder, jobs=1)
    constant = run.training("ldat", lambda_schedule="constant").config
    without = run.training("ldat", lambda_init=0.0).config
    collapse = replace(constant, epochs=COLLAPSE_EPOCHS)
    logs: dict[str, list[dict]] = {}

    def follow(name: str, config, **more) -> Path:
        logs[name] = []

        def told(line: dict) -> None:
            logs[name].append({key: line[key] for key in KEPT if key in line})
            print(name, logs[name][-1], flush=True)

        path = folder / f"{name}.safetensors"
        train(config, run.dataset, path, on_epoch=told, **more)
        return path

    collapsed = load_model(follow("collapse", collapse))
    follow("back", replace(without, epochs=EPOCHS, network=None), model=collapsed)
    follow("fresh", replace(without, epochs=EPOCHS))
    return {
        "logs": logs,
        "config": collapse.as_dict(),
        "dataset": run.dataset.title,
        "fingerprint": run.dataset.fingerprint,
        "val_images": len(run.dataset.labels["val"]),
        "split": "val",
        "seed": collapse.seed,
    }


def main() -> None:
    from ldatlib.execution import default_device
    from ldatlib.files import write_json
    from ldatlib.study.provenance import provenance
    from ldatlib.study.settings import parse_assignments

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(parse_assignments(options.assignments), Path(folder))
    write_json(RESULT, found | {"provenance": provenance(default_device())})


if __name__ == "__main__":
    main()
