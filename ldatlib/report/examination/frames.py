"""An examination as data frames: an attack, a test, a threshold a row."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from ldatlib.evaluation.robustness import from_bits
from ldatlib.files import write_bytes
from ldatlib.report import words
from ldatlib.report.examination.verdict import converged, masking, strongest, turn_title
from ldatlib.study.records.common import Share
from ldatlib.study.records.examination import Examination, ExaminedDetector


def save(folder: Path, names: Iterable[str], frame: Callable[[str], pd.DataFrame]) -> None:
    """Every table with rows, as ``tables/NAME.csv``; ``UserError`` where it cannot be written."""
    for name in names:
        table, path = frame(name), folder / "tables" / f"{name}.csv"
        if len(table):
            write_bytes(path, table.to_csv(index=False).encode())
        else:
            path.unlink(missing_ok=True)  # of an earlier one


def verdicts(record: Examination) -> pd.DataFrame:
    """A row a norm: the lowest number, in percent, with its interval, and whether to believe it."""
    rows = []
    for name, norm in record.norms.items():
        row = {"norm": name, "eps": norm.eps, "images": record.images}
        row |= words.columns("clean_accuracy", record.clean_accuracy)
        row |= words.columns("robust_accuracy", norm.robust_accuracy)
        row |= {"strongest": strongest(norm), "converged": converged(norm)}
        rows.append(row | {"masking": masking(norm), "ok": record.ok})
    return pd.DataFrame(rows)


def attacks(record: Examination) -> pd.DataFrame:
    """A row a norm and attack, in the order of their turns: images met, taken, left."""
    rows = [
        {
            "norm": name,
            "attack": turn_title(turn.family, turn.attack),
            "family": turn.family,
            "met": turn.met,
            "taken": turn.taken,
            "left": turn.left,
            "restarts": "" if turn.restarts is None else " ".join(map(str, turn.restarts)),
            "converged": turn.converged,
            "seconds": turn.seconds,
            "warnings": "; ".join(turn.warnings),
        }
        for name, norm in record.norms.items()
        for turn in norm.turns
    ]
    return pd.DataFrame(rows)


def tests(record: Examination) -> pd.DataFrame:
    """A row a norm and test for masking: verdict, reason, and the shares that it rests on."""
    rows = []
    for name, norm in record.norms.items():
        for test in norm.masking.tests if norm.masking else []:
            row: dict[str, Any] = {
                "norm": name,
                "test": test.test,
                "title": test.title,
                "verdict": test.verdict,
            }
            row |= {"misled": test.misled, "overstated": test.overstated, "reason": test.reason}
            for field, value in msgspec.structs.asdict(test.numbers).items():
                if isinstance(value, Share):
                    row |= words.columns(field, value)
            rows.append(row)
    return pd.DataFrame(rows)


def curve(record: Examination) -> pd.DataFrame:
    """A row a norm and budget: what PGD leaves, in percent, on the images of the tests."""
    rows = []
    for name, norm in record.norms.items():
        for test in norm.masking.tests if norm.masking else []:
            for point in test.numbers.points or []:
                row = {"norm": name, "eps": point.eps}
                rows.append(row | words.columns("robust_accuracy", point.robust_accuracy))
    return pd.DataFrame(rows)


def detector(record: Examination) -> pd.DataFrame:
    """A row a norm and threshold, over the share of clean images that it accepts; in percent."""
    rows = []
    for name, norm in record.norms.items():
        for point in norm.detector.curve if norm.detector else []:
            row = {"norm": name, "acceptance": point.acceptance, "threshold": point.threshold}
            row |= words.columns("clean_acceptance", point.clean_acceptance)
            for fraction, share in point.robust.items():
                row |= words.columns(f"robust_{fraction}", share)
            if point.error_among_accepted:
                row |= words.columns("error", point.error_among_accepted)
            rows.append(row)
    return pd.DataFrame(rows)


def images(record: Examination) -> pd.DataFrame:
    """A row an image: whether it is right without an attack, and under everything of each norm.

    With a detector, at its threshold and by norm: whether the image is accepted as it is, whether
    some image of its ball was found that is wrong, and whether every such was refused
    (``stopped``), or one is accepted (``missed``). Images that froze the threshold have none.
    """
    columns = {"clean": list(record.clean_right)}
    columns |= {name: list(norm.right) for name, norm in record.norms.items()}
    found = pd.DataFrame(columns).astype(int)
    for name, norm in record.norms.items():
        seen = norm.detector and norm.detector.by_image
        if not norm.detector or not seen:
            continue
        accepted, fooled, missed = map(from_bits, (seen.clean_accepted, seen.fooled, seen.missed))
        own = {"clean_accepted": accepted, "fooled": fooled, "stopped": fooled & ~missed}
        for column, bits in (own | {"missed": missed}).items():
            rows = found.index[detected(norm.detector)]
            found[f"{name}_{column}"] = pd.Series(bits.int().tolist(), rows, dtype="Int64")
    return found.rename_axis("image").reset_index()


def detected(of: ExaminedDetector) -> slice:
    """Which images were attacked as the detector's: all, or those that froze no threshold."""
    return slice(None) if of.images_given else slice(1, None, 2)


FRAMES = {
    "verdict": verdicts,
    "attacks": attacks,
    "masking": tests,
    "curve": curve,
    "detector": detector,
    "images": images,
}
