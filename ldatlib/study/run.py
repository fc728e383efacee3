"""A run: a profile becomes trained networks and records, each computed once and found again."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ldatlib.errors import check_count, check_deadline
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.files import as_path, home, path_of
from ldatlib.study import jobs as planned
from ldatlib.study import notebooks, plugins, published, schedule
from ldatlib.study.cluster import Cluster, Say
from ldatlib.study.jobs import Job
from ldatlib.study.kinds import KINDS
from ldatlib.study.kinds.white_box import WHITE_BOX, table1_of
from ldatlib.study.profiles import load_profile
from ldatlib.study.settings import Profile
from ldatlib.study.trainings import Training
from ldatlib.study.workspace import Workspace


def open_run(
    profile: str = "demo",
    overrides: dict | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    deadline: float | None = None,
    processes: int = 1,
    cluster: Cluster | None = None,
) -> "Run":
    """A run of a profile in the folder ``out``; nothing is computed yet.

    Parameters
    ----------
    profile : its name; ``overrides`` replaces fields of it, such as ``{"epochs": 5}``, and names
        ``plugins``, files of your own that register defences or networks.
    out : ``runs/PROFILE`` of the checkout, or of the current folder where the library is
        installed without one, unless said.
    jobs : processes that train and evaluate side by side: one a core on a CPU, one a GPU,
        unless said; ``processes``: those of which a single evaluation may be shared among.
    cluster : the scheduler whose workers compute what is missing, in place of ``jobs``.
    deadline : in seconds of ``time.time()``; whatever computes stops in good order then.

    Raises
    ------
    UserError : an unknown profile or field, a value out of range or of another type, a plug-in
        that does not load.
    """
    if jobs is not None:
        check_count("jobs", jobs)
    check_count("processes", processes)
    check_deadline(deadline)
    chosen = load_profile(profile, overrides)
    # The default of the command line is no folder.
    folder = home() / "runs" / profile if out in (None, "") else as_path(out, "out")
    if chosen.dataset == "published":
        published.unpack(path_of(str(chosen.data_root)), folder)
    return Run(chosen, folder, jobs or schedule.default_processes(), deadline, processes, cluster)


class Run(Workspace):
    """A workspace, and the schedule above it: what is asked for is computed where it is missing."""

    def __init__(
        self,
        profile: Profile,
        root: Path,
        jobs: int = 1,
        deadline: float | None = None,
        processes: int = 1,
        cluster: Cluster | None = None,
    ):
        super().__init__(profile, root, deadline, processes)
        self.jobs, self.cluster = jobs, cluster

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"jobs": self.jobs, "cluster": self.cluster}

    def plan(self, notebook: str) -> list[Job]:
        """What a notebook (``"03"``) computes, in order."""
        return notebooks.plan(self, notebook)

    def jobs_of(self, kind: str, trainings: Iterable[Training]) -> list[Job]:
        """The jobs of a kind, one a training; ``job.done`` tells whether its record is there."""
        return planned.jobs_of(self, kind, trainings)

    def compute(self, notebook: str, say: Say = print) -> None:
        """Everything a notebook's plan lacks, side by side; first what the rest is made from."""
        self.complete(self.plan(notebook), say)

    def check(self, jobs: Iterable[Job]) -> None:
        """Raises ``UserError`` where a missing one of these jobs cannot be computed of the data.

        ``complete`` begins with it.
        """
        schedule.check(self, jobs)

    def complete(self, jobs: Iterable[Job], say: Say = print) -> None:
        """Compute these jobs where they are missing, those first that others are made from.

        Raises ``OutOfTime`` where the deadline of the run came before their end.
        """
        self.keep_plugins()
        schedule.complete(self, jobs, self.jobs, say, self.cluster)

    def records(self, kind: str, trainings: Sequence[Training], say: Say = print) -> list[Any]:
        """Records of a kind, one a training; computed where missing, with what they need.

        Kinds: ``train`` (validation, seconds, files), ``whitebox`` (Table 1's attacks),
        ``worst_case``, ``basic`` and ``validation`` (natural and PGD, test or validation images),
        ``sweep_eps`` and ``sweep_steps`` (Figures 4 and 5), ``transfer`` (Tables 4 and 5),
        ``features`` (Figure 7), ``detection`` (Figures 8 and 9), ``search`` (from larger balls),
        ``autoattack``, ``masking``, ``adaptive``. Each is a structure of ``ldatlib.study.records``;
        ``docs/records.md`` has the fields.
        """
        self.complete(planned.with_needs(self, kind, trainings), say)
        return [KINDS[kind].read(self, training) for training in trainings]

    def forget(self, job: Job) -> None:
        """Compute this job anew next time, an interrupted one from its beginning."""
        planned.forget(self, job)

    def passed_over(self) -> int:
        """How many records of an earlier numerics version lie in the folder, unused."""
        return schedule.passed_over(self, notebooks.everything(self))

    def adversarial(self, training: Training) -> dict[str, Tensor]:
        """Saved images of Table 1's attacks: ``x``, ``y`` and one entry an attack, by its key."""
        return WHITE_BOX.images(self, training)

    def table1_attacks(self) -> tuple[Attack, ...]:
        """Table 1's attacks at the budgets of the profile."""
        return table1_of(self.profile)

    def keep_plugins(self) -> list[Path]:
        """Copies of the plug-ins in the folder of the run, as they were loaded."""
        return plugins.copy_into(self.root, self.profile.plugins)
