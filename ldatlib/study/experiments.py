"""From a profile to trained models and records, each computed once and found again.

This module alone knows the disk. A run lives in one folder:

    checkpoints/*.safetensors   last and best weights of every training
    records/*.json, *.jsonl     one record a training and evaluation, one log a training
    adversarial/*.safetensors   images that the attacks found, for pictures and re-scoring
    partial/*.safetensors       attacks of evaluations that were interrupted
    cache/*.safetensors         pixels of a large folder of pictures
    figures/  tables/  notebooks/  report.html

A record is found by a key made of the configuration, the data's fingerprint and the numerics
version (``records.NUMERICS``); the source revision is written into it but is no part of the key.
"""

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldatlib import files
from ldatlib.data import CIFAR, Dataset, load_dataset, outline
from ldatlib.errors import MissingDataError, OutOfTime, UserError
from ldatlib.evaluation.named_attacks import Attack, table1_attacks
from ldatlib.evaluation.partial import Partial
from ldatlib.execution import default_device, full_precision, place
from ldatlib.files import load_tensors, read_json, write_json
from ldatlib.models import Classifier
from ldatlib.study import provenance as records
from ldatlib.study import published, scrutiny_jobs
from ldatlib.study.jobs import KINDS
from ldatlib.study.profiles import Profile, load_profile
from ldatlib.study.trainings import Training, Trainings
from ldatlib.training.checkpoint import load_model

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """One thing to compute: ``kind`` is a method of ``KINDS``. ``flops`` is an estimate."""

    kind: str
    training: Training
    path: Path
    flops: float
    products: tuple[Path, ...] = ()

    @property
    def done(self) -> bool:
        """The record is there, and the weights or images it speaks of."""
        return self.path.is_file() and all(map(files.exists, self.products))


def open_run(
    profile: str = "demo",
    overrides: dict | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    deadline: float | None = None,
    processes: int = 1,
) -> "Run":
    """A run of a profile in ``out`` (``runs/PROFILE`` of the project unless said).

    ``overrides`` replaces fields of the profile by name. ``jobs`` is the number of processes that
    train and evaluate side by side: one a core on a CPU, one on a GPU unless said; ``processes``
    that of those which a single evaluation may be shared among. At ``deadline`` (seconds of
    ``time.time()``) whatever computes stops in good order.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs must be at least 1, not {jobs}")
    chosen = load_profile(profile, overrides)
    folder = Path(out) if out else PROJECT / "runs" / profile
    if chosen.dataset == "published":
        published.unpack(Path(chosen.data_root), folder)
    return Run(chosen, folder, jobs or default_jobs(), deadline, processes)


def default_jobs() -> int:
    if torch.cuda.is_available():
        return 1
    # The cores this process may use, which a container or a batch system may have cut down.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Run(Trainings):
    """A profile, a folder, and what has been computed in it."""

    def __init__(
        self,
        profile: Profile,
        root: Path,
        jobs: int = 1,
        deadline: float | None = None,
        processes: int = 1,
    ):
        self.profile, self.root, self.jobs = profile, Path(root), jobs
        self.deadline, self.processes = deadline, processes

    def __getstate__(self) -> dict:
        # Workers load the data themselves: cheaper than sending it, and cached there.
        kept = ("profile", "root", "jobs", "deadline", "processes")
        return {name: getattr(self, name) for name in kept}

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline

    def plan_without_data(self) -> bool:
        """Stand-in images where CIFAR is not at hand, for planning alone; whether they stand in."""
        p = self.profile
        if p.dataset in CIFAR:
            try:
                self.dataset = self._load(download=False)
            except MissingDataError:
                self.dataset = outline(p.dataset, p.val_size, p.train_size, p.test_size)
                return True
        return False

    @functools.cached_property
    def dataset(self) -> Dataset:
        return self._load()

    def _load(self, download: bool = True) -> Dataset:
        p = self.profile
        return load_dataset(
            p.dataset,
            root=p.data_root,
            image_size=p.image_size,
            val_size=p.val_size,
            train_size=p.train_size,
            test_size=p.test_size,
            title=p.data_title,
            cache=self.root / "cache",
            download=download,
        )

    @functools.cached_property
    def plane_dataset(self) -> Dataset:
        # A folder may have fewer classes than the profile draws.
        known = [c for c in self.profile.plane_classes if c < self.dataset.num_classes]
        return self.dataset.subset(known, self.profile.plane_images)

    def view(self, training: Training) -> Dataset:
        return self.plane_dataset if training.view == "plane" else self.dataset

    def plan(self, notebook: str) -> list[Job]:
        """What a notebook computes, in order; the same jobs whoever asks for them."""
        if notebook == "01":
            return self.jobs_of("train", self.plane_trainings())
        if notebook == "02":
            return self.jobs_of("train", self.trainings())
        if notebook == "03":
            jobs = self.jobs_of("train", self.trainings()) + self.jobs_of(
                "whitebox", self.trainings()
            )
            first = self.select_seed(self.trainings())
            return jobs + self.jobs_of("sweep_eps", first) + self.jobs_of("sweep_steps", first)
        if notebook == "04":
            sources = [*self.surrogates(), *self.select_seed(self.trainings())]
            trained = [*self.surrogates(), *self.trainings()]
            return self.jobs_of("train", trained) + self.jobs_of("transfer", sources)
        if notebook == "05":
            # The base is in several.
            trainings = list({a.label: a for a in self.ablations()}.values())
            jobs = self.jobs_of("train", trainings) + self.jobs_of("basic", trainings)
            if self.profile.ablations != "paper":
                jobs += self.jobs_of("validation", list(self.switch_trainings().values()))
            return jobs
        if notebook in ("06", "07", "08"):
            base = self.profile.base
            names = ("trades", "ldat", base) if notebook == "06" else (base,)
            trainings = [
                training
                for training in self.select_seed(self.trainings())
                if training.name in names
            ]
            if notebook == "08":
                trainings = self.select_seed(self.trainings())
            kinds = ("train", "whitebox", "features" if notebook == "06" else "detection")
            return [job for kind in kinds for job in self.jobs_of(kind, trainings)]
        if notebook == "09":
            first = self.select_seed(self.trainings())
            kinds = ("whitebox", "detection", *scrutiny_jobs.SCRUTINY)
            # The surrogate is a sibling that attacks are transferred from.
            jobs = self.jobs_of("train", [*self.trainings(), self.surrogates()[1]])
            return jobs + [job for kind in kinds for job in self.jobs_of(kind, first)]
        return []

    def compute(self, notebook: str, say: Callable[[str], None] = print) -> None:
        """Everything a notebook's plan lacks, side by side; first what the rest is made from.

        The methods below compute what they return, too; this one keeps all cores busy.
        """
        self.complete(self.plan(notebook), say)

    def complete(self, jobs: Iterable[Job], say: Callable[[str], None] = print) -> None:
        """Compute these jobs where they are missing, those first that others are made from.

        Raises ``OutOfTime`` where the deadline of the run came before their end.
        """
        unique = list({job.path: job for job in jobs}.values())
        for stage in sorted({KINDS[job.kind].stage for job in unique}):
            self._complete([job for job in unique if KINDS[job.kind].stage == stage], say)

    # --- computing, each once ---------------------------------------------------------------

    def train(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Training records, trained side by side where they are missing."""
        return self._ensure("train", trainings, say)

    def whitebox(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Table 1's attacks on the test images: one record a training."""
        self.train(trainings, say)
        return self._ensure("whitebox", trainings, say)

    def sweep_eps(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Figure 4: PGD at growing budgets, both norms."""
        self.train(trainings, say)
        return self._ensure("sweep_eps", trainings, say)

    def sweep_steps(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Figure 5: PGD (L-inf) and C&W (L2) at growing numbers of iterations."""
        self.train(trainings, say)
        return self._ensure("sweep_steps", trainings, say)

    def basic(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Natural accuracy and PGD in both norms: Table 3 and Fig. 6."""
        self.train(trainings, say)
        return self._ensure("basic", trainings, say)

    def validation(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """The same on the validation images: what a setting may be chosen by."""
        self.train(trainings, say)
        return self._ensure("validation", trainings, say)

    def transfer(
        self, sources: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Tables 4 and 5: images crafted on each source, shown to every defence of the run."""
        self.train([*sources, *self.trainings()], say)
        return self._ensure("transfer", sources, say)

    def features(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Fig. 7's numbers: distances, silhouettes and the probe in feature space."""
        self.whitebox(trainings, say)
        return self._ensure("features", trainings, say)

    def detection(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Scores of validation, test and adversarial images, and thresholds: Fig. 8 and 9."""
        self.whitebox(trainings, say)
        return self._ensure("detection", trainings, say)

    def autoattack(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """AutoAttack's standard ensemble in the profile's norms."""
        self.train(trainings, say)
        return self._ensure("autoattack", trainings, say)

    def masking(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """Tests for gradient masking, against the worst case of Table 1."""
        self.train([*self.trainings(), self.surrogates()[1]], say)
        self.whitebox(trainings, say)
        return self._ensure("masking", trainings, say)

    def adaptive(
        self, trainings: Sequence[Training], say: Callable[[str], None] = print
    ) -> list[dict]:
        """The detector under an attack that knows it, at every stored threshold."""
        self.detection(trainings, say)
        return self._ensure("adaptive", trainings, say)

    def _ensure(
        self, kind: str, trainings: Sequence[Training], say: Callable[[str], None]
    ) -> list[dict]:
        jobs = self.jobs_of(kind, trainings)
        self._complete(jobs, say)
        return [read_json(job.path) for job in jobs]

    def _complete(self, jobs: list[Job], say: Callable[[str], None]) -> None:
        # The longest first: at the end no core waits for a long one.
        missing = sorted((job for job in jobs if not job.done), key=lambda job: -job.flops)
        stopped = []
        for job, reason in self._execute(missing):
            if reason:
                stopped.append(reason)
            else:
                say(KINDS[job.kind].line(read_json(job.path), job.training))
        if stopped:
            raise OutOfTime(f"the time is up: {stopped[0]}; {len(stopped)} unfinished")

    def _execute(self, jobs: list[Job]) -> Iterable[tuple[Job, str | None]]:
        """Each job when it is done, or with the reason why the deadline left it unfinished."""
        if self.jobs == 1 or len(jobs) < 2:
            threads = torch.get_num_threads()
            for job in jobs:
                # A last one alone is computed as it would have been beside others.
                result = _work(self, job, None if self.jobs == 1 else 1)
                torch.set_num_threads(threads)
                yield result
            return
        from joblib import Parallel, delayed

        # One thread each: several processes of one thread beat one process of several on
        # networks this small.
        pool = Parallel(n_jobs=self.jobs, return_as="generator_unordered")
        yield from pool(delayed(_work)(self, job, 1) for job in jobs)

    def jobs_of(self, kind: str, trainings: Sequence[Training]) -> list[Job]:
        """The jobs of a kind, one a training; ``job.done`` tells whether its record is there."""

        def products(training: Training) -> tuple[Path, ...]:
            # What is published is the records, and the weights and images of some.
            is_published = self.profile.dataset == "published"
            return () if is_published else KINDS[kind].products(self, training)

        return [
            Job(
                kind,
                training,
                self._record_path(kind, training),
                KINDS[kind].flops(self, training),
                products(training),
            )
            for training in trainings
        ]

    def forget(self, job: Job) -> None:
        """Compute this job anew next time, an interrupted one from its beginning."""
        job.path.unlink(missing_ok=True)
        self.partial(job.kind, job.training).clear()
        for path in KINDS[job.kind].states(self, job.training):
            path.unlink(missing_ok=True)

    def partial(self, kind: str, training: Training) -> Partial:
        """Where an evaluation of this run keeps what it has done so far."""
        return Partial(self.root / "partial", self._record_path(kind, training).stem, self.deadline)

    # --- names and keys ---------------------------------------------------------------------

    def key(self, kind: str, training: Training) -> str:
        content = {
            "numerics": records.NUMERICS,
            "fingerprint": self.view(training).fingerprint,
            "config": training.config.as_dict(),
            "kind": kind,
            "settings": KINDS[kind].settings(self),
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def _record_path(self, kind: str, training: Training) -> Path:
        return self.root / "records" / f"{kind}-{training.label}-{self.key(kind, training)}.json"

    def checkpoint_path(self, training: Training, which: str = "last") -> Path:
        """``which``: ``"last"``, the primary one, or ``"best"`` on validation images."""
        suffix = {"last": "", "best": ".best"}[which]
        name = f"{training.label}-{self.key('train', training)}{suffix}.safetensors"
        return self.root / "checkpoints" / name

    def adversarial_path(self, training: Training) -> Path:
        name = f"whitebox-{training.label}-{self.key('whitebox', training)}.safetensors"
        return self.root / "adversarial" / name

    def model(self, training: Training, which: str = "last") -> Classifier:
        """A trained model of this run on the default device, in eval mode."""
        return place(load_model(self.checkpoint_path(training, which)), default_device())

    def log(self, training: Training) -> list[dict]:
        """A training's log: one dictionary an epoch."""
        path = self.log_path(training)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def log_path(self, training: Training) -> Path:
        return self._record_path("train", training).with_suffix(".jsonl")

    def adversarial(self, training: Training) -> dict[str, Tensor]:
        """Saved images of the white-box attacks: ``x``, ``y`` and one entry per attack key."""
        tensors = load_tensors(self.adversarial_path(training))[0]
        # Published ones are float16.
        return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}

    def table1_attacks(self) -> tuple[Attack, ...]:
        p = self.profile
        return table1_attacks(
            p.eps_linf,
            p.eps_l2,
            steps=p.steps,
            cw_step_size=p.cw_step_size,
            fab_targets=p.fab_targets,
        )

    def test_images(self, limit: int, device: torch.device) -> tuple[Tensor, Tensor]:
        x, y = self.dataset.split("test", limit)
        return x.to(device), y.to(device)

    def header(self, kind: str, training: Training) -> dict:
        """What every record begins with."""
        return {
            "kind": kind,
            "profile": self.profile.name,
            "defence": training.config.defence.name,
            "title": training.title,
            "seed": training.config.seed,
            "key": self.key(kind, training),
            "training_key": self.key("train", training),
            "dataset": self.dataset.title,
            "fingerprint": self.view(training).fingerprint,
            "config": training.config.as_dict(),
            "settings": KINDS[kind].settings(self),
        }


def _work(run: Run, job: Job, threads: int | None) -> tuple[Job, str | None]:
    """Compute one job and write its record, last; or say why the deadline left it unfinished."""
    if run.late:
        return job, f"{job.kind} {job.training.label} did not begin"
    if threads:
        torch.set_num_threads(threads)
    device = default_device()
    started = time.perf_counter()
    try:
        if job.kind == "train":
            body = KINDS[job.kind].compute(run, job.training, device)
        else:
            with full_precision():
                body = KINDS[job.kind].compute(run, job.training, device)
    except OutOfTime as stop:
        return job, str(stop)
    body = {"seconds": round(time.perf_counter() - started, 2), **body}
    content = {
        **run.header(job.kind, job.training),
        **body,
        "provenance": records.provenance(device),
    }
    write_json(job.path, content)
    run.partial(job.kind, job.training).clear()
    return job, None
