"""Files of a run that no current setting uses: found, and removed when asked."""

from dataclasses import dataclass
from pathlib import Path

from ldatlib.study import notebooks, schedule
from ldatlib.study.kinds import KINDS
from ldatlib.study.workspace import Workspace

# Folders whose files are found by keys. Tables, figures and notebooks are made anew by every run.
FOLDERS = ("records", "checkpoints", "adversarial", "partial")


@dataclass(frozen=True)
class Unused:
    """A file that no key of the current settings leads to, and its size in bytes."""

    path: Path
    size: int


def unused(ws: Workspace) -> list[Unused]:
    """What lies in the folder of a run and is found by none of its current settings.

    Current is what any notebook or command can compute with this profile and these overrides.
    Files that a person may have put there by hand, of other endings, are left out.
    """
    used, stems = set(), set()
    trainings = {training.label: training for training in ws.every_training()}
    jobs = [j for kind in KINDS for j in schedule.jobs_of(ws, kind, trainings.values())]
    for job in [*jobs, *notebooks.everything(ws)]:
        kind, training = KINDS[job.kind], job.training
        products = kind.products(ws, training)
        used |= {job.path, *products, *kind.states(ws, training)}
        stems |= {path.name.removesuffix(".safetensors") for path in products}
        stems.add(job.path.stem)
        if job.kind == "train":
            used.add(ws.checkpoint_path(training, "best"))
            stems.add(ws.checkpoint_path(training, "best").name.removesuffix(".safetensors"))
    found = []
    for folder in FOLDERS:
        for path in sorted((ws.root / folder).glob("*")):
            if path in used or path.suffix not in (".json", ".jsonl", ".safetensors"):
                continue
            # Shards and interrupted attacks carry the name of what they belong to.
            if any(path.name.startswith((f"{stem}-0", f"{stem}.")) for stem in stems):
                continue
            found.append(Unused(path, path.stat().st_size))
    return found
