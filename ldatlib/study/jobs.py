"""What a run can compute for one of its trainings: how, at what cost, and how it is announced.

``KINDS`` lists the kinds of jobs by name. A kind computes the body of a record; ``experiments``
gives it its key, its header and its place on the disk.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ldatlib.attacks import NORMS
from ldatlib.evaluation import detection, feature_space, robustness
from ldatlib.evaluation import worst_case as cascade
from ldatlib.evaluation.named_attacks import Attack, forward_equivalents
from ldatlib.files import load_tensors, save_tensors
from ldatlib.models import NetworkConfig, build_network
from ldatlib.training.checkpoint import load_model
from ldatlib.training.config import Storage
from ldatlib.training.state import state_path
from ldatlib.training.trainer import train

if TYPE_CHECKING:
    from ldatlib.study.experiments import Run
    from ldatlib.study.trainings import Training


@dataclass(frozen=True)
class Kind:
    """How a kind of job is computed, announced, identified and what it costs."""

    compute: Callable[["Run", "Training", torch.device], dict]
    line: Callable[[dict, "Training"], str]
    settings: Callable[["Run"], dict]
    flops: Callable[["Run", "Training"], float]
    # Jobs of a lower stage come first: later ones are made from them.
    stage: int = 1
    # Files beside the record: without them the job is not done.
    products: Callable[["Run", "Training"], tuple[Path, ...]] = lambda run, training: ()
    # Files from which an interrupted job goes on, beside ``Run.partial``.
    states: Callable[["Run", "Training"], tuple[Path, ...]] = lambda run, training: ()


def _train(run: "Run", training: "Training", device: torch.device) -> dict:
    p = run.profile
    result = train(
        training.config,
        run.view(training),
        run.checkpoint_path(training),
        log_path=run.log_path(training),
        device=device,
        on_epoch=lambda line: None,
        compile=p.compile,
        storage=Storage(p.storage == "half", p.shard_mib and p.shard_mib * 2**20),
        deadline=run.deadline,
    )
    last = result.log[-1]
    best = max(result.log, key=lambda line: line.get("val_robust_accuracy", -1.0))
    images = len(run.view(training).labels["train"]) * training.config.epochs
    return {
        "seconds": round(result.seconds, 2),
        "images_per_second": round(images / result.seconds, 1),
        "execution": result.execution,
        "parameters": sum(p.numel() for p in load_model(result.last).parameters()),
        "checkpoints": {"last": result.last.name, "best": result.best.name},
        "batch_norm": "eval in the attack; train in the loss, natural and adversarial apart",
        "val_images": min(training.config.val_limit, len(run.view(training).labels["val"])),
        "last": last,
        "best": best,
    }


def _train_line(record: dict, training: "Training") -> str:
    last = record["last"]
    return (
        f"trained {training.label}: {last['epoch']} epochs in {record['seconds']:.0f} s, validation "
        f"clean {last['val_clean_accuracy']:.1%}, PGD {last['val_robust_accuracy']:.1%}"
    )


def _whitebox(run: "Run", training: "Training", device: torch.device) -> dict:
    p = run.profile
    model = run.model(training)
    x, y = run.test_images(p.eval_images, device)
    result = robustness.evaluate(
        model,
        x,
        y,
        run.table1_attacks(),
        batch_size=p.eval_batch,
        partial=run.partial("whitebox", training),
    )
    path, kept = run.adversarial_path(training), slice(p.saved_images)
    tensors = {"x": x[kept], "y": y[kept]}
    tensors |= {key: images[kept] for key, images in result.x_adv.items()}
    save_tensors(path, tensors, {"kind": "adversarial", "label": training.label})
    saved, _ = load_tensors(path)
    for key, right in result.right.items():
        images = saved[key].to(device)
        check = robustness.rescore(model, images, y[kept], right[kept], key)
        result.record["self_checks"].append(check)
    result.record["ok"] = all(check["passed"] for check in result.record["self_checks"])
    return {**result.record, "checkpoint": "last", "adversarial": path.name}


def _whitebox_line(record: dict, training: "Training") -> str:
    worst = ", ".join(f"{n} {w['value']:.1%}" for n, w in record["worst_case"].items())
    verdict = "" if record["ok"] else " SELF-CHECK FAILED"
    clean = record["clean_accuracy"]["value"]
    return (
        f"attacked {training.label}: clean {clean:.1%}, worst case {worst} "
        f"in {record['seconds']:.0f} s{verdict}"
    )


def _worst_case(run: "Run", training: "Training", device: torch.device) -> dict:
    model, p = run.model(training), run.profile
    x, y = run.test_images(p.eval_images, device)
    norms = {}
    for norm in NORMS:
        attacks = [attack for attack in run.table1_attacks() if attack.norm == norm]
        result = cascade.worst_case(
            model, x, y, attacks, batch_size=p.eval_batch, processes=run.processes
        )
        norms[norm] = result.record
    return {"norms": norms, "ok": all(record["ok"] for record in norms.values())}


def _worst_case_line(record: dict, training: "Training") -> str:
    left = ", ".join(f"{n} {r['robust_accuracy']['value']:.1%}" for n, r in record["norms"].items())
    verdict = "" if record["ok"] else " SELF-CHECK FAILED"
    clean = record["norms"][NORMS[0]]["clean_accuracy"]["value"]
    return (
        f"worst case of {training.label}: clean {clean:.1%}, {left} in "
        f"{record['seconds']:.0f} s{verdict}"
    )


def _whitebox_settings(run: "Run") -> dict:
    p = run.profile
    attacks = [asdict(attack) for attack in run.table1_attacks()]
    return {
        "attacks": attacks,
        "images": p.eval_images,
        "batch_size": p.eval_batch,
        "saved": p.saved_images,
    }


def _sweep(
    run: "Run", training: "Training", device: torch.device, attacks: list[Attack]
) -> list[dict]:
    """Robust accuracy under each attack, the same images for all."""
    model = run.model(training)
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


def _eps_attacks(run: "Run") -> list[Attack]:
    p = run.profile
    budgets = {"linf": p.eps_linf, "l2": p.eps_l2}
    return [
        Attack("pgd", norm, budget * factor, p.steps)
        for norm, budget in budgets.items()
        for factor in p.sweep_eps
    ]


def _steps_attacks(run: "Run") -> list[Attack]:
    p = run.profile
    pgd = [Attack("pgd", "linf", p.eps_linf, steps) for steps in p.sweep_steps]
    cw = Attack("cw", "l2", p.eps_l2, cw_step_size=p.cw_step_size)
    return pgd + [replace(cw, steps=steps) for steps in p.sweep_cw_steps]


def _sweep_kind(attacks: Callable[["Run"], list[Attack]], what: str) -> Kind:
    def compute(run: "Run", training: "Training", device: torch.device) -> dict:
        points = _sweep(run, training, device, attacks(run))
        return {"points": points, "ok": all(point["ok"] for point in points)}

    def settings(run: "Run") -> dict:
        images = run.profile.sweep_images
        return {
            "attacks": [asdict(a) for a in attacks(run)],
            "images": images,
            "batch_size": run.profile.eval_batch,
        }

    def line(record: dict, training: "Training") -> str:
        return f"swept {training.label} over {what} in {record['seconds']:.0f} s"

    def flops(run: "Run", training: "Training") -> float:
        return _attack_flops(run, training, attacks(run), run.profile.sweep_images)

    return Kind(compute, line, settings, flops)


@functools.lru_cache
def forward_flops(network: NetworkConfig, side: int) -> float:
    """Operations of one forward pass of one image: two a multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    model = build_network(network).eval()
    with counter, torch.no_grad():
        model(torch.zeros(1, network.in_channels, side, side))
    return float(counter.get_total_flops())


def _train_flops(run: "Run", training: "Training") -> float:
    """An input-gradient pass costs as much as a forward one; a training pass three of them."""
    config, data = training.config, run.view(training)
    per_image = config.defence.adversary.passes + config.defence.passes
    train_images = len(data.labels["train"]) * config.epochs
    val_images = min(config.val_limit, len(data.labels["val"])) * config.epochs / config.val_every
    total = train_images * per_image + val_images * (2 * config.val_steps + 2)
    return total * forward_flops(config.network, data.images["train"].shape[-1])


def _side_flops(run: "Run", training: "Training") -> float:
    return forward_flops(training.config.network, run.dataset.images["train"].shape[-1])


def _attack_flops(
    run: "Run", training: "Training", attacks: Iterable[Attack], images: int
) -> float:
    """Every image attacked to the last iteration."""
    classes = run.dataset.num_classes
    images = min(images, len(run.dataset.labels["test"]))
    passes = sum(forward_equivalents(attack, classes) for attack in attacks)
    return images * passes * _side_flops(run, training)


def _basic_attacks(run: "Run") -> list[Attack]:
    p = run.profile
    return [Attack("pgd", "linf", p.eps_linf, p.steps), Attack("pgd", "l2", p.eps_l2, p.steps)]


def _basic(run: "Run", training: "Training", device: torch.device, split: str = "test") -> dict:
    limit = run.profile.eval_images if split == "test" else None
    x, y = (values.to(device) for values in run.dataset.split(split, limit))
    result = robustness.evaluate(
        run.model(training), x, y, _basic_attacks(run), batch_size=run.profile.eval_batch
    )
    return {"split": split, **result.record}


def _validation(run: "Run", training: "Training", device: torch.device) -> dict:
    """``basic`` on the validation images: what a setting may be chosen by."""
    return _basic(run, training, device, "val")


def _basic_line(record: dict, training: "Training") -> str:
    shares = {key: column["robust_accuracy"]["value"] for key, column in record["attacks"].items()}
    found = ", ".join(f"{key} {value:.1%}" for key, value in shares.items())
    clean = record["clean_accuracy"]["value"]
    images = {"test": "attacked", "val": "validated"}[record["split"]]
    return f"{images} {training.label}: clean {clean:.1%}, {found} in {record['seconds']:.0f} s"


def _basic_settings(run: "Run") -> dict:
    attacks = [asdict(attack) for attack in _basic_attacks(run)]
    return {"attacks": attacks, "images": run.profile.eval_images}


def _transfer_attacks(run: "Run") -> list[Attack]:
    eps, steps = run.profile.eps_linf, run.profile.steps
    return [
        Attack("fgsm", "linf", eps, 1),
        # Ten steps that together reach the rim of the ball, as MI-FGSM's paper has them.
        Attack("mi_fgsm", "linf", eps, 10, step_size=eps / 10),
        Attack("pgd", "linf", eps, steps),
    ]


def _transfer(run: "Run", training: "Training", device: torch.device) -> dict:
    """Every test image is attacked on the source, right or wrong there; each target is shown it."""
    x, y = run.test_images(run.profile.eval_images, device)
    source, batch = run.model(training), run.profile.eval_batch
    clean = robustness.predict(source, x) == y
    targets = {}
    models = {target.label: run.model(target) for target in run.trainings()}
    for label, model in models.items():
        targets[label] = {"clean": robustness.share(robustness.predict(model, x) == y)}
    for attack in _transfer_attacks(run):
        x_adv = robustness.run_attack(source, x, y, attack, batch_size=batch)
        for label, model in models.items():
            # An image that the target gets wrong anyway counts as wrong, as everywhere.
            right = (robustness.predict(model, x_adv) == y) & (robustness.predict(model, x) == y)
            targets[label][attack.key] = robustness.share(right)
    return {"source_accuracy": robustness.share(clean), "targets": targets}


def _transfer_line(record: dict, training: "Training") -> str:
    shown = len(record["targets"])
    return f"transferred from {training.label} to {shown} networks in {record['seconds']:.0f} s"


def _transfer_settings(run: "Run") -> dict:
    return {
        "attacks": [asdict(attack) for attack in _transfer_attacks(run)],
        "images": run.profile.eval_images,
        "targets": {training.label: run.key("train", training) for training in run.trainings()},
    }


def _detection(run: "Run", training: "Training", device: torch.device) -> dict:
    """Scores of every split and attack; thresholds frozen on validation; outcomes per attack."""
    model, saved = run.model(training), run.adversarial(training)
    x_val, y_val = (v.to(device) for v in run.dataset.split("val"))
    y = saved.pop("y").to(device)
    sets = {"clean": saved.pop("x"), **saved}
    scores = {}
    for score in detection.scores_of(model):
        values, predicted = detection.score_images(model, x_val, score)
        right = predicted == y_val
        entries = {"val": _scored(values, right)}
        # Frozen on the rounded scores: the record itself accepts the share it promises.
        val = torch.tensor(entries["val"]["score"], dtype=torch.float64)
        thresholds = {
            "paper": detection.PAPER_THRESHOLD if score == "posterior" else None,
            "accept_95": detection.freeze_threshold(val, right.cpu(), 0.95),
            "accept_99": detection.freeze_threshold(val, right.cpu(), 0.99),
        }
        for name, images in sets.items():
            values, predicted = detection.score_images(model, images.to(device), score)
            entries[name] = _scored(values, predicted == y)
        scores[score] = {"thresholds": thresholds, "sets": entries}
    return {"scores": scores, "images": len(y)}


# Figure 7 and its numbers: the paper does not say which attack it draws.
FEATURE_ATTACK = "linf_pgd"


def _features(run: "Run", training: "Training", device: torch.device) -> dict:
    limit = run.profile.tsne_images
    cloud = feature_space.cloud(
        run.model(training), run.adversarial(training), FEATURE_ATTACK, limit
    )
    flat = feature_space.embed(cloud)
    embedding = {k: getattr(flat, k).round(4).tolist() for k in ("natural", "adversarial", "y")}
    return {
        "numbers": feature_space.numbers(cloud),
        "embedding": embedding,
        "images": len(cloud.y),
    }


def _features_line(record: dict, training: "Training") -> str:
    return f"measured the features of {record['images']} images of {training.label}"


def _scored(values: torch.Tensor, right: torch.Tensor) -> dict:
    return {"score": [round(v, 6) for v in values.tolist()], "right": robustness.to_bits(right)}


def _detection_line(record: dict, training: "Training") -> str:
    return (
        f"scored {training.label}: {', '.join(record['scores'])} of {record['images']} images a set"
    )


KINDS = {
    "basic": Kind(
        _basic,
        _basic_line,
        _basic_settings,
        lambda run, training: _attack_flops(
            run, training, _basic_attacks(run), run.profile.eval_images
        ),
    ),
    "validation": Kind(
        _validation,
        _basic_line,
        lambda run: {"attacks": [asdict(attack) for attack in _basic_attacks(run)]},
        lambda run, training: _attack_flops(
            run, training, _basic_attacks(run), run.profile.val_size
        ),
    ),
    "transfer": Kind(
        _transfer,
        _transfer_line,
        _transfer_settings,
        lambda run, training: _attack_flops(
            run, training, _transfer_attacks(run), run.profile.eval_images
        ),
    ),
    "features": Kind(
        _features,
        _features_line,
        lambda run: {
            "attack": FEATURE_ATTACK,
            "images": run.profile.tsne_images,
            "perplexity": feature_space.PERPLEXITY,
            "whitebox": KINDS["whitebox"].settings(run),
        },
        lambda run, training: 2 * run.profile.tsne_images * _side_flops(run, training),
        stage=2,
    ),
    "detection": Kind(
        _detection,
        _detection_line,
        lambda run: {"whitebox": KINDS["whitebox"].settings(run)},
        lambda run, training: 12 * run.profile.saved_images * _side_flops(run, training),
        stage=2,
    ),
    "train": Kind(
        _train,
        _train_line,
        lambda run: {},
        _train_flops,
        stage=0,
        products=lambda run, training: (run.checkpoint_path(training), run.log_path(training)),
        states=lambda run, training: (state_path(run.checkpoint_path(training)),),
    ),
    "whitebox": Kind(
        _whitebox,
        _whitebox_line,
        _whitebox_settings,
        lambda run, training: _attack_flops(
            run, training, run.table1_attacks(), run.profile.eval_images
        ),
        products=lambda run, training: (run.adversarial_path(training),),
    ),
    # No notebook asks for it: Table 1's attacks without its columns, from the command line.
    "worst_case": Kind(
        _worst_case,
        _worst_case_line,
        _whitebox_settings,
        lambda run, training: _attack_flops(
            run, training, run.table1_attacks(), run.profile.eval_images
        ),
    ),
    "sweep_eps": _sweep_kind(_eps_attacks, "budgets"),
    "sweep_steps": _sweep_kind(_steps_attacks, "iterations"),
}
