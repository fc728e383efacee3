"""The attack that knows the detector: wrong and accepted, wrong and sure, right and unsure."""

import torch
from torch import Tensor

from ldatlib.evaluation import adaptive, cost, detection, robustness
from ldatlib.evaluation.joint import scale_of
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.partial import Partial
from ldatlib.evaluation.rejection import FRACTIONS, attack_detector
from ldatlib.evaluation.robustness import from_bits, share
from ldatlib.evaluation.search import bookkeeping
from ldatlib.files import load_tensors, save_tensors
from ldatlib.study.kinds import operations, scrutiny
from ldatlib.study.kinds.base import Kind
from ldatlib.study.kinds.detector import DETECTION, missed, scored
from ldatlib.study.kinds.white_box import WHITE_BOX, verdict
from ldatlib.study.records import Scored
from ldatlib.study.settings import Profile

# Where images are attacked for their score, whatever the threshold: none has these names.
HIGHEST, LOWEST = "highest", "lowest"


class Adaptive(Kind):
    """Per norm, score and threshold: scores and verdicts of the adaptive attack's images.

    Images that an ordinary attack gets are its images, too: what is missed is the union.
    """

    name = "adaptive"
    reads = (WHITE_BOX, DETECTION)

    def compute(self, ws, training, device):
        model, p = ws.model(training), ws.profile
        ordinary = DETECTION.read(ws, training)
        count = min(scrutiny.images_of(ws), ordinary.images)
        x, y = ws.test_images(count, device)
        x_val, y_val = (v.to(device) for v in ws.dataset.split("val"))
        attacked = WHITE_BOX.images(ws, training)
        found, tensors, checks, half = {}, {}, [], {}
        partial = ws.partial(self.path(ws, training))
        for norm in p.scrutiny_norms:
            given = [v[:count].to(device) for k, v in attacked.items() if k.startswith(norm)]
            for score, stored in ordinary.scores.items():
                of_score = _kept(partial, f"{norm}_{score}")
                if of_score is None:
                    scale = scale_of(model, x_val, y_val, score, p.eval_batch)
                    attacked_with = (norm, score, stored, given, scale)
                    of_score = _of_score(p, ws.dataset.num_classes, model, x, y, *attacked_with)
                    _keep(partial, f"{norm}_{score}", of_score)
                for name, (entry, images) in of_score.items():
                    key = f"{norm} {score} {name}"
                    found[key], tensors[key] = entry, images
                    checks += _of_images(p, model, x, images, norm, key)
                    if LOWEST not in name:
                        checks.append(_none_left(entry, stored.sets, norm, key))
            checks.append(_nothing(model, x, y, norm))
            half[norm], more = _half_budget(p, model, x, y, norm)
            checks += more
        path = self.images_path(ws, training)
        save_tensors(path, tensors, {"kind": "adversarial", "label": training.label})
        for key, images in load_tensors(path)[0].items():
            again = _scored(model, images.to(device).flip(0), y.flip(0), key.split()[1])
            checks.append(_rescored(found[key], again, key))
        return {
            **_by_norm(found),
            "half_budget": half,
            "images": count,
            "adversarial": path.name,
            "self_checks": checks,
            "ok": all(check["passed"] for check in checks),
        }

    def line(self, record, training):
        found = [
            f"{norm} {name} {int(missed(entry.score, entry.right, entry.cut).sum())}"
            for norm, scores in record.norms.items()
            for name, entry in scores["posterior"].items()
        ]
        said = ", ".join(found)
        return (
            f"attacked the detector of {training.label}: wrong and accepted {said}{verdict(record)}"
        )

    def settings(self, ws, training):
        p, eps = ws.profile, ws.profile.budgets
        return {
            "eps": {norm: eps[norm] for norm in p.scrutiny_norms},
            "images": scrutiny.asked_of(p),
            "steps": [p.adaptive_steps, p.adaptive_restarts, p.steps],
            "confidences": list(adaptive.CONFIDENCES),
            "fractions": list(FRACTIONS),
            "batch_size": p.eval_batch,
        }

    def operations(self, ws, training):
        """As if every image stood at every threshold."""
        p = ws.profile
        # Thresholds of each score.
        thresholds = {"posterior": 3}
        if training.config.network.head == "gmm":
            thresholds["log_likelihood"] = 2
        classes, restarts = ws.dataset.num_classes, p.adaptive_restarts
        passes = p.steps * (2 + 2 + 2 + classes) + sum(
            cost.of_detector(score, number, classes, p.adaptive_steps, restarts)
            for score, number in thresholds.items()
        )
        images = scrutiny.images_of(ws) * len(p.scrutiny_norms)
        return images * passes * operations.forward_of(ws, training)

    def products(self, ws, training):
        return (self.images_path(ws, training),)


def _of_score(p: Profile, classes: int, model, x, y, norm, score, stored, given, scale) -> dict:
    """Thresholds of one score, ``HIGHEST`` and ``LOWEST`` -> entry of the record and images."""
    cuts = {name: cut for name, cut in stored.thresholds.items() if cut is not None}
    ball = {"eps": p.budgets[norm], "norm": norm, "num_steps": p.adaptive_steps}
    effort = {"restarts": p.adaptive_restarts, "batch_size": p.eval_batch}
    attacked = attack_detector(
        model,
        x,
        y,
        score=score,
        thresholds=list(cuts.values()),
        given=given,
        scale=scale,
        **effort,
        **ball,
    )
    searches = adaptive.number_of_searches(score, classes, p.adaptive_restarts)
    found = {}
    for (name, cut), of_cut in zip(cuts.items(), attacked.at, strict=True):
        entry = {"cut": cut, **_scored(model, of_cut.images, y, score)}
        found[name] = entry | bookkeeping(of_cut.restart, searches), of_cut.images
    entry = _scored(model, attacked.highest, y, score)
    found[HIGHEST] = entry | {"auc": _auc(entry, stored.sets["clean"])}, attacked.highest
    for fraction, images in attacked.lowest.items():
        found[f"{LOWEST}-{fraction:g}"] = _scored(model, images, y, score), images
    return found


def _keep(partial: Partial, name: str, of_score: dict) -> None:
    entries = {key: entry for key, (entry, _) in of_score.items()}
    images = {key: found for key, (_, found) in of_score.items()}
    partial.keep(name, images, {"entries": entries})


def _kept(partial: Partial, name: str) -> dict | None:
    """What ``_keep`` kept, or None."""
    if not (known := partial.find(name)):
        return None
    images, header = known
    return {key: (entry, images[key]) for key, entry in header["entries"].items()}


def _by_norm(found: dict[str, dict]) -> dict:
    """Entries by "norm score name" as the record has them."""
    norms: dict = {}
    highest: dict = {}
    lowest: dict = {}
    for key, entry in found.items():
        norm, score, name = key.split()
        if name == HIGHEST:
            highest.setdefault(norm, {})[score] = entry
        elif name.startswith(LOWEST):
            fraction = name.removeprefix(f"{LOWEST}-")
            lowest.setdefault(norm, {}).setdefault(score, {})[fraction] = entry
        else:
            norms.setdefault(norm, {}).setdefault(score, {})[name] = entry
    return {"norms": norms, "highest": highest, "lowest": lowest}


def _of_images(p: Profile, model, x: Tensor, images: Tensor, norm: str, key: str) -> list[dict]:
    eps = p.budgets[norm]
    if LOWEST in key:
        eps *= float(key.rpartition("-")[2])
    return [
        robustness.inside_ball(x, images, eps, norm, key),
        robustness.finite_logits(model, images, key),
    ]


def _nothing(model, x: Tensor, y: Tensor, norm: str) -> dict:
    """A budget of 0 finds the images that are wrong and accepted as they are, and no other."""
    cut, ball = detection.PAPER_THRESHOLD, {"eps": 0.0, "norm": norm, "num_steps": 1}
    (still,) = adaptive.adaptive_attack(model, x, y, score="posterior", thresholds=[cut], **ball)
    seen = [_scored(model, images, y, "posterior") for images in (still.images, x)]
    found, clean = (missed(**entry, cut=cut) for entry in seen)
    return {
        "name": f"{norm}: a budget of 0 gives the clean outcome",
        "passed": torch.equal(found, clean),
        "value": float(found.double().mean()),
    }


def _scored(model, images: Tensor, y: Tensor, score: str) -> dict:
    values, predicted = detection.score_images(model, images, score)
    return scored(values, predicted == y)


def _none_left(entry: dict, sets: dict[str, Scored], norm: str, key: str) -> dict:
    """``sets``: scores and verdicts under the ordinary attacks, and others, by name."""
    cut = entry.get("cut", float("-inf"))
    own = missed(entry["score"], entry["right"], cut)
    of_norm = [found for name, found in sets.items() if name.startswith(norm)]
    ordinary = [missed(found.score, found.right, cut, len(own)) for found in of_norm]
    left = torch.stack(ordinary).any(0) & ~own
    return {
        "name": f"{key}: no image that an ordinary attack gets is left",
        "passed": not left.any(),
        "value": float(left.sum()),
    }


def _auc(entry: dict, clean: Scored) -> float | None:
    """Clean images that are right against wrong ones of the same images, at their highest score."""
    right = from_bits(entry["right"])
    before = from_bits(clean.right)[: len(right)]
    good = torch.tensor(clean.score, dtype=torch.float64)[: len(right)]
    bad = torch.tensor(entry["score"], dtype=torch.float64)
    return detection.roc(good[before], bad[before & ~right])["auc"]


def _rescored(entry: dict, again: dict, key: str) -> dict:
    # Without a threshold, whether they are wrong is all that is judged.
    cut = entry.get("cut", float("-inf"))
    turned = missed(**again, cut=cut).flip(0)
    same = float((missed(entry["score"], entry["right"], cut) == turned).double().mean())
    return {
        "name": f"{key}: the saved images, in another order, are judged alike",
        "passed": same >= robustness.BATCH_AGREEMENT,
        "value": same,
    }


def _half_budget(profile, model, x: Tensor, y: Tensor, norm: str) -> tuple[dict, list[dict]]:
    """Classification, without rejection, at half the budget: the worst of four attacks."""
    p, eps = profile, profile.budgets[norm] / 2
    attacks = [Attack(m, norm, eps, p.steps) for m in ("pgd", "apgd", "fab", "deepfool")]
    record = robustness.evaluate(model, x, y, attacks, batch_size=p.eval_batch).record
    columns = [from_bits(column["right"]) for column in record["attacks"].values()]
    right = torch.stack(columns).all(0)
    checks = [c | {"name": f"half budget, {c['name']}"} for c in record["self_checks"]]
    return {"eps": eps, "robust_accuracy": share(right)}, checks


ADAPTIVE = Adaptive()
