"""Does accuracy pay for bfloat16? The demo's trainings in both precisions, over several seeds.

PGD-AT and LDAT are trained with the seeds 0 to N-1 in float32 and in bfloat16, all else equal,
and evaluated in float32 on the demo's test images: natural, PGD L-inf, PGD L2. The difference of
the means stands beside the spread from seed to seed.

    python tools/compare_precision.py --seeds 5

prints the table and writes data/results/demo-precision.json. Where the processor does not multiply
bfloat16 itself, bfloat16 is emulated: the numbers mean the same, the seconds nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

RESULT = PROJECT / "data" / "results" / "demo-precision.json"
DEFENCES = ("standard", "ldat")
PRECISIONS = ("float32", "bfloat16")
COLUMNS = {"natural": "natural", "linf_pgd": "PGD L-inf", "l2_pgd": "PGD L2"}


def measure(
    precision: str, seeds: int, folder: Path, more: dict | None = None
) -> tuple[list[dict], dict]:
    """A row a training: defence, seed, accuracies in percent, seconds; and of which images.

    ``more``: settings besides the demo's.
    """
    from ldatlib import open_run
    from ldatlib.report import comparisons

    settings = {"precision": precision, "seeds": seeds, "defences": ",".join(DEFENCES)}
    run = open_run("demo", settings | (more or {}), folder)
    trainings = run.trainings()
    trained, attacked = run.records("train", trainings), run.records("basic", trainings)
    rows = []
    for training, record in zip(trained, attacked, strict=True):
        row = {"precision": precision, "defence": record.defence, "seed": record.seed}
        for key in COLUMNS:
            row[key] = round(100 * comparisons.right_images(record, key).double().mean().item(), 2)
        rows.append(row | {"seconds": training.seconds, "execution": training.execution})
    facts = {"dataset": record.dataset, "fingerprint": record.fingerprint}
    return rows, facts | {"test_images": record.clean_accuracy.count}


def summary(rows: list[dict]) -> list[dict]:
    """A row a defence and column: means, standard deviations of one training, Welch's p-value."""
    import pandas as pd
    from scipy.stats import ttest_ind

    frame, result = pd.DataFrame(rows), []
    for defence in DEFENCES:
        own = frame[frame.defence == defence].set_index("precision")
        for key, title in COLUMNS.items():
            plain, rough = (own.loc[[precision], key] for precision in PRECISIONS)
            result.append(
                {
                    "defence": defence,
                    "column": title,
                    "float32": round(plain.mean(), 2),
                    "sd": round(plain.std(), 2),
                    "bfloat16": round(rough.mean(), 2),
                    "sd ": round(rough.std(), 2),
                    "difference": round(rough.mean() - plain.mean(), 2),
                    "p": round(float(ttest_ind(rough, plain, equal_var=False).pvalue), 3),
                }
            )
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    options = parser.parse_args()
    if options.seeds < 3:
        parser.error("a spread needs at least 3 seeds")
    import pandas as pd

    from ldatlib.execution import default_device
    from ldatlib.files import write_json
    from ldatlib.study.provenance import provenance

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            more, facts = measure(precision, options.seeds, Path(folder, precision))
            rows += more
    found = summary(rows)
    print(pd.DataFrame(found).to_string(index=False))
    write_json(
        RESULT,
        {
            "profile": "demo",
            **facts,
            "summary": found,
            "trainings": rows,
            "provenance": provenance(default_device()),
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
