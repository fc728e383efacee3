"""An examination as entries of RobustBench's leaderboard (Croce et al. 2021).

Fields, and how numbers are written, are those of its ``model_info/DATASET/THREAT_MODEL/NAME.json``.
"""

from ldatlib.data.cifar import CIFAR
from ldatlib.evaluation.autoattack import STANDARD
from ldatlib.evaluation.examination.budgets import findings
from ldatlib.evaluation.masking.verdicts import TITLES as TESTS
from ldatlib.report.examination.verdict import budget
from ldatlib.report.words import NORMS
from ldatlib.study.records.common import Share
from ldatlib.study.records.examination import Examination, ExaminedNorm

THREAT_MODELS = {"linf": "Linf", "l2": "L2"}
FEWEST_IMAGES = 1000
_DATASETS = {title: name for name, (title, *_) in CIFAR.items()}
# What of the gate's findings makes a number doubtful there; the first two are no entries at all by
# its rules: gradients that are not zero, a deterministic forward pass.
_FLAGS = {
    "randomised": "the forward pass is random",
    "gradient": "the gradient is zero",
    "probabilities": "the outputs are probabilities, whose logarithm was attacked",
    "input": "the normalisation seems to be missing from the model",
    "chance": "clean accuracy is that of chance",
    "shifted": "the labels seem to be shifted by one",
    "constant": "the predictions are constant",
    "batch": "the outputs depend on the batch",
    "dark": "the images seem to have been divided by 255 twice",
}


def entries(record: Examination) -> dict[str, dict]:
    """An entry a threat model, ``"Linf"`` and ``"L2"``, ready for JSON; empty where there is none.

    ``autoattack_acc`` is what its standard ensemble left of the images that the attacks before it
    had left; ``external`` the lowest number known. What only its authors know is null.
    """
    if why_not(record):
        return {}
    return {THREAT_MODELS[name]: _entry(record, name) for name in record.norms}


def why_not(record: Examination) -> str | None:
    """Why there is no entry, in a line; None where there is one."""
    if record.images < FEWEST_IMAGES:
        return f"{record.images} images are fewer than {FEWEST_IMAGES:,}"
    for name, norm in record.norms.items():
        ran = {turn.attack.removeprefix(f"{name}_") for turn in _ensemble(norm)}
        if not ran >= set(STANDARD):
            return f"AutoAttack's standard ensemble did not run in full under {NORMS[name]}"
    return None


def _ensemble(norm: ExaminedNorm) -> list:
    return [turn for turn in norm.turns if turn.family == "autoattack"]


def _entry(record: Examination, name: str) -> dict:
    norm = record.norms[name]
    flags = _flags(record, name)
    averaged = any(entry.name == "randomised" for entry in record.gate)
    left = _ensemble(norm)[-1].left
    footnote = (
        f"On {record.images} test images; AutoAttack met what other attacks had left: alone "
        "it may leave more. Robust accuracy under everything that was tried: "
        f"{_percent(norm.robust_accuracy)}%."
    )
    if flags:
        footnote += f" Possibly unreliable: {'; '.join(flags)}."
    known = {field: None for field in ("link", "name", "authors", "additional_data")}
    return {
        **known,
        "number_forward_passes": (record.settings.get("eot") or 1) if averaged else 1,
        "dataset": _DATASETS.get(record.data, record.data),
        "venue": None,
        "architecture": None,
        "eps": budget(name, norm.eps).removeprefix(f"{NORMS[name]} "),
        "clean_acc": _percent(record.clean_accuracy),
        "reported": None,
        "autoattack_acc": str(round(100 * left / record.images, 2)),
        "external": _percent(norm.robust_accuracy),
        "footnote": footnote,
        "unreliable": bool(flags),
    }


def _flags(record: Examination, name: str) -> list[str]:
    """In words, what makes the number of this norm doubtful."""
    norm = record.norms[name]
    found = [_FLAGS[entry.name] for entry in record.gate if entry.name in _FLAGS]
    if findings({name: norm.eps}):  # the gate's finding may be of the other norm
        found.append("the budget is less than half a level of 8 bits")
    found += [] if norm.converged else ["a search with restarts has not converged"]
    prefix = f"{name}: masking "
    sound = [d.removeprefix(prefix) for d in record.doubts if d.startswith(prefix)]
    if sound:
        found.append(f"tests for gradient masking sound ({', '.join(TESTS[t] for t in sound)})")
    found += [f"AutoAttack: {text}" for turn in _ensemble(norm) for text in turn.warnings]
    return found + ([] if record.ok else ["a self-check of the evaluation failed"])


def _percent(share: Share) -> str:
    return str(round(100 * share.value, 2))
