"""Jobs of notebook 09: AutoAttack, tests for gradient masking, and the attack on the detector.

One job a defence and kind, so that they run side by side. All look at the same images, the first
of the test split, so that what one finds counts for the worst case of the others.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from torch import Tensor

from ldatlib.errors import OutOfTime
from ldatlib.evaluation import adaptive, autoattack, detection, masking, robustness
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import from_bits, share, to_bits
from ldatlib.files import load_tensors, save_tensors
from ldatlib.study.jobs import KINDS, Kind, forward_flops

if TYPE_CHECKING:
    from ldatlib.study.experiments import Run
    from ldatlib.study.trainings import Training


def budgets(run: "Run") -> dict[str, float]:
    return {"linf": run.profile.eps_linf, "l2": run.profile.eps_l2}


def _images(run: "Run") -> int:
    return min(run.profile.scrutiny_images, len(run.dataset.labels["test"]))


def _side_flops(run: "Run", training: "Training") -> float:
    return forward_flops(training.config.network, run.dataset.images["train"].shape[-1])


# --- AutoAttack -------------------------------------------------------------------------------


def autoattack_path(run: "Run", training: "Training", norm: str) -> Path:
    """The images that AutoAttack found, and its state while it runs."""
    name = f"autoattack-{norm}-{training.label}-{run.key('autoattack', training)}.safetensors"
    return run.root / "adversarial" / name


def _autoattack(run: "Run", training: "Training", device: torch.device) -> dict:
    model, p = run.model(training), run.profile
    x, y = run.test_images(_images(run), device)
    norms, checks = {}, []

    def done(name: str) -> None:
        if run.late:
            raise OutOfTime(f"autoattack {training.label} stopped after {name}")

    for norm in p.scrutiny_norms:
        eps, path = budgets(run)[norm], autoattack_path(run, training, norm)
        result = autoattack.standard(
            model,
            x,
            y,
            eps=eps,
            norm=norm,
            batch_size=p.eval_batch,
            state=path,
            on_attack=done,
            processes=run.processes,
        )
        norms[norm] = result.record
        key = f"{norm} AutoAttack"
        checks.append(robustness.inside_ball(x, result.x_adv, eps, norm, key))
        checks.append(robustness.finite_logits(model, result.x_adv, key))
        # Read back from the disk, in other batches than those of the attack.
        saved = load_tensors(path)[0]["x_adv"].to(device)
        checks.append(robustness.batch_agreement(model, saved, y, result.right, key))
        clean = from_bits(result.record["clean_right"]).to(device)
        checks.append(robustness.batch_agreement(model, x, y, clean, f"{norm} clean"))
        result.record["black_box"] = _black_box(result.record)
    return {
        "norms": norms,
        "images": len(y),
        "adversarial": {n: autoattack_path(run, training, n).name for n in norms},
        "self_checks": checks,
        "ok": all(check["passed"] for check in checks),
    }


def _black_box(record: dict) -> dict:
    """Square sees no gradient: what it finds after the others is a warning, as in the package."""
    *_, white, square = [from_bits(record["clean_right"])] + [
        from_bits(attack["right"]) for attack in record["attacks"].values()
    ]
    return {"found": share(white & ~square), "alarm": masking.below(square, white)}


def _autoattack_line(record: dict, training: "Training") -> str:
    left = ", ".join(f"{n} {r['robust_accuracy']['value']:.1%}" for n, r in record["norms"].items())
    verdict = "" if record["ok"] else " SELF-CHECK FAILED"
    return f"AutoAttack on {training.label} leaves {left} in {record['seconds']:.0f} s{verdict}"


def _autoattack_settings(run: "Run") -> dict:
    eps = budgets(run)
    return {
        "eps": {norm: eps[norm] for norm in run.profile.scrutiny_norms},
        "attacks": list(autoattack.STANDARD),
        "images": run.profile.scrutiny_images,
        "batch_size": run.profile.eval_batch,
    }


def _autoattack_flops(run: "Run", training: "Training") -> float:
    """As if no attack found anything; FAB asks for two gradients of single logits a step."""
    targets = min(9, run.dataset.num_classes - 1)
    passes = 100 * 2 + targets * 100 * 2 + targets * 100 * 3 + 5000
    return _images(run) * len(run.profile.scrutiny_norms) * passes * _side_flops(run, training)


# --- masking ----------------------------------------------------------------------------------


def siblings(run: "Run", training: "Training") -> list["Training"]:
    """Networks that an attacker without access could train: other seeds, else other defences.

    Of every other defence one network, of the same defence every other seed, and the Standard
    surrogate, whose seed is its own.
    """
    others = [a for a in run.trainings() if a.label != training.label]
    chosen = [a for a in others if a.name == training.name or a.config.seed == 0]
    return chosen + [run.surrogates()[1]]


def _effort(run: "Run") -> masking.Effort:
    p = run.profile
    return masking.Effort(
        steps=p.steps,
        restarts=p.masking_restarts,
        queries=p.masking_queries,
        batch_size=p.eval_batch,
    )


def _masking(run: "Run", training: "Training", device: torch.device) -> dict:
    model = run.model(training)
    x, y = run.test_images(_images(run), device)
    reported = run.whitebox([training], say=_silent)[0]
    networks = {a.label: run.model(a) for a in siblings(run, training)}
    norms = {}
    for norm in run.profile.scrutiny_norms:
        columns = [c for k, c in reported.attacks.items() if k.startswith(norm)]
        right = torch.stack([from_bits(column.right) for column in columns]).all(0)
        x_seen, y_seen, right = x[: len(right)], y[: len(right)], right[: len(x)]
        norms[norm] = masking.examine(
            model,
            x_seen,
            y_seen,
            right,
            eps=budgets(run)[norm],
            norm=norm,
            siblings=networks,
            effort=_effort(run),
        )
    checks = [check for record in norms.values() for check in record.pop("self_checks")]
    return {
        "norms": norms,
        "images": min(len(x), len(from_bits(reported.clean_right))),
        "self_checks": checks,
        "ok": all(check["passed"] for check in checks),
    }


def _silent(line: str) -> None:
    """Records that a job reads were announced when they were made."""


def _masking_line(record: dict, training: "Training") -> str:
    alarms = {norm: found["alarms"] for norm, found in record["norms"].items()}
    said = "; ".join(f"{norm}: {', '.join(names) or 'no alarm'}" for norm, names in alarms.items())
    return f"tested {training.label} for masking, {said}, in {record['seconds']:.0f} s"


def _masking_settings(run: "Run") -> dict:
    eps = budgets(run)
    effort = _effort(run)
    return {
        "eps": {norm: eps[norm] for norm in run.profile.scrutiny_norms},
        "images": run.profile.scrutiny_images,
        "effort": [effort.steps, effort.restarts, effort.queries, effort.batch_size],
        "whitebox": KINDS["whitebox"].settings(run),
        "siblings": {a.label: run.key("train", a) for a in [*run.trainings(), run.surrogates()[1]]},
    }


def _masking_flops(run: "Run", training: "Training") -> float:
    p, classes = run.profile, run.dataset.num_classes
    searches = 1 + 3 * p.masking_restarts + (classes - 1) + len(masking.STEP_SIZES) + 10
    searches += len(siblings(run, training)) + 5 + len(masking.SCALES) + 2 * len(masking.FAR_SCALES)
    passes = 2 * p.steps * searches + p.masking_queries + len(masking.SURFACE) ** 2
    return _images(run) * len(p.scrutiny_norms) * passes * _side_flops(run, training)


# --- the detector -----------------------------------------------------------------------------


def adaptive_path(run: "Run", training: "Training") -> Path:
    """The images that the attack on the detector found."""
    name = f"adaptive-{training.label}-{run.key('adaptive', training)}.safetensors"
    return run.root / "adversarial" / name


def _adaptive(run: "Run", training: "Training", device: torch.device) -> dict:
    """Per norm, score and threshold: scores and verdicts of the images of the adaptive attack."""
    model, p = run.model(training), run.profile
    ordinary = run.detection([training], say=_silent)[0]
    count = min(_images(run), ordinary.images)
    x, y = run.test_images(count, device)
    tensors, entries, checks, half = {}, {}, [], {}
    for norm in p.scrutiny_norms:
        eps = budgets(run)[norm]
        entries[norm] = {}
        for score, stored in ordinary.scores.items():
            cuts = {k: v for k, v in stored.thresholds.items() if v is not None}
            ordinary_sets = {name: msgspec.to_builtins(s) for name, s in stored.sets.items()}
            found = adaptive.adaptive_attack(
                model,
                x,
                y,
                score=score,
                thresholds=list(cuts.values()),
                eps=eps,
                norm=norm,
                num_steps=p.adaptive_steps,
                restarts=p.adaptive_restarts,
                batch_size=p.eval_batch,
            )
            entries[norm][score] = {}
            for (name, cut), x_adv in zip(cuts.items(), found, strict=True):
                key = f"{norm} {score} {name}"
                entry = _scored(model, x_adv, y, score)
                entries[norm][score][name] = {"cut": cut, **entry}
                tensors[key] = x_adv
                checks.append(robustness.inside_ball(x, x_adv, eps, norm, key))
                checks.append(robustness.finite_logits(model, x_adv, key))
                checks.append(_at_least_ordinary(entry, cut, ordinary_sets, norm, count, key))
        checks.append(_nothing(model, x, y, norm))
        half[norm], more = _half_budget(run, model, x, y, norm)
        checks += more
    path = adaptive_path(run, training)
    save_tensors(path, tensors, {"kind": "adversarial", "label": training.label})
    saved, _ = load_tensors(path)
    for key, images in saved.items():
        norm, score, name = key.split(" ")
        entry = entries[norm][score][name]
        again = _scored(model, images.to(device).flip(0), y.flip(0), score)
        checks.append(_rescored(entry, again, entry["cut"], key))
    return {
        "norms": entries,
        "half_budget": half,
        "images": count,
        "adversarial": path.name,
        "self_checks": checks,
        "ok": all(check["passed"] for check in checks),
    }


def _nothing(model, x: Tensor, y: Tensor, norm: str) -> dict:
    """A budget of 0 finds the images that are wrong and accepted as they are, and no other."""
    cut, ball = detection.PAPER_THRESHOLD, {"eps": 0.0, "norm": norm, "num_steps": 1}
    (still,) = adaptive.adaptive_attack(model, x, y, score="posterior", thresholds=[cut], **ball)
    found, clean = (missed(_scored(model, images, y, "posterior"), cut) for images in (still, x))
    return {
        "name": f"{norm}: a budget of 0 gives the clean outcome",
        "passed": torch.equal(found, clean),
        "value": float(found.double().mean()),
    }


def _scored(model, images: Tensor, y: Tensor, score: str) -> dict:
    """As the records of the detector have it: six digits, right as bits."""
    values, predicted = detection.score_images(model, images, score)
    return {
        "score": [round(v, 6) for v in values.tolist()],
        "right": to_bits(predicted == y),
    }


def missed(entry: dict, cut: float, count: int | None = None) -> Tensor:
    """Wrong and accepted, bool [N], of a set of scores and verdicts; of its first ``count``."""
    scores = torch.tensor(entry["score"], dtype=torch.float64)
    return ((scores >= cut) & ~from_bits(entry["right"]))[:count]


def _at_least_ordinary(entry, cut, sets, norm, count, key) -> dict:
    own = int(missed(entry, cut).sum())
    best = max(int(missed(s, cut, count).sum()) for n, s in sets.items() if n.startswith(norm))
    return {
        "name": f"{key}: the adaptive attack misses no less than the best ordinary one",
        "passed": own >= best,
        "value": float(own - best),
    }


def _rescored(entry: dict, again: dict, cut: float, key: str) -> dict:
    same = float((missed(entry, cut) == missed(again, cut).flip(0)).double().mean())
    return {
        "name": f"{key}: the saved images, in another order, are judged alike",
        "passed": same >= robustness.BATCH_AGREEMENT,
        "value": same,
    }


def _half_budget(run: "Run", model, x: Tensor, y: Tensor, norm: str) -> tuple[dict, list[dict]]:
    """Classification, without rejection, at half the budget: the worst of four attacks."""
    p, eps = run.profile, budgets(run)[norm] / 2
    attacks = [Attack(m, norm, eps, p.steps) for m in ("pgd", "apgd", "fab", "deepfool")]
    record = robustness.evaluate(model, x, y, attacks, batch_size=p.eval_batch).record
    columns = [from_bits(column["right"]) for column in record["attacks"].values()]
    right = torch.stack(columns).all(0)
    checks = [c | {"name": f"half budget, {c['name']}"} for c in record["self_checks"]]
    return {"eps": eps, "robust_accuracy": share(right)}, checks


def _adaptive_line(record: dict, training: "Training") -> str:
    verdict = "" if record["ok"] else " SELF-CHECK FAILED"
    found = [
        f"{norm} {name} {int(missed(entry, entry['cut']).sum())}"
        for norm, scores in record["norms"].items()
        for name, entry in scores["posterior"].items()
    ]
    said = ", ".join(found)
    return f"attacked the detector of {training.label}: wrong and accepted {said}{verdict}"


def _adaptive_settings(run: "Run") -> dict:
    p, eps = run.profile, budgets(run)
    return {
        "eps": {norm: eps[norm] for norm in p.scrutiny_norms},
        "images": p.scrutiny_images,
        "steps": [p.adaptive_steps, p.adaptive_restarts, p.steps],
        "confidences": list(adaptive.CONFIDENCES),
        "batch_size": p.eval_batch,
        "detection": KINDS["detection"].settings(run),
    }


def _adaptive_flops(run: "Run", training: "Training") -> float:
    """As if every image stood at every threshold."""
    p, wrong = run.profile, run.dataset.num_classes - 1
    searches = 1 + p.adaptive_restarts * (1 + wrong) + len(adaptive.CONFIDENCES)
    total = 3 * searches  # the posterior's thresholds
    if training.config.network.head == "gmm":
        total += 2 * (searches + wrong)
    passes = 2 * (p.adaptive_steps + 1) * total + p.steps * (2 + 2 + 2 + run.dataset.num_classes)
    return _images(run) * len(p.scrutiny_norms) * passes * _side_flops(run, training)


def _autoattack_paths(run: "Run", training: "Training") -> tuple[Path, ...]:
    return tuple(autoattack_path(run, training, norm) for norm in run.profile.scrutiny_norms)


SCRUTINY = {
    # AutoAttack waits for nothing; beside the tests for masking it fills the cores.
    "autoattack": Kind(
        _autoattack,
        _autoattack_line,
        _autoattack_settings,
        _autoattack_flops,
        stage=2,
        products=_autoattack_paths,
        # Its images are also the state from which an interrupted evaluation goes on.
        states=_autoattack_paths,
    ),
    "masking": Kind(_masking, _masking_line, _masking_settings, _masking_flops, stage=2),
    "adaptive": Kind(
        _adaptive,
        _adaptive_line,
        _adaptive_settings,
        _adaptive_flops,
        stage=3,
        products=lambda run, training: (adaptive_path(run, training),),
    ),
}
KINDS.update(SCRUTINY)
