"""What ``ldatlib.examine`` returns: the record, and everything that shows it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from ldatlib.errors import UserError
from ldatlib.files import as_path, save_tensors, write_bytes, write_json
from ldatlib.report.examination import figures, frames, page, robustbench, verdict
from ldatlib.report.examination.compare import compare
from ldatlib.report.examination.comparison import Comparison
from ldatlib.report.examination.frames import FRAMES
from ldatlib.study.records.examination import Examination as Record

FIGURES = ("curve", "detector", "gallery")


@dataclass(frozen=True)
class Examination:
    """The ``record``, whose fields are those of ``examination.json``, and the images.

    ``x`` and, by norm, ``x_adv`` [N, C, H, W] in [0,1]; ``y`` [N]. In a notebook it shows its page.
    """

    record: Record
    x: Tensor
    y: Tensor
    x_adv: dict[str, Tensor]

    @property
    def verdict(self) -> str:
        """In sentences, a line each: what is left, and whether to believe it."""
        return "\n".join(verdict.lines(self.record))

    def frame(self, name: str = "verdict") -> pd.DataFrame:
        """A table: ``verdict``, ``attacks``, ``masking``, ``curve``, ``detector``, ``images``.

        Shares are in percent, with both ends of their 95% intervals.

        Raises ``UserError`` for another name.
        """
        if name not in FRAMES:
            raise UserError(f"unknown table {name!r}; known: {', '.join(FRAMES)}")
        return FRAMES[name](self.record)

    def figure(self, name: str = "curve") -> Figure:
        """A picture: ``curve``, ``detector`` or ``gallery``. Raises ``UserError`` for another."""
        if name == "gallery":
            return figures.gallery(self.record, self.x, self.y, self.x_adv)
        if name not in FIGURES:
            raise UserError(f"unknown figure {name!r}; known: {', '.join(FIGURES)}")
        return figures.curve(self.record) if name == "curve" else figures.detector(self.record)

    def compare(self, other: Any) -> Comparison:
        """This examination (A) and another (B) of the same images: as ``compare.compare``."""
        return compare(self, other)

    def html(self) -> str:
        """The page: one file that asks for no other, verdict first."""
        names = FIGURES if any(n.detector for n in self.record.norms.values()) else FIGURES[::2]
        return page.whole(self.record, [self.figure(name) for name in names])

    def save(self, folder: str | Path) -> Path:
        """``examination.json``, ``examination.html``, ``tables/*.csv`` and the attacked images.

        The images are in ``adversarial.safetensors``, by norm. Of 1,000 images or more that
        AutoAttack met ``robustbench/Linf.json`` and ``robustbench/L2.json``, as RobustBench has its
        entries. Returns the folder.

        Raises ``UserError`` where it cannot be written.
        """
        folder = as_path(folder, "folder")
        frames.save(folder, FRAMES, self.frame)
        entries = robustbench.entries(self.record)
        for threat_model in robustbench.THREAT_MODELS.values():
            path = folder / "robustbench" / f"{threat_model}.json"
            if threat_model in entries:
                write_bytes(path, (json.dumps(entries[threat_model], indent=2) + "\n").encode())
            else:
                path.unlink(missing_ok=True)  # of an earlier examination
        save_tensors(folder / "adversarial.safetensors", self.x_adv, {"kind": "examination"})
        write_bytes(folder / "examination.html", self.html().encode())
        # Last: whoever finds it finds the others.
        write_json(folder / "examination.json", msgspec.to_builtins(self.record))
        return folder

    def __str__(self) -> str:
        return self.verdict

    def _repr_html_(self) -> str:
        """For a notebook."""
        return page.body(self.record, [])
