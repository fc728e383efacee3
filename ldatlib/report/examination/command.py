"""``ldat examine``: from what was typed to a folder with the examination in it."""

import hashlib
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ldatlib.data.cifar import CIFAR
from ldatlib.data.images import Images, load_images
from ldatlib.data.names import shown
from ldatlib.errors import OutOfTime, UserError
from ldatlib.evaluation.detection import SCORES, Score
from ldatlib.evaluation.examination.effort import effort_of
from ldatlib.evaluation.examination.examine import survey
from ldatlib.evaluation.gate.findings import EvaluationWarning, Findings
from ldatlib.evaluation.gate.images import check_images
from ldatlib.evaluation.gate.wrappers import as_module
from ldatlib.evaluation.partial import Partial, digest_of, weights_of
from ldatlib.execution import default_device
from ldatlib.files import as_path, check_writable, home, read_json, write_json
from ldatlib.files.locks import alone
from ldatlib.report.examination import robustbench
from ldatlib.report.examination.announce import Say, plan_lines
from ldatlib.report.examination.run import examine
from ldatlib.report.words import budget
from ldatlib.study.cluster import Cluster, cluster_of
from ldatlib.study.held_out import digits_split
from ldatlib.study.records.examination import Examination as Record
from ldatlib.study.records.examination import read_examination
from ldatlib.study.settings import parse_duration, parse_value
from ldatlib.study.sources import attribute_of, model_of

PAGE, RECORD, PARTIAL, PARTS = "examination.html", "examination.json", "partial", "parts"


@dataclass(frozen=True)
class Request:
    """What was typed; texts are parsed here. ``command`` is the whole of it, to repeat it."""

    source: str
    data: str
    eps_linf: str | None = None
    eps_l2: str | None = None
    images: int = 1000
    effort: str = "standard"
    reject: str | None = None
    accept: float = 0.95
    sibling: tuple[str, ...] = ()
    trust: bool = False
    threshold_data: str | None = None
    eot: int | None = None
    out: str | None = None
    time_limit: str | None = None
    dry_run: bool = False
    processes: int = 1
    cluster: str | None = None
    batch_size: int = 128
    seed: int = 0
    data_root: str | None = None
    image_size: int | None = None
    command: str | None = None


def run(request: Request, say: Say) -> int:
    """Examine what the request names; leaves record, page and tables. The exit status.

    Raises ``UserError`` for whatever is wrong with it, before the first attack.
    """
    eps = _budgets(request)
    if request.threshold_data is not None and request.reject is None:
        raise UserError("--threshold-data freezes the threshold of a detector: add --reject SCORE")
    effort_of(request.effort)
    _check_sources(request)
    cluster = cluster_of(request.cluster, False, request.processes)
    # From the start, as of every other command: loading counts.
    limit = None if request.time_limit is None else parse_duration(request.time_limit)
    started, folder = time.monotonic(), _folder(request)
    if not request.dry_run:
        _check_folder(folder, request)
    model: Any = model_of(request.source, trust=request.trust)
    siblings = {shown(text): model_of(text, trust=request.trust) for text in request.sibling}
    score = _score(request.reject)
    where = {"root": request.data_root, "image_size": request.image_size}
    images = _images(request.data, request, model, say, **where)
    freezing = _freezing(request, images, model, say)
    device = default_device()
    if not request.dry_run:
        _check_same(folder, request, model, images, eps, say)
    x, y = images.x.to(device), images.y.to(device)
    how: dict[str, Any] = {"effort": request.effort, "score": score, "accept": request.accept}
    if freezing is not None:
        how |= {"x_val": freezing.x.to(device), "y_val": freezing.y.to(device)}
    how |= {
        "siblings": siblings,
        "eot": request.eot,
        "batch_size": request.batch_size,
        "seed": request.seed,
    }
    with warnings.catch_warnings():
        # They are said line by line before the first attack, and stand in the verdict.
        warnings.simplefilter("ignore", EvaluationWarning)
        if request.dry_run:
            for line in plan_lines(*survey(model, x, y, eps=eps, **how)):
                say(line)
            return 0
        with alone(folder / RECORD, "examining into"):
            if limit is not None:
                limit = max(limit - (time.monotonic() - started), 1e-3)
            try:
                with _processes(cluster, request, folder, limit, say) as processes:
                    found = examine(
                        *(model, x, y, eps),
                        **how,
                        processes=processes,
                        state=folder / PARTIAL,
                        time_limit=limit,
                        say=say,
                        class_names=images.class_names,
                        source=shown(request.source),
                        data=images.title,
                        threshold_data=None if freezing is None else freezing.title,
                        command=request.command,
                    )
            except OutOfTime as stop:
                # In the words of the command, not of the file that keeps what is done.
                reached = f"the time limit of {request.time_limit} was reached"
                raise OutOfTime(f"{reached}; {folder / PARTIAL} keeps what is done") from stop
            found.save(folder)
            Partial(folder / PARTIAL, f"examination-{found.record.key}").clear()
            for path in (folder / PARTIAL).glob(f"{PARTS}-*.json"):
                path.unlink(missing_ok=True)
            with suppress(OSError):
                (folder / PARTIAL).rmdir()
    missing = robustbench.why_not(found.record)
    entry = f"none: {missing}" if missing else str(folder / "robustbench")
    say(f"\n{found.verdict}\n\nRobustBench's entry: {entry}\nthe page: {folder / PAGE}")
    return 0


@contextmanager
def _processes(
    cluster: Cluster | None, request: Request, folder: Path, limit: float | None, say: Say
) -> Iterator[int]:
    """In how many parts the images of an attack are shared, on this machine or by a cluster.

    Of a cluster, the parts of the first start: what is kept is found whatever workers are there.
    """
    if cluster is None:
        yield request.processes
        return
    started = time.monotonic()
    late = (lambda: False) if limit is None else (lambda: time.monotonic() - started > limit)
    with cluster.attacking(late, say) as workers:
        say(f"attacks and AutoAttack on {workers} workers of {cluster.address}, the rest here")
        parts = _parts(folder / PARTIAL, request, workers)
        if parts != workers:
            say(f"in {parts} parts, as at the first start; without {folder / PARTIAL} in {workers}")
        yield parts


def _parts(partial: Path, request: Request, workers: int) -> int:
    """As many as workers, or as at the first start of the same command, of which something is kept.

    Several commands may keep something in one folder.
    """
    same = replace(request, out=None, time_limit=None, cluster=None, command=None)
    key = hashlib.sha256(repr(same).encode()).hexdigest()[:10]
    path = partial / f"{PARTS}-{key}.json"
    if any(partial.glob("examination-*")):
        with suppress(UserError):  # broken, or none
            kept = read_json(path).get("parts")
            if type(kept) is int and kept > 0:
                return kept
    write_json(path, {"kind": PARTS, "parts": workers})
    return workers


def _images(data: str, request: Request, model: Any, say: Say, **where: Any) -> Images:
    """Test images by their text; what they are is said."""
    sizes, split = digits_split(model) if data == "digits" else (None, "")
    found = load_images(data, limit=request.images, sizes=sizes, **where)
    say(f"{len(found.y)} images of {found.title}, {_size(found)}")
    if split:
        say(f"note: {split}")
    return found


def _freezing(request: Request, images: Images, model: Any, say: Say) -> Images | None:
    """The images that freeze the detector's threshold; None where every second image does."""
    data = request.threshold_data
    if data is None:
        return None
    where: dict[str, Any] = {"root": request.data_root} if data in CIFAR else {}
    if Path(data).is_dir():
        where["image_size"] = request.image_size
    say("the detector's threshold is frozen on:")
    found = _images(data, request, model, say, **where)
    both = (found.class_names, images.class_names)
    if all(both) and both[0] != both[1]:
        raise UserError(
            f"the classes of {found.title}, which would freeze the threshold, are not those of "
            f"{images.title}: {', '.join(both[0][:5])}, ... and {', '.join(both[1][:5])}, ..."
        )
    return found


def _budgets(request: Request) -> dict[str, float]:
    given = {"linf": request.eps_linf, "l2": request.eps_l2}
    eps = {norm: value for norm, value in given.items() if value is not None}
    if not eps:
        raise UserError("name a budget, in pixel units: --eps-linf 8/255, --eps-l2 0.5, or both")
    found = {}
    for norm, text in eps.items():
        try:
            value = parse_value(f"eps_{norm}", text)
        except UserError as error:
            raise UserError(f"{error}; in units of [0,1]: 8 of 255 levels are 8/255") from None
        assert isinstance(value, float)
        found[norm] = value
    return found


def _check_sources(request: Request) -> None:
    every = (request.source, *request.sibling)
    if request.trust and not any(text.strip().lower().endswith(".pt2") for text in every):
        raise UserError("--trust is for exported programs, NAME.pt2, and there is none; drop it")
    if len(set(request.sibling)) < len(request.sibling):
        raise UserError("the same --sibling twice; name each once")


def _folder(request: Request) -> Path:
    if request.out is not None:
        return as_path(request.out, "--out")
    name = re.sub(r"[^\w.-]+", "-", Path(request.source).name).strip("-.") or "model"
    return home() / "runs" / f"examine-{name}"


def _check_folder(folder: Path, request: Request) -> None:
    """Nothing of another model is replaced, and there is room to write."""
    check_writable(folder / RECORD)
    other = _finished(folder)
    if other and other.source != shown(request.source):
        raise _held(folder, f"the examination of {other.source}")


def _check_same(
    folder: Path,
    request: Request,
    model: Any,
    images: Images,
    eps: dict[str, float],
    say: Say,
) -> None:
    """Nothing is replaced but an examination of these weights and images, as far as this one goes.

    The same text may stand for other weights: of a file in another folder, or trained anew.
    """
    other = _finished(folder)
    if other is None:
        return
    weights = weights_of(as_module(model))
    held = ", ".join(budget(norm, of.eps) for norm, of in other.norms.items())
    effort = other.settings.get("effort", {}).get("name")
    if other.weights != weights:
        raise _held(folder, f"the examination of {other.source} with other weights")
    x = check_images(images.x, Findings())  # as the gate hands them on
    if other.fingerprint != digest_of(x, images.y):
        raise _held(folder, f"an examination on other images ({other.images} of {other.data})")
    if {norm: of.eps for norm, of in other.norms.items()} != eps:
        raise _held(folder, f"an examination under other budgets ({held})")
    if effort != request.effort:
        raise _held(folder, f"an examination of another effort ({effort})")
    say(f"note: {folder} holds an examination of this model, which this one replaces")


def _finished(folder: Path) -> Record | None:
    """The examination in a folder; None where there is none, or a broken or older one."""
    if not (folder / RECORD).is_file():
        return None
    try:
        return read_examination(folder / RECORD)
    except UserError:
        return None


def _held(folder: Path, what: str) -> UserError:
    return UserError(f"{folder} holds {what}; choose another folder with --out")


def _score(text: str | None) -> Score | None:
    """``posterior``, ``log_likelihood``, or a function by its text."""
    if text is None or text in SCORES:
        return text
    if ":" not in text:
        known = ", ".join(SCORES)
        raise UserError(f"unknown score {text!r}; known: {known}, or FILE.py:FUNCTION")
    found = attribute_of(text)
    if not callable(found):
        raise UserError(f"{shown(text)} is no function of model and images")
    score: Callable = found
    return score


def _size(images: Images) -> str:
    channels, height, width = images.x.shape[1:]
    return f"{channels} x {height} x {width} pixels"
