"""Results that are kept with the project: a run's records, logs, weights and a few of its images.

A published run is a folder like a run's own, with a description of the data beside it:

    data.json                          title, fingerprint and sizes of the images
    records/*.json, *.jsonl            every record and training log
    checkpoints/*.safetensors          last weights, as float16
    adversarial/*.safetensors          the first few attacked images of each network, as float16

Opened through the data set ``published`` it is copied into a run's folder, where everything is
found by its key: notebooks draw from it and its networks can be used, without training.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from ldatlib.data import DESCRIPTION, describe
from ldatlib.errors import UserError
from ldatlib.files import load_tensors, save_tensors, write_bytes, write_json
from ldatlib.study.jobs import Job
from ldatlib.study.kinds.white_box import WHITE_BOX
from ldatlib.study.workspace import Workspace

FOLDERS = ("records", "checkpoints", "adversarial")
# Attacked images that are kept of a network: enough for the gallery of notebook 03; of the LDAT
# whose distances notebook 07 averages more.
SAVED_IMAGES, SAVED_IMAGES_LDAT = 12, 60


def publish(ws: Workspace, jobs: Iterable[Job], folder: Path, weights: Iterable[str]) -> list[Path]:
    """Copy what these jobs of a run have left into ``folder``; return the files that it now holds.

    Parameters
    ----------
    jobs : those that are not done are passed over.
    weights : labels of the trainings whose weights, and attacked images, are kept.

    Raises ``UserError`` where weights are wanted that the run does not have.
    """
    kept, weights = [folder / DESCRIPTION], set(weights)

    def copy(path: Path) -> None:
        kept.append(folder / "records" / path.name)
        write_bytes(kept[-1], path.read_bytes())

    def shorten(source: Path, name: str, images: int | None = None) -> None:
        tensors, header = load_tensors(source)
        # Attacked pixels to about 2e-4: enough for pictures and averages.
        tensors = {key: values[:images] for key, values in tensors.items()} if images else tensors
        kept.append(folder / name / source.name)
        draft = kept[-1].with_name(f"draft-{source.name}")
        save_tensors(draft, tensors, header, half=True)
        # safetensors orders a header at random: what holds the same stays, byte by byte.
        if kept[-1].is_file() and _alike(kept[-1], draft):
            draft.unlink()
        else:
            draft.replace(kept[-1])

    write_json(folder / DESCRIPTION, describe(ws.dataset))
    for job in {job.path: job for job in jobs if job.done}.values():
        copy(job.path)
        if job.kind == "train":
            copy(ws.log_path(job.training))
        if job.training.label not in weights:
            continue
        if job.kind == "train":
            shorten(ws.checkpoint_path(job.training), "checkpoints")
        if job.kind == "whitebox":
            images = SAVED_IMAGES_LDAT if job.training.name == ws.profile.base else SAVED_IMAGES
            shorten(WHITE_BOX.images_path(ws, job.training), "adversarial", images)
    return kept


def _alike(first: Path, second: Path) -> bool:
    """Whether two files hold the same tensors and the same header."""
    (tensors, header), (others, other) = load_tensors(first), load_tensors(second)
    return (header, tensors.keys()) == (other, others.keys()) and all(
        torch.equal(values, others[name]) for name, values in tensors.items()
    )


def unpack(folder: Path, root: Path, parts: Sequence[str] = FOLDERS) -> None:
    """Copy a published run, or parts of it, into a run's folder; what lies there already stays.

    Raises ``UserError`` where the folder holds no published run.
    """
    if not (folder / DESCRIPTION).is_file():
        raise UserError(
            f"no published results in {folder}: {DESCRIPTION} is missing; start from a complete "
            "copy of the project, or name the folder with --set data_root=PATH"
        )
    for name in parts:
        for source in sorted((folder / name).glob("*")):
            target = root / name / source.name
            if target.exists():
                continue
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            except OSError as error:
                raise UserError(
                    f"cannot write {target}: {error.strerror}; make room or choose another folder"
                ) from error
