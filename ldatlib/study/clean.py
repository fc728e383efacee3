"""Files of a run that no current setting finds: listed with the reason, removed when asked."""

import re
from dataclasses import dataclass
from pathlib import Path

from ldatlib.errors import UserError
from ldatlib.files import read_json
from ldatlib.files.locks import is_held
from ldatlib.study import notebooks, schedule
from ldatlib.study.jobs import jobs_of
from ldatlib.study.keys import LENGTH
from ldatlib.study.kinds import KINDS
from ldatlib.study.workspace import Workspace

# Folders whose files are found by keys. Tables, figures and notebooks are made anew by every run.
FOLDERS = ("records", "checkpoints", "adversarial", "partial")
# Names of ours: ...-KEY.json, -KEY.best.safetensors, -KEY-00001-of-00002.safetensors, -KEY.l2_cw.…
_NAME = re.compile(rf"-([0-9a-f]{{{LENGTH}}})(?:\..+|-\d{{5}}-of-\d{{5}}\.safetensors)$")
EARLIER, OTHER = "an earlier numerics version", "other settings"


@dataclass(frozen=True)
class Unused:
    """A file that no key of the current settings leads to, its size in bytes, and why.

    ``reason`` is ``EARLIER``, whose numbers nothing asks for any more, or ``OTHER``: other
    overrides, seeds or switches, which may be asked for again.
    """

    path: Path
    size: int
    reason: str


def unused(ws: Workspace) -> list[Unused]:
    """What lies in the folder of a run and is found by none of its current settings.

    Current is what the notebooks, and every kind of every training of the profile with these
    overrides, can ask for. Left out are files of other profiles, files whose names carry no key,
    and those of a training that somebody is computing.
    """
    trainings = {training.label: training for training in ws.every_training()}.values()
    jobs = [job for kind in KINDS for job in jobs_of(ws, kind, trainings)]
    current = {KINDS[j.kind].key(ws, j.training) for j in [*jobs, *notebooks.everything(ws)]}
    records = {path: _header(path) for path in sorted((ws.root / "records").glob("*.json"))}
    by_key = {header["key"]: header for header in records.values() if header}
    busy = {match[1] for path in ws.root.glob("*/.*.lock") if (match := _locked(path))}
    found = []
    for folder in FOLDERS:
        for path in sorted((ws.root / folder).glob("[!.]*")):
            match = _NAME.search(path.name)
            if not match or match[1] in current | busy:
                continue
            header = by_key.get(match[1], {})
            if header.get("profile", ws.profile.name) != ws.profile.name:
                continue
            reason = EARLIER if schedule.is_earlier(header) else OTHER
            found.append(Unused(path, path.stat().st_size, reason))
    return found


def _header(path: Path) -> dict:
    """A record's content; empty where it is cut or not ours, which is another's business."""
    try:
        content = read_json(path)
    except UserError:
        return {}
    return content if isinstance(content.get("key"), str) else {}


def _locked(lock: Path) -> re.Match | None:
    """The key in the name of a lock that somebody holds."""
    return _NAME.search(lock.name.removesuffix(".lock")) if is_held(lock) else None
