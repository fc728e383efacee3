"""Two examinations of the same images side by side: paired tests of what both have met.

An examination attacks only what is still right, so its shares are those under an attack and all
before it. They are compared as far as both met the same attacks, with the same settings, in the
same order; an image that another attack took before tells nothing of those after it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.evaluation.robustness import from_bits
from ldatlib.files import as_path
from ldatlib.report import paired
from ldatlib.report.comparisons import share
from ldatlib.report.examination.comparison import Comparison
from ldatlib.report.examination.frames import detected
from ldatlib.report.examination.verdict import budget, turn_title
from ldatlib.report.words import NORMS
from ldatlib.study.records.comparison import Compared, ComparedTest, Side
from ldatlib.study.records.comparison import Comparison as Record
from ldatlib.study.records.examination import Examination as Examined
from ldatlib.study.records.examination import (
    ExaminedBy,
    ExaminedDetector,
    ExaminedNorm,
    read_examination,
)

_What = Literal["clean", "attack", "worst_case", "detector"]
_FILE = "examination.json"


def compare(first: Any, second: Any) -> Comparison:
    """Two examinations of the same images: what is left of each, and whether they differ.

    Parameters
    ----------
    first, second : what ``ldatlib.examine`` returned, its record, or a folder or file that it was
        saved to.

    Returns
    -------
    Comparison: ``record``, ``verdict``, ``frame(name)``, ``figure(name)``, ``save(folder)``. Every
    test is McNemar's, exact, on the same images, and corrected by Holm over all of them.

    Raises
    ------
    UserError : no examination there; other images, norms or budgets.
    """
    a, b = _record(first), _record(second)
    _check_same(a, b)
    rows = [
        _row(None, "clean", "without an attack", from_bits(a.clean_right), from_bits(b.clean_right))
    ]
    unlike = _unlike(a, b)
    for name in a.norms:
        rows += _of_norm(a, b, name, unlike)
    record = Record(
        first=_side("A", a),
        second=_side("B", b),
        data=a.data,
        images=a.images,
        fingerprint=a.fingerprint,
        eps={name: norm.eps for name, norm in a.norms.items()},
        rows=_corrected(rows),
        tests=[test for name in a.norms for test in _tests(name, a.norms[name], b.norms[name])],
        unlike=unlike,
    )
    return Comparison(record, (a, b))


def _record(given: Any) -> Examined:
    record = getattr(given, "record", given)
    if isinstance(record, Examined):
        return record
    path = as_path(given, "an examination")
    if path.is_dir():
        path = path / _FILE
    if not path.is_file():
        raise UserError(f"there is no examination {path}: name the folder of `ldat examine`")
    return read_examination(path)


def _check_same(a: Examined, b: Examined) -> None:
    """Raises ``UserError`` where their numbers are of other images, norms or budgets."""
    if a.fingerprint != b.fingerprint:
        raise UserError(
            f"A examined {a.images} images of {a.data}, B {b.images} of {b.data}, and they are not "
            "the same images: examine both with the same --data and --images"
        )
    if set(a.norms) != set(b.norms):
        ours, theirs = (" and ".join(NORMS[name] for name in side.norms) for side in (a, b))
        raise UserError(f"A was examined under {ours}, B under {theirs}: examine both in the same")
    for name in a.norms:
        if a.norms[name].eps != b.norms[name].eps:
            ours, theirs = (budget(name, side.norms[name].eps) for side in (a, b))
            raise UserError(f"A was examined under {ours}, B under {theirs}: choose one budget")


def _side(name: Literal["A", "B"], record: Examined) -> Side:
    return Side(
        name=name,
        source=record.source,
        key=record.key,
        weights=record.weights,
        effort=_effort(record)["name"],
        command=record.command,
        doubts=record.doubts,
        ok=record.ok,
    )


def _effort(record: Examined) -> Mapping[str, Any]:
    return record.settings["effort"]


def _unlike(a: Examined, b: Examined) -> list[str]:
    """Settings that differ, in words."""
    found = []
    if a.weights is not None and a.weights == b.weights:
        found.append("both are of the same weights")
    ours, theirs = (_effort(side)["name"] for side in (a, b))
    if ours != theirs:
        found.append(f"effort: A {ours}, B {theirs}")
    for setting, title in {
        "eot": "passes a randomised model was averaged over",
        "attack_seed": "seed of the attacks",
        "batch_size": "images a batch",
    }.items():
        ours, theirs = (side.settings.get(setting) for side in (a, b))
        if ours != theirs:
            found.append(f"{title}: A {ours or 1}, B {theirs or 1}")
    if a.num_classes != b.num_classes:
        found.append(f"classes of the model: A {a.num_classes}, B {b.num_classes}")
    return found


def _of_norm(a: Examined, b: Examined, name: str, unlike: list[str]) -> Iterator[Compared]:
    ours, theirs = a.norms[name], b.norms[name]
    met, alike = _shared(a, b, name)
    for one, other in met:
        title = turn_title(one.family, one.attack)
        yield _row(name, "attack", title, from_bits(one.right), from_bits(other.right))
    if not alike:
        known = f"{len(met)} attacks" if met else "no attack"
        unlike.append(
            f"{NORMS[name]}: both met {known} with the same settings in the same order; what is "
            "left under everything is shown and not tested: examine both with the same --effort"
        )
    right = from_bits(ours.right), from_bits(theirs.right)
    yield _row(name, "worst_case", "everything", *right, tested=alike)
    yield from _of_detectors(a, b, name, unlike)


def _shared(
    a: Examined, b: Examined, name: str
) -> tuple[list[tuple[ExaminedBy, ExaminedBy]], bool]:
    """Turns that both have up to the first that differs; and whether all attacks are the same."""
    ours, theirs = (
        [turn for turn in side.norms[name].turns if turn.family != "masking"] for side in (a, b)
    )
    met: list[tuple[ExaminedBy, ExaminedBy]] = []
    for one, other in zip(ours, theirs, strict=False):
        if (one.attack, one.settings) != (other.attack, other.settings):
            break
        met.append((one, other))
    alike = len(met) == len(ours) == len(theirs)
    return met, alike and _searched(a, name) == _searched(b, name)


def _searched(record: Examined, name: str) -> tuple:
    """What decides which attacks the tests for masking make."""
    masking, effort = record.norms[name].masking, _effort(record)
    tests = masking.tests if masking else []
    transfer = any(test.test == "transfer" and test.verdict != "skipped" for test in tests)
    siblings = record.settings.get("siblings") or None
    return masking is None, effort["masking"], effort["masking_images"], transfer and siblings


def _of_detectors(a: Examined, b: Examined, name: str, unlike: list[str]) -> Iterator[Compared]:
    """Robust with rejection, where both are detectors on the same images."""
    ours, theirs = a.norms[name].detector, b.norms[name].detector
    if ours is None or theirs is None:
        if ours is not theirs:
            unlike.append(f"{NORMS[name]}: {'B' if ours is None else 'A'} alone is a detector")
        return
    settings = ("detector_steps", "detector_restarts", "detector_queries")
    frozen = [(of.frozen_on, side.threshold_data) for of, side in ((ours, a), (theirs, b))]
    how = [[_effort(side)[setting] for setting in settings] for side in (a, b)]
    other = {
        "accept another share of clean images": ours.accept != theirs.accept,
        "have thresholds of other images": frozen[0] != frozen[1],
        "were attacked with other settings": how[0] != how[1],
    }
    why = [text for text, holds in other.items() if holds]
    if ours.by_image is None or theirs.by_image is None or ours.images != theirs.images:
        why.append("are not known image by image")
        unlike.append(f"{NORMS[name]}: the detectors {' and '.join(why)}, and are not compared")
        return
    if why:
        unlike.append(f"{NORMS[name]}: the detectors {' and '.join(why)}: shown, not tested")
    right = _robust(a, ours), _robust(b, theirs)
    title = f"with rejection by {ours.score}"
    title += "" if ours.score == theirs.score else f" (A), {theirs.score} (B)"
    yield _row(name, "detector", title, *right, tested=not why)


def _robust(record: Examined, of: ExaminedDetector) -> Tensor:
    """Right and accepted as it is, and nothing wrong accepted in its ball; bool [n]."""
    assert of.by_image is not None
    clean = from_bits(record.clean_right)[detected(of)]
    return clean & from_bits(of.by_image.clean_accepted) & ~from_bits(of.by_image.missed)


def _row(
    norm: str | None, what: _What, title: str, first: Tensor, second: Tensor, tested: bool = True
) -> Compared:
    found = paired.pair(second, first)
    low, high = paired.interval(found, 0.95)
    return Compared(
        norm=norm,
        what=what,
        title=title,
        first=share(first),
        second=share(second),
        first_only=found.second_only,
        second_only=found.first_only,
        difference=found.difference,
        low=low,
        high=high,
        p=float(paired.mcnemar_p(found.first_only, found.second_only)) if tested else None,
        p_holm=None,
    )


def _corrected(rows: list[Compared]) -> list[Compared]:
    """With p-values corrected over all that were tested."""
    tested = [row for row in rows if row.p is not None]
    corrected = iter(paired.holm([row.p for row in tested]).tolist())
    return [
        row if row.p is None else msgspec.structs.replace(row, p_holm=next(corrected))
        for row in rows
    ]


def _tests(name: str, ours: ExaminedNorm, theirs: ExaminedNorm) -> list[ComparedTest]:
    """Tests for masking, those of A first."""
    found: dict[str, dict[str, Any]] = {}
    for side, norm in (("first", ours), ("second", theirs)):
        for test in norm.masking.tests if norm.masking else []:
            entry = found.setdefault(test.test, {"first": None, "second": None})
            entry |= {"title": test.title, side: test.verdict}
    return [ComparedTest(norm=name, test=test, **entry) for test, entry in found.items()]
