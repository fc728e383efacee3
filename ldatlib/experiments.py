"""From a profile to trained models and records, each computed once and found again.

This module alone knows the disk. A run lives in one folder:

    checkpoints/*.safetensors   last and best weights of every training
    records/*.json, *.jsonl     one record a training and evaluation, one log a training
    adversarial/*.safetensors   images that the attacks found, for pictures and re-scoring
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ldatlib import records, robustness
from ldatlib.checkpoint import load_model, load_tensors, read_json, save_tensors, write_json
from ldatlib.data import Dataset, load_dataset
from ldatlib.defences import TITLES, make_defence
from ldatlib.errors import UserError
from ldatlib.models import Classifier, NetworkConfig, build_network, default_device, place
from ldatlib.profiles import Profile, load_profile
from ldatlib.robustness import Attack
from ldatlib.trainer import TrainConfig, train

PROJECT = Path(__file__).resolve().parent.parent
PLANE_DEFENCES = ("natural", "standard", "ldat")


@dataclass(frozen=True)
class Arm:
    """One training of a run. ``view`` is the data it sees: ``"full"`` or ``"plane"``."""

    name: str
    config: TrainConfig
    view: str = "full"

    @property
    def label(self) -> str:
        return f"{self.name}-s{self.config.seed}"

    @property
    def title(self) -> str:
        return TITLES[self.config.defence.name]


@dataclass(frozen=True)
class Job:
    """One thing to compute: ``kind`` is a method of ``_KINDS``. ``flops`` is an estimate."""

    kind: str
    arm: Arm
    path: Path
    flops: float

    @property
    def done(self) -> bool:
        return self.path.is_file()


def open_run(
    profile: str = "demo",
    overrides: dict | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
) -> "Run":
    """A run of a profile in ``out`` (``runs/PROFILE`` of the project unless said).

    ``overrides`` replaces fields of the profile by name. ``jobs`` is the number of processes that
    train and evaluate side by side: one a core on a CPU, one on a GPU unless said.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs must be at least 1, not {jobs}")
    chosen = load_profile(profile, overrides)
    folder = Path(out) if out else PROJECT / "runs" / profile
    return Run(chosen, folder, jobs or default_jobs())


def default_jobs() -> int:
    if torch.cuda.is_available():
        return 1
    # The cores this process may use, which a container or a batch system may have cut down.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Run:
    """A profile, a folder, and what has been computed in it."""

    def __init__(self, profile: Profile, root: Path, jobs: int = 1):
        self.profile, self.root, self.jobs = profile, Path(root), jobs

    def __getstate__(self) -> dict:
        # Workers load the data themselves: cheaper than sending it, and cached there.
        return {"profile": self.profile, "root": self.root, "jobs": self.jobs}

    @functools.cached_property
    def dataset(self) -> Dataset:
        p = self.profile
        return load_dataset(
            p.dataset,
            root=p.data_root,
            image_size=p.image_size,
            val_size=p.val_size,
            test_size=p.test_size,
            title=p.data_title,
        )

    @functools.cached_property
    def plane_dataset(self) -> Dataset:
        return self.dataset.subset(self.profile.plane_classes, self.profile.plane_images)

    def view(self, arm: Arm) -> Dataset:
        return self.plane_dataset if arm.view == "plane" else self.dataset

    # --- what there is to train -------------------------------------------------------------

    def arm(self, name: str, seed: int = 0, view: str = "full", **switches) -> Arm:
        """One defence of this run with its seed; ``switches`` replace fields of the defence."""
        p = self.profile
        switches.setdefault("num_steps", p.attack_steps)
        if name == "ldat":
            own = {"beta": p.beta, "margin": p.margin, "lambda_init": p.lambda_init}
            switches = own | switches
        defence = make_defence(
            name, eps_linf=p.eps_linf, eps_l2=p.eps_l2, radius=p.radius, **switches
        )
        data = self.plane_dataset if view == "plane" else self.dataset
        network = NetworkConfig(
            num_classes=data.num_classes,
            head=defence.head,
            depth=p.depth,
            width=p.width,
            stages=p.stages,
            in_channels=data.channels,
            feature_dim=2 if view == "plane" else None,
            centroid_init=defence.centroid_init,
        )
        config = TrainConfig(
            defence=defence,
            network=network,
            epochs=p.plane_epochs if view == "plane" else p.epochs,
            seed=seed,
            batch_size=p.batch_size,
            lr=p.lr,
            momentum=p.momentum,
            weight_decay=p.weight_decay,
            padding=p.padding,
            flip=data.flip,
            ema_decay=p.ema_decay,
            val_eps=p.eps_linf,
            val_every=p.val_every,
        )
        return Arm(f"plane-{name}" if view == "plane" else name, config, view)

    def arms(self, names: Iterable[str] | None = None) -> list[Arm]:
        """The defences of the profile (or ``names``), every seed of each."""
        names = tuple(names or self.profile.defences)
        return [self.arm(name, seed) for name in names for seed in range(self.profile.seeds)]

    def plane_arms(self) -> list[Arm]:
        """Figures 1 and 2: a few classes, features of two dimensions."""
        return [self.arm(name, view="plane") for name in PLANE_DEFENCES]

    def plan(self, notebook: str) -> list[Job]:
        """What a notebook computes, in order; the same jobs whoever asks for them."""
        if notebook == "01":
            return self.jobs_of("train", self.plane_arms())
        if notebook == "02":
            return self.jobs_of("train", self.arms())
        if notebook == "03":
            kinds = ("train", "whitebox", "sweep_eps", "sweep_steps")
            return [job for kind in kinds for job in self.jobs_of(kind, self.arms())]
        return []

    def compute(self, notebook: str, say: Callable[[str], None] = print) -> None:
        """Everything a notebook's plan lacks, side by side: trainings first, then what needs them.

        The methods below compute what they return, too; this one keeps all cores busy.
        """
        plan = self.plan(notebook)
        for stage in (True, False):
            self._complete([job for job in plan if (job.kind == "train") is stage], say)

    # --- computing, each once ---------------------------------------------------------------

    def train(self, arms: Sequence[Arm], say: Callable[[str], None] = print) -> list[dict]:
        """Training records, trained side by side where they are missing."""
        return self._ensure("train", arms, say)

    def whitebox(self, arms: Sequence[Arm], say: Callable[[str], None] = print) -> list[dict]:
        """Table 1's attacks on the test images: one record an arm."""
        self.train(arms, say)
        return self._ensure("whitebox", arms, say)

    def sweep_eps(self, arms: Sequence[Arm], say: Callable[[str], None] = print) -> list[dict]:
        """Figure 4: PGD at growing budgets, both norms."""
        self.train(arms, say)
        return self._ensure("sweep_eps", arms, say)

    def sweep_steps(self, arms: Sequence[Arm], say: Callable[[str], None] = print) -> list[dict]:
        """Figure 5: PGD (L-inf) and C&W (L2) at growing numbers of iterations."""
        self.train(arms, say)
        return self._ensure("sweep_steps", arms, say)

    def _ensure(self, kind: str, arms: Sequence[Arm], say: Callable[[str], None]) -> list[dict]:
        jobs = self.jobs_of(kind, arms)
        self._complete(jobs, say)
        return [read_json(job.path) for job in jobs]

    def _complete(self, jobs: list[Job], say: Callable[[str], None]) -> None:
        # The longest first: at the end no core waits for a long one.
        missing = sorted((job for job in jobs if not job.done), key=lambda job: -job.flops)
        for job in self._execute(missing):
            say(_KINDS[job.kind].line(read_json(job.path), job.arm))

    def _execute(self, jobs: list[Job]) -> Iterable[Job]:
        if min(self.jobs, len(jobs)) <= 1:
            for job in jobs:
                _work(self, job, None)
                yield job
            return
        from joblib import Parallel, delayed

        # One thread each: several processes of one thread beat one process of several on
        # networks this small, and the result does not depend on the number of cores.
        pool = Parallel(n_jobs=self.jobs, return_as="generator_unordered")
        yield from pool(delayed(_work)(self, job, 1) for job in jobs)

    def jobs_of(self, kind: str, arms: Sequence[Arm]) -> list[Job]:
        """The jobs of a kind, one an arm; ``job.done`` tells whether its record is there."""
        return [
            Job(kind, arm, self._record_path(kind, arm), _KINDS[kind].flops(self, arm))
            for arm in arms
        ]

    # --- names and keys ---------------------------------------------------------------------

    def key(self, kind: str, arm: Arm) -> str:
        content = {
            "numerics": records.NUMERICS,
            "fingerprint": self.view(arm).fingerprint,
            "config": arm.config.as_dict(),
            "kind": kind,
            "settings": _KINDS[kind].settings(self),
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def _record_path(self, kind: str, arm: Arm) -> Path:
        return self.root / "records" / f"{kind}-{arm.label}-{self.key(kind, arm)}.json"

    def checkpoint_path(self, arm: Arm, which: str = "last") -> Path:
        """``which``: ``"last"``, the primary one, or ``"best"`` on validation images."""
        suffix = {"last": "", "best": ".best"}[which]
        name = f"{arm.label}-{self.key('train', arm)}{suffix}.safetensors"
        return self.root / "checkpoints" / name

    def adversarial_path(self, arm: Arm) -> Path:
        name = f"whitebox-{arm.label}-{self.key('whitebox', arm)}.safetensors"
        return self.root / "adversarial" / name

    def model(self, arm: Arm, which: str = "last") -> Classifier:
        """A trained model of this run on the default device, in eval mode."""
        return place(load_model(self.checkpoint_path(arm, which)), default_device())

    def log(self, arm: Arm) -> list[dict]:
        """A training's log: one dictionary an epoch."""
        path = self._log_path(arm)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def _log_path(self, arm: Arm) -> Path:
        return self._record_path("train", arm).with_suffix(".jsonl")

    def adversarial(self, arm: Arm) -> dict[str, Tensor]:
        """Saved images of the white-box attacks: ``x``, ``y`` and one entry per attack key."""
        return load_tensors(self.adversarial_path(arm))[0]

    def table1_attacks(self) -> tuple[Attack, ...]:
        p = self.profile
        return robustness.table1_attacks(
            p.eps_linf, p.eps_l2, steps=p.steps, cw_step_size=p.cw_step_size
        )

    def test_images(self, limit: int, device: torch.device) -> tuple[Tensor, Tensor]:
        x, y = self.dataset.split("test", limit)
        return x.to(device), y.to(device)

    def header(self, kind: str, arm: Arm) -> dict:
        """What every record begins with."""
        return {
            "kind": kind,
            "profile": self.profile.name,
            "defence": arm.config.defence.name,
            "title": arm.title,
            "seed": arm.config.seed,
            "key": self.key(kind, arm),
            "training_key": self.key("train", arm),
            "dataset": self.dataset.title,
            "fingerprint": self.view(arm).fingerprint,
            "config": arm.config.as_dict(),
            "settings": _KINDS[kind].settings(self),
        }

    def select_seed(self, arms: Sequence[Arm], seed: int = 0) -> list[Arm]:
        return [arm for arm in arms if arm.config.seed == seed]


# --- the kinds of jobs ----------------------------------------------------------------------


def _work(run: Run, job: Job, threads: int | None) -> Job:
    """Compute one job and write its record, last."""
    if threads:
        torch.set_num_threads(threads)
    device = default_device()
    started = time.perf_counter()
    body = _KINDS[job.kind].compute(run, job.arm, device)
    body = {"seconds": round(time.perf_counter() - started, 2), **body}
    content = {**run.header(job.kind, job.arm), **body, "provenance": records.provenance(device)}
    write_json(job.path, content)
    return job


@dataclass(frozen=True)
class _Kind:
    """How a kind of job is computed, announced, identified and what it costs."""

    compute: Callable[[Run, Arm, torch.device], dict]
    line: Callable[[dict, Arm], str]
    settings: Callable[[Run], dict]
    flops: Callable[[Run, Arm], float]


def _train(run: Run, arm: Arm, device: torch.device) -> dict:
    result = train(
        arm.config,
        run.view(arm),
        run.checkpoint_path(arm),
        log_path=run._log_path(arm),
        device=device,
        on_epoch=lambda line: None,
    )
    last = result.log[-1]
    best = max(result.log, key=lambda line: line.get("val_robust_accuracy", -1.0))
    images = len(run.view(arm).labels["train"]) * arm.config.epochs
    return {
        "seconds": round(result.seconds, 2),
        "images_per_second": round(images / result.seconds, 1),
        "parameters": sum(p.numel() for p in load_model(result.last).parameters()),
        "checkpoints": {"last": result.last.name, "best": result.best.name},
        "val_images": min(arm.config.val_limit, len(run.view(arm).labels["val"])),
        "last": last,
        "best": best,
    }


def _train_line(record: dict, arm: Arm) -> str:
    last = record["last"]
    return (
        f"trained {arm.label}: {last['epoch']} epochs in {record['seconds']:.0f} s, validation "
        f"clean {last['val_clean_accuracy']:.1%}, PGD {last['val_robust_accuracy']:.1%}"
    )


def _whitebox(run: Run, arm: Arm, device: torch.device) -> dict:
    p = run.profile
    model = run.model(arm)
    x, y = run.test_images(p.eval_images, device)
    result = robustness.evaluate(model, x, y, run.table1_attacks(), batch_size=p.eval_batch)
    path, kept = run.adversarial_path(arm), slice(p.saved_images)
    tensors = {"x": x[kept], "y": y[kept]}
    tensors |= {key: images[kept] for key, images in result.x_adv.items()}
    save_tensors(path, tensors, {"kind": "adversarial", "label": arm.label})
    saved, _ = load_tensors(path)
    for key, right in result.right.items():
        images = saved[key].to(device)
        check = robustness.rescore(model, images, y[kept], right[kept], key)
        result.record["self_checks"].append(check)
    result.record["ok"] = all(check["passed"] for check in result.record["self_checks"])
    return {**result.record, "checkpoint": "last", "adversarial": path.name}


def _whitebox_line(record: dict, arm: Arm) -> str:
    worst = ", ".join(f"{n} {w['value']:.1%}" for n, w in record["worst_case"].items())
    verdict = "" if record["ok"] else " SELF-CHECK FAILED"
    clean = record["clean_accuracy"]["value"]
    return (
        f"attacked {arm.label}: clean {clean:.1%}, worst case {worst} "
        f"in {record['seconds']:.0f} s{verdict}"
    )


def _whitebox_settings(run: Run) -> dict:
    p = run.profile
    attacks = [asdict(attack) for attack in run.table1_attacks()]
    return {"attacks": attacks, "images": p.eval_images, "batch_size": p.eval_batch}


def _sweep(run: Run, arm: Arm, device: torch.device, attacks: list[Attack]) -> list[dict]:
    """Robust accuracy under each attack, the same images for all."""
    model = run.model(arm)
    x, y = run.test_images(run.profile.sweep_images, device)
    points = []
    for attack in attacks:
        record = robustness.evaluate(
            model, x, y, [attack], batch_size=run.profile.eval_batch
        ).record
        column = record["attacks"][attack.key]
        points.append(
            {
                **asdict(attack),
                "robust_accuracy": column["robust_accuracy"],
                "right": column["right"],
                "ok": record["ok"],
            }
        )
    return points


def _eps_attacks(run: Run) -> list[Attack]:
    p = run.profile
    budgets = {"linf": p.eps_linf, "l2": p.eps_l2}
    return [
        Attack("pgd", norm, budget * factor, p.steps)
        for norm, budget in budgets.items()
        for factor in p.sweep_eps
    ]


def _steps_attacks(run: Run) -> list[Attack]:
    p = run.profile
    pgd = [Attack("pgd", "linf", p.eps_linf, steps) for steps in p.sweep_steps]
    cw = Attack("cw", "l2", p.eps_l2, cw_step_size=p.cw_step_size)
    return pgd + [replace(cw, steps=steps) for steps in p.sweep_cw_steps]


def _sweep_kind(attacks: Callable[[Run], list[Attack]], what: str) -> _Kind:
    def compute(run: Run, arm: Arm, device: torch.device) -> dict:
        points = _sweep(run, arm, device, attacks(run))
        return {"points": points, "ok": all(point["ok"] for point in points)}

    def settings(run: Run) -> dict:
        images = run.profile.sweep_images
        return {
            "attacks": [asdict(a) for a in attacks(run)],
            "images": images,
            "batch_size": run.profile.eval_batch,
        }

    def line(record: dict, arm: Arm) -> str:
        return f"swept {arm.label} over {what} in {record['seconds']:.0f} s"

    def flops(run: Run, arm: Arm) -> float:
        return _attack_flops(run, arm, attacks(run), run.profile.sweep_images)

    return _Kind(compute, line, settings, flops)


@functools.lru_cache
def _count_flops(network: NetworkConfig, side: int) -> float:
    """Operations of one forward pass of one image: two a multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    model = build_network(network).eval()
    with counter, torch.no_grad():
        model(torch.zeros(1, network.in_channels, side, side))
    return float(counter.get_total_flops())


def _train_flops(run: Run, arm: Arm) -> float:
    """An input-gradient pass costs as much as a forward one; a training pass three of them."""
    config, data = arm.config, run.view(arm)
    defence = config.defence
    attack = 2 * defence.num_steps if defence.attack != "none" else 0
    passes = {"natural": 3, "standard": 3, "trades": 6, "mart": 6, "lbgat": 9, "ldat": 6}
    per_image = attack + passes[defence.objective]
    train_images = len(data.labels["train"]) * config.epochs
    val_images = min(config.val_limit, len(data.labels["val"])) * config.epochs / config.val_every
    total = train_images * per_image + val_images * (2 * config.val_steps + 2)
    return total * _count_flops(config.network, data.images["train"].shape[-1])


def _attack_flops(run: Run, arm: Arm, attacks: Iterable[Attack], images: int) -> float:
    """Every image attacked to the last iteration."""
    classes = run.dataset.num_classes
    per_step = {"fgsm": 2, "fab": 2 + classes, "deepfool": 2 * classes, "cw": 18, "square": 1}
    # One step whatever is said, and DeepFool, which stops when its whole batch is fooled.
    most = {"fgsm": 1, "deepfool": 8}
    images = min(images, len(run.dataset.labels["test"]))
    passes = sum(
        per_step.get(a.method, 2) * min(a.steps, most.get(a.method, a.steps)) for a in attacks
    )
    side = run.dataset.images["train"].shape[-1]
    return images * passes * _count_flops(arm.config.network, side)


_KINDS = {
    "train": _Kind(_train, _train_line, lambda run: {}, _train_flops),
    "whitebox": _Kind(
        _whitebox,
        _whitebox_line,
        _whitebox_settings,
        lambda run, arm: _attack_flops(run, arm, run.table1_attacks(), run.profile.eval_images),
    ),
    "sweep_eps": _sweep_kind(_eps_attacks, "budgets"),
    "sweep_steps": _sweep_kind(_steps_attacks, "iterations"),
}
