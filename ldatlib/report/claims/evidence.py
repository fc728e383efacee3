"""What the claims are judged by: the records of one seed, by defence, and Table 1 of every seed."""

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from ldatlib.defences import TITLES
from ldatlib.evaluation.robustness import from_bits
from ldatlib.report import glossary, paired
from ldatlib.report.claims import rules
from ldatlib.report.claims.contests import BESIDE, RIVALS, Contest
from ldatlib.report.claims.rules import Support
from ldatlib.report.comparisons import METHOD_SEEDS, Shown, right_images, transfer_pair
from ldatlib.report.paired import Pair
from ldatlib.study.records import (
    Adaptive,
    Autoattack,
    Basic,
    Detection,
    Features,
    Masking,
    Record,
    Search,
    Share,
    Sweep,
    Train,
    Transfer,
    Whitebox,
    read,
)
from ldatlib.study.run import Run
from ldatlib.study.trainings import Training

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R", bound=Record)


class NoRecord(Exception):
    """A claim needs a record that the run does not have."""


class Records(dict[K, T]):
    """Records by name. One that could be there and is not is ``NoRecord``.

    Any other name is a ``KeyError``: a defect, and not a missing record.
    """

    def __init__(self, names: Iterable[K], found: Mapping[K, T] | None = None):
        super().__init__(found or {})
        self.names = frozenset(names)

    def __missing__(self, name: K) -> T:
        raise NoRecord(str(name)) if name in self.names else KeyError(name)


class Evidence:
    """The records of a run; ``ldat`` names the LDAT that the claims are put to."""

    # Where the run varies another LDAT: which.
    instead = ""

    def __init__(self, run: Run, ldat: str):
        self.ldat, self.title = ldat, glossary.defence(ldat)
        self.classes = run.dataset.num_classes
        first = run.select_seed(run.trainings())
        self.training = _found(run, "train", first, Train)
        self.whitebox = _found(run, "whitebox", first, Whitebox)
        self.trained = _every_seed(run)
        self.eps = _found(run, "sweep_eps", first, Sweep)
        self.steps = _found(run, "sweep_steps", first, Sweep)
        self.surrogates = _found(run, "transfer", run.surrogates(), Transfer)
        self.features = _found(run, "features", first, Features)
        self.detection = _found(run, "detection", first, Detection)
        self.autoattack = _found(run, "autoattack", first, Autoattack)
        self.search = _found(run, "search", first, Search)
        self.masking = _found(run, "masking", first, Masking)
        self.adaptive = _found(run, "adaptive", first, Adaptive)
        # The variations are of the profile's base; of another LDAT they say nothing.
        varied = ldat == run.profile.base
        if not varied:
            self.instead = f" (it varies {glossary.defence(run.profile.base)} instead)"
        self.betas = _basic(run, run.beta_trainings(), varied)
        self.attacks = _basic(run, run.attack_trainings(), varied)
        self.switched = _basic(run, run.likelihood_trainings(), True)
        self.labels = {training.name: training.label for training in first}
        logs = {t.name: run.log(t) for t in first if t.name in self.training}
        self.logs = Records(TITLES, logs)

    @property
    def rivals(self) -> list[str]:
        """The paper's rivals that were attacked; ``NoRecord`` where there are none."""
        found = [name for name in self.whitebox if name in RIVALS]
        if not found:
            raise NoRecord("rivals")
        return found

    @property
    def others(self) -> list[str]:
        """The paper's rivals, and L2-AT, which the paper leaves out, where it was attacked."""
        return [*self.rivals, *(name for name in (BESIDE,) if name in self.whitebox)]

    @property
    def compared(self) -> list[str]:
        """All of those, and LDAT."""
        return [*self.others, self.ldat]

    @property
    def seeds(self) -> int:
        """Trainings of each of those compared, as far as all have them."""
        return min(len(self.trained[name]) for name in self.compared)

    @property
    def speaks_of(self) -> str:
        """Whom a comparison in Table 1 speaks of."""
        if self.seeds < METHOD_SEEDS:
            return "this network"
        return f"the methods, {self.seeds} trainings of each"

    def guesses(self, record: Whitebox | Basic) -> bool:
        """Whether a network is no better than chance: its features have collapsed."""
        return record.clean_accuracy.low <= 1 / self.classes

    @property
    def at_chance(self) -> bool:
        """Whether LDAT is."""
        return self.ldat in self.whitebox and self.guesses(self.whitebox[self.ldat])

    def right(self, defence: str, key: str) -> Tensor:
        """Images right, bool [N]; ``key`` as for ``comparisons.right_images``."""
        return right_images(self.whitebox[defence], key)

    def contest(self, key: str, what: str = "") -> Contest:
        """LDAT against all others in a column of Table 1: over trainings where all have three."""
        if self.seeds < METHOD_SEEDS:
            right = {name: self.right(name, key) for name in self.compared}
            return self.contest_of(right, what)
        values = {
            name: [right_images(r, key).double().mean().item() for r in self.trained[name]]
            for name in self.compared
        }
        percent = {name: 100 * sum(v) / len(v) for name, v in values.items()}
        supports = {
            name: rules.NONE
            if any(self.guesses(record) for record in self.trained[name])
            else rules.methods_ahead(values[self.ldat], values[name])
            for name in self.others
        }
        theirs = {name: percent[name] for name in self.others}
        return Contest(what, percent[self.ldat], theirs, supports)

    def contest_of(self, right: Mapping[str, Tensor], what: str = "") -> Contest:
        """The same of bool [N] by defence: the same images right or wrong under each."""
        percent = {name: 100 * images.double().mean().item() for name, images in right.items()}
        pairs = {name: paired.pair(right[self.ldat], right[name]) for name in self.others}
        return self.contest_of_pairs(percent, pairs, what)

    def contest_of_pairs(
        self, percent: Mapping[str, float], pairs: Mapping[str, Pair], what: str = ""
    ) -> Contest:
        """The same of accuracies in percent by defence, and of pairs whose first is LDAT."""
        supports = {name: self.support(name, pairs[name]) for name in self.others}
        theirs = {name: percent[name] for name in self.others}
        return Contest(what, percent[self.ldat], theirs, supports)

    def support(self, defence: str, found: Pair) -> Support:
        """What a pair with this defence says to "ahead"; nothing where it guesses."""
        return rules.NONE if self.guesses(self.whitebox[defence]) else rules.ahead(found)

    def transferred(self, surrogate: str, defence: str, key: str) -> Share:
        """Share of a defence right under images of a surrogate; ``key``: attack or ``clean``."""
        return self.surrogates[surrogate].targets[self.labels[defence]][key]

    def transfer_pair(self, first: tuple[str, str, str], second: tuple[str, str, str]) -> Pair:
        """Two of those shares, each by the arguments of ``transferred``, as a pair."""
        shown = [Shown(self.surrogates[s], self.labels[d], key) for s, d, key in (first, second)]
        return transfer_pair(*shown)


def stacked(bits: Iterable[str], count: int) -> Tensor:
    """The first ``count`` images that are right in all of these, bool [count]."""
    return torch.stack([from_bits(b)[:count] for b in bits]).all(0)


def _basic(run: Run, trainings: Mapping[K, Training], wanted: bool) -> Records[K, Basic]:
    """The records of kind ``basic`` of named trainings, as far as there are any."""
    named: Records[K, Basic] = Records(trainings)
    for name, training in trainings.items() if wanted else ():
        for record in _found(run, "basic", [training], Basic).values():
            named[name] = record
    return named


def _found(run: Run, kind: str, trainings: Iterable[Training], shape: type[R]) -> Records[str, R]:
    found: Records[str, R] = Records(TITLES)
    for job in run.jobs_of(kind, list(trainings)):
        if job.path.is_file():
            found[job.training.name] = read(job.path, shape)
    return found


def _every_seed(run: Run) -> Records[str, list[Whitebox]]:
    found: Records[str, list[Whitebox]] = Records(TITLES)
    for job in run.jobs_of("whitebox", run.trainings()):
        if job.path.is_file():
            found.setdefault(job.training.name, []).append(read(job.path, Whitebox))
    return found
