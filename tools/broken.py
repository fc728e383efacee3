"""Examine defences that are known to be broken -> data/results/broken.json, for docs/broken.md.

Three evaluations of each file in docs/examples/broken, on the same images of the digits:
AutoAttack from its package at its defaults, ``ldatlib.examine``, and the attack in the file itself,
by somebody who has read the code. What is done is kept in the run's folder, attack by attack.

    python tools/broken.py                        all of them; some minutes a defence
    python tools/broken.py --only blurred_input   some of them; the others' rows stay
"""

import argparse
import hashlib
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

BROKEN = PROJECT / "docs" / "examples" / "broken"
RECORD = PROJECT / "data" / "results" / "broken.json"
# In the order of the page; the file beside them that is shared is no defence.
NAMES = (
    *("adversarial_training", "blurred_input", "label_smoothing", "softmax_temperature"),
    *("jpeg_compression", "discretised_input", "majority_vote", "nearest_neighbours"),
    *("random_neurons", "stable_prediction", "fingerprints"),
)
NORM, EPS, IMAGES, EFFORT, EOT, ACCEPT = "linf", 0.15, 200, "standard", 10, 0.95
# Those of which a look takes many passes.
QUICK = ("random_neurons", "stable_prediction")
# A randomised model or score is judged by the mean over so many passes or looks of its own.
JUDGES = 50


def load(name: str) -> tuple[Any, Any, Any]:
    """The model, its score (None where it refuses nothing), and the attack that knows it."""
    from ldatlib.study.sources import attribute_of, model_of

    source = f"{BROKEN / name}.py"
    model = model_of(f"{source}:make_model")
    text = Path(source).read_text(encoding="utf-8")
    score = attribute_of(f"{source}:score") if "\ndef score(" in text else None
    return model, score, attribute_of(f"{source}:attack")


def claim(name: str) -> str:
    """What the file says that the defence claims: its first line."""
    line = (BROKEN / f"{name}.py").read_text(encoding="utf-8").splitlines()[0]
    return line.removeprefix('"""Claims: ')


def fingerprint(name: str) -> str:
    """Of the code of a defence and of the settings: a row of another one is made anew."""
    digest = hashlib.sha256(repr((NORM, EPS, IMAGES, EFFORT, EOT, ACCEPT, JUDGES)).encode())
    for file in ("small", name):
        digest.update((BROKEN / f"{file}.py").read_bytes())
    return digest.hexdigest()[:12]


def examined(name: str, model, x, y, score, x_val, y_val, state: Path):
    """The examination, and whether the gate asked for a mean over passes."""
    from ldatlib import UserError, examine

    how: dict[str, Any] = {"effort": "quick" if name in QUICK else EFFORT, "state": state}
    if score is not None:
        how |= {"score": score, "accept": ACCEPT, "x_val": x_val, "y_val": y_val}
    try:
        return examine(model, x, y, {NORM: EPS}, **how), False
    except UserError as refusal:
        if "eot=" not in str(refusal):
            raise
        return examine(model, x, y, {NORM: EPS}, eot=EOT, **how), True


def autoattack_alone(model, x, y) -> tuple[Any, str]:
    """The package as a user calls it; where it fails for want of a gradient, its Square alone."""
    from pyautoattack import AutoAttack

    settings: dict[str, Any] = {"norm": "Linf", "eps": EPS, "device": "cpu", "seed": 0}
    try:
        package = AutoAttack(model, version="standard", **settings)
        return package.run_standard_evaluation(x, y, batch_size=len(x))[0], "standard"
    except RuntimeError as error:
        if "grad" not in str(error):
            raise
    package = AutoAttack(model, version="standard", **settings)
    package.attacks_to_run = ["square"]
    return package.run_standard_evaluation(x, y, batch_size=len(x))[0], "Square alone"


def examine_one(name: str, folder: Path) -> dict:
    """The row of one defence."""
    import torch

    from ldatlib.data.images import load_images
    from ldatlib.data.load import load_dataset
    from ldatlib.evaluation.gate.wrappers import Averaged, AveragedScore
    from ldatlib.evaluation.robustness import share
    from ldatlib.report.examination import verdict

    started = time.perf_counter()
    model, score, attack = load(name)
    model.requires_grad_(False)
    images = load_images("digits", limit=IMAGES)
    x, y, validation = images.x, images.y, load_dataset("digits").split("val")
    found, randomised = examined(name, model, x, y, score, *validation, folder / name)
    record = found.record
    norm = record.norms[NORM]
    seconds = {"examine": round(time.perf_counter() - started, 1)}
    said = {entry.name for entry in record.gate}
    judge = Averaged(model, JUDGES, seed=99) if "randomised" in said else model
    judged = AveragedScore(score, JUDGES, seed=99) if "score randomised" in said else score
    threshold = norm.detector.threshold if norm.detector else None

    def left(x_adv) -> dict:
        """Right and accepted as they are, and not both wrong and accepted when attacked."""
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            right, wrong = judge(x).argmax(1) == y, judge(x_adv).argmax(1) != y
            if score is not None:
                right &= judged(model, x) >= threshold
                wrong &= judged(model, x_adv) >= threshold
        return share(right & ~wrong)

    torch.manual_seed(0)
    started = time.perf_counter()
    alone, version = autoattack_alone(model, x, y)
    seconds["autoattack"] = round(time.perf_counter() - started, 1)
    started = time.perf_counter()
    torch.manual_seed(0)
    known = attack(model, x, y, EPS, *([threshold] if score is not None else []))
    seconds["adaptive"] = round(time.perf_counter() - started, 1)
    number = norm.detector.robust["0"] if norm.detector else norm.robust_accuracy
    return {
        "name": name,
        "code": fingerprint(name),
        "clean": left(x),
        "autoattack": left(alone),
        "autoattack_version": version,
        "examine": {key: getattr(number, key) for key in ("value", "low", "high", "count")},
        "adaptive": left(known),
        "detector": score is not None,
        "eot": EOT if randomised else None,
        "gate": [entry.name for entry in record.gate if entry.severity == "warning"],
        "alarms": list(norm.alarms),
        "doubts": list(record.doubts),
        "strongest": verdict.strongest(norm),
        "belief": verdict.belief(record),
        "effort": record.settings["effort"]["name"],
        "seconds": seconds,
    }


def main() -> int:
    from ldatlib.evaluation.gate.findings import EvaluationWarning
    from ldatlib.files import read_json, write_json

    warnings.simplefilter("ignore", EvaluationWarning)  # they stand in the record
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--out", type=Path, default=PROJECT / "runs" / "broken")
    options = parser.parse_args()
    known = read_json(RECORD)["defences"] if RECORD.exists() else []
    rows = {row["name"]: row for row in known if row["name"] in NAMES}
    for name in options.only:
        kept = options.out / f"{name}-{fingerprint(name)}.json"
        if not kept.exists():
            write_json(kept, examine_one(name, options.out))
        rows[name] = row = read_json(kept)
        numbers = (f"{k} {row[k]['value']:.1%}" for k in ("clean", "autoattack", "examine"))
        print(f"{name}: {', '.join(numbers)}, adaptive {row['adaptive']['value']:.1%}")
        print(f"  {row['belief']}", flush=True)
    settings = {"data": "digits", "images": IMAGES, "norm": NORM, "eps": EPS, "effort": EFFORT}
    settings |= {"eot": EOT, "accept": ACCEPT, "judged_by_passes": JUDGES}
    ordered = [rows[name] for name in NAMES if name in rows]
    write_json(RECORD, {"settings": settings, "defences": ordered})
    return 0


if __name__ == "__main__":
    sys.exit(main())
