"""What the claims are judged by: the records of one seed, by defence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from ldatlib.report import glossary
from ldatlib.report.comparisons import mcnemar_of, right_images
from ldatlib.study.records import (
    Adaptive,
    Autoattack,
    Basic,
    Detection,
    Features,
    Masking,
    Record,
    Share,
    Sweep,
    Train,
    Transfer,
    Whitebox,
    read,
)
from ldatlib.study.run import Run
from ldatlib.study.trainings import Training

# The paper's own; L2-AT is not among them.
RIVALS = ("standard", "trades", "mart", "lbgat")
# Whether the claim was seen here (None: cannot tell), and the numbers as text.
Seen = tuple[bool | None, str]
K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R", bound=Record)


class NoRecord(LookupError):
    """A claim needs a record that the run does not have."""


class Records(dict[K, T]):
    """Records by name; a missing one is ``NoRecord`` and not a ``KeyError``."""

    def __missing__(self, name: K) -> T:
        raise NoRecord(str(name))


@dataclass(frozen=True)
class Lead:
    """Accuracies in percent, McNemar's p-value, and who the best rival is."""

    ldat: float
    rival: float
    p_value: float
    name: str
    title: str

    @property
    def ahead(self) -> bool | None:
        """Significantly ahead (True) or behind (False) at 5%; None: cannot tell."""
        return None if self.p_value >= 0.05 else self.ldat > self.rival

    def __str__(self) -> str:
        rival = f"{glossary.defence(self.name)} {self.rival:.1f}%"
        return f"{self.title} {self.ldat:.1f}%, best rival {rival} (p={self.p_value:.2g})"


class Evidence:
    """The records of a run; ``ldat`` names the LDAT that the claims are put to."""

    def __init__(self, run: Run, ldat: str):
        self.ldat, self.title = ldat, glossary.defence(ldat)
        self.classes = run.dataset.num_classes
        first = run.select_seed(run.trainings())
        self.training = _found(run, "train", first, Train)
        self.whitebox = _found(run, "whitebox", first, Whitebox)
        self.eps = _found(run, "sweep_eps", first, Sweep)
        self.steps = _found(run, "sweep_steps", first, Sweep)
        self.surrogates = _found(run, "transfer", run.surrogates(), Transfer)
        self.features = _found(run, "features", first, Features)
        self.detection = _found(run, "detection", first, Detection)
        self.autoattack = _found(run, "autoattack", first, Autoattack)
        self.masking = _found(run, "masking", first, Masking)
        self.adaptive = _found(run, "adaptive", first, Adaptive)
        # The variations are of the profile's base; of another LDAT they say nothing.
        varied = ldat == run.profile.base
        self.betas = _basic(run, run.beta_trainings() if varied else {})
        self.attacks = _basic(run, run.attack_trainings() if varied else {})
        self.labels = {training.name: training.label for training in first}
        self.logs = Records({t.name: run.log(t) for t in first if t.name in self.training})

    @property
    def rivals(self) -> list[str]:
        """The paper's rivals that were attacked; ``NoRecord`` where there are none."""
        found = [name for name in self.whitebox if name in RIVALS]
        if not found:
            raise NoRecord("rivals")
        return found

    @property
    def compared(self) -> list[str]:
        """The rivals, and LDAT."""
        return [*self.rivals, self.ldat]

    @property
    def at_chance(self) -> bool:
        """Whether LDAT's natural accuracy is that of guessing: its features have collapsed."""
        if self.ldat not in self.whitebox:
            return False
        clean = self.whitebox[self.ldat].clean_accuracy
        return clean.low <= 1 / self.classes <= clean.high

    def accuracy(self, defence: str, key: str) -> float:
        """Percent right; ``key`` as for ``comparisons.right_images``."""
        return 100 * right_images(self.whitebox[defence], key).float().mean().item()

    def lead(self, key: str, rivals: Iterable[str] | None = None) -> Lead:
        """LDAT against the best rival in a column."""
        names = [*(rivals or self.rivals), self.ldat]
        return self.lead_of({name: right_images(self.whitebox[name], key) for name in names})

    def lead_of(self, right: Mapping[str, Tensor]) -> Lead:
        """LDAT against the best rival; ``right``: by defence, bool [N] of the same images."""
        percent = {name: 100 * images.double().mean().item() for name, images in right.items()}
        rival = max((name for name in right if name != self.ldat), key=percent.__getitem__)
        p_value = mcnemar_of(right[self.ldat], right[rival])[2]
        return Lead(percent[self.ldat], percent[rival], p_value, rival, self.title)

    def transferred(self, surrogate: str, defence: str, key: str) -> Share:
        """Share of a defence right under images of a surrogate; ``key``: attack or ``clean``."""
        return self.surrogates[surrogate].targets[self.labels[defence]][key]


def all_hold(verdicts: Iterable[bool | None]) -> bool | None:
    """One verdict of several: False where any fails, True where all hold, else None."""
    found = list(verdicts)
    return False if False in found else True if all(found) else None


def _basic(run: Run, trainings: Mapping[K, Training]) -> Records[K, Basic]:
    """The records of kind ``basic`` of named trainings, as far as there are any."""
    named: Records[K, Basic] = Records()
    for name, training in trainings.items():
        for record in _found(run, "basic", [training], Basic).values():
            named[name] = record
    return named


def _found(run: Run, kind: str, trainings: Iterable[Training], shape: type[R]) -> Records[str, R]:
    found: Records[str, R] = Records()
    for job in run.jobs_of(kind, list(trainings)):
        if job.path.is_file():
            found[job.training.name] = read(job.path, shape)
    return found
