"""The detector: scores and thresholds, and the attack that knows them. Figures 8 and 9."""

import torch
from torch import Tensor

from ldatlib.evaluation import adaptive, detection, highest_score, robustness
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import from_bits, share, to_bits
from ldatlib.evaluation.search import RADII, bookkeeping
from ldatlib.files import load_tensors, save_tensors
from ldatlib.study.kinds import operations, scrutiny
from ldatlib.study.kinds.base import Kind
from ldatlib.study.kinds.white_box import WHITE_BOX, verdict


def scored(values: Tensor, right: Tensor) -> dict:
    """Scores and verdicts [N] as records hold them: six digits, right as bits."""
    return {"score": [round(v, 6) for v in values.tolist()], "right": to_bits(right)}


def missed(entry: dict, cut: float, count: int | None = None) -> Tensor:
    """Wrong and accepted, bool [N], of a set of scores and verdicts; of its first ``count``."""
    scores = torch.tensor(entry["score"], dtype=torch.float64)
    return ((scores >= cut) & ~from_bits(entry["right"]))[:count]


class Detection(Kind):
    """Scores of every split and attack; thresholds frozen on validation images."""

    name = "detection"
    stage = 2
    reads = (WHITE_BOX,)

    def compute(self, ws, training, device):
        model, saved = ws.model(training), WHITE_BOX.images(ws, training)
        x_val, y_val = (v.to(device) for v in ws.dataset.split("val"))
        y = saved.pop("y").to(device)
        sets = {"clean": saved.pop("x"), **saved}
        scores = {}
        for score in detection.scores_of(model):
            values, predicted = detection.score_images(model, x_val, score)
            right = predicted == y_val
            entries = {"val": scored(values, right)}
            # Frozen on the rounded scores: the record itself accepts the share it promises.
            val = torch.tensor(entries["val"]["score"], dtype=torch.float64)
            thresholds = {
                "paper": detection.PAPER_THRESHOLD if score == "posterior" else None,
                "accept_95": detection.freeze_threshold(val, right.cpu(), 0.95),
                "accept_99": detection.freeze_threshold(val, right.cpu(), 0.99),
            }
            for name, images in sets.items():
                values, predicted = detection.score_images(model, images.to(device), score)
                entries[name] = scored(values, predicted == y)
            scores[score] = {"thresholds": thresholds, "sets": entries}
        return {"scores": scores, "images": len(y)}

    def line(self, record, training):
        scores = ", ".join(record["scores"])
        return f"scored {training.label}: {scores} of {record['images']} images a set"

    def settings(self, ws):
        return {}

    def operations(self, ws, training):
        return 12 * ws.profile.saved_images * operations.forward_of(ws, training)


DETECTION = Detection()


class Adaptive(Kind):
    """Per norm, score and threshold: scores and verdicts of the adaptive attack's images.

    Images that an ordinary attack gets are its images, too: what is missed is the union.
    """

    name = "adaptive"
    stage = 3
    reads = (WHITE_BOX, DETECTION)

    def compute(self, ws, training, device):
        model, p = ws.model(training), ws.profile
        ordinary = DETECTION.read(ws, training)
        count = min(scrutiny.images_of(ws), ordinary["images"])
        x, y = ws.test_images(count, device)
        images, classes = WHITE_BOX.images(ws, training), ws.dataset.num_classes
        tensors, entries, highest, checks, half = {}, {}, {}, [], {}
        for norm in p.scrutiny_norms:
            eps = scrutiny.budgets(p)[norm]
            entries[norm], highest[norm] = {}, {}
            given = [v[:count].to(device) for k, v in images.items() if k.startswith(norm)]
            effort = {"num_steps": p.adaptive_steps, "batch_size": p.eval_batch}
            for score, stored in ordinary["scores"].items():
                cuts = {k: v for k, v in stored["thresholds"].items() if v is not None}
                attack = {"score": score, "eps": eps, "norm": norm, **effort}
                found = adaptive.adaptive_attack(
                    model,
                    x,
                    y,
                    thresholds=list(cuts.values()),
                    given=given,
                    restarts=p.adaptive_restarts,
                    **attack,
                )
                entries[norm][score] = {}
                searches = adaptive.number_of_searches(score, classes, p.adaptive_restarts)
                for (name, cut), of_cut in zip(cuts.items(), found, strict=True):
                    key = f"{norm} {score} {name}"
                    entry = _scored(model, of_cut.images, y, score)
                    entry |= bookkeeping(of_cut.restart, searches)
                    entries[norm][score][name] = {"cut": cut, **entry}
                    tensors[key] = of_cut.images
                    checks.append(_none_left(entry, cut, stored["sets"], norm, key))
                given_too = [*given, *(of_cut.images for of_cut in found)]
                key = f"{norm} {score} highest"
                tensors[key] = highest_score.highest_score(model, x, y, given=given_too, **attack)
                entry = _scored(model, tensors[key], y, score)
                highest[norm][score] = entry | {"auc": _auc(entry, stored["sets"]["clean"])}
            for key, x_adv in tensors.items():
                if key.startswith(norm):
                    checks.append(robustness.inside_ball(x, x_adv, eps, norm, key))
                    checks.append(robustness.finite_logits(model, x_adv, key))
            checks.append(_nothing(model, x, y, norm))
            half[norm], more = _half_budget(p, model, x, y, norm)
            checks += more
        path = self.images_path(ws, training)
        save_tensors(path, tensors, {"kind": "adversarial", "label": training.label})
        saved, _ = load_tensors(path)
        for key, x_adv in saved.items():
            norm, score, name = key.split(" ")
            entry = highest[norm][score] if name == "highest" else entries[norm][score][name]
            again = _scored(model, x_adv.to(device).flip(0), y.flip(0), score)
            checks.append(_rescored(entry, again, entry.get("cut", float("-inf")), key))
        return {
            "norms": entries,
            "highest": highest,
            "half_budget": half,
            "images": count,
            "adversarial": path.name,
            "self_checks": checks,
            "ok": all(check["passed"] for check in checks),
        }

    def line(self, record, training):
        found = [
            f"{norm} {name} {int(missed(entry, entry['cut']).sum())}"
            for norm, scores in record["norms"].items()
            for name, entry in scores["posterior"].items()
        ]
        said = ", ".join(found)
        return (
            f"attacked the detector of {training.label}: wrong and accepted {said}{verdict(record)}"
        )

    def settings(self, ws):
        p, eps = ws.profile, scrutiny.budgets(ws.profile)
        return {
            "eps": {norm: eps[norm] for norm in p.scrutiny_norms},
            "images": p.scrutiny_images,
            "steps": [p.adaptive_steps, p.adaptive_restarts, p.steps],
            "confidences": list(adaptive.CONFIDENCES),
            "batch_size": p.eval_batch,
        }

    def operations(self, ws, training):
        """As if every image stood at every threshold."""
        p = ws.profile
        # Thresholds of each score; beside them the highest score, in three searches.
        thresholds = {"posterior": 3}
        if training.config.network.head == "gmm":
            thresholds["log_likelihood"] = 2
        classes, restarts = ws.dataset.num_classes, p.adaptive_restarts
        searches = sum(
            3 + number * adaptive.number_of_searches(score, classes, restarts)
            for score, number in thresholds.items()
        )
        half = p.steps * (2 + 2 + 2 + classes)
        passes = 2 * (p.adaptive_steps + len(RADII)) * searches + half
        images = scrutiny.images_of(ws) * len(p.scrutiny_norms)
        return images * passes * operations.forward_of(ws, training)

    def products(self, ws, training):
        return (self.images_path(ws, training),)

    def images_path(self, ws, training):
        """The images that the attack on the detector found."""
        key = self.key(ws, training)
        return ws.file("adversarial", self.name, training.label, key, suffix=".safetensors")


def _nothing(model, x: Tensor, y: Tensor, norm: str) -> dict:
    """A budget of 0 finds the images that are wrong and accepted as they are, and no other."""
    cut, ball = detection.PAPER_THRESHOLD, {"eps": 0.0, "norm": norm, "num_steps": 1}
    (still,) = adaptive.adaptive_attack(model, x, y, score="posterior", thresholds=[cut], **ball)
    found, clean = (
        missed(_scored(model, images, y, "posterior"), cut) for images in (still.images, x)
    )
    return {
        "name": f"{norm}: a budget of 0 gives the clean outcome",
        "passed": torch.equal(found, clean),
        "value": float(found.double().mean()),
    }


def _scored(model, images: Tensor, y: Tensor, score: str) -> dict:
    values, predicted = detection.score_images(model, images, score)
    return scored(values, predicted == y)


def _none_left(entry: dict, cut: float, sets: dict, norm: str, key: str) -> dict:
    """``sets``: scores and verdicts under the ordinary attacks, and others, by name."""
    own = missed(entry, cut)
    ordinary = [missed(s, cut, len(own)) for name, s in sets.items() if name.startswith(norm)]
    left = torch.stack(ordinary).any(0) & ~own
    return {
        "name": f"{key}: no image that an ordinary attack gets is left",
        "passed": not left.any(),
        "value": float(left.sum()),
    }


def _auc(entry: dict, clean: dict) -> float | None:
    """Clean images that are right against wrong ones of the same images, at their highest score."""
    right, count = from_bits(entry["right"]), len(entry["score"])
    good = torch.tensor(clean["score"][:count], dtype=torch.float64)
    before = from_bits(clean["right"])[:count]
    bad = torch.tensor(entry["score"], dtype=torch.float64)
    return detection.roc(good[before], bad[before & ~right])["auc"]


def _rescored(entry: dict, again: dict, cut: float, key: str) -> dict:
    same = float((missed(entry, cut) == missed(again, cut).flip(0)).double().mean())
    return {
        "name": f"{key}: the saved images, in another order, are judged alike",
        "passed": same >= robustness.BATCH_AGREEMENT,
        "value": same,
    }


def _half_budget(profile, model, x: Tensor, y: Tensor, norm: str) -> tuple[dict, list[dict]]:
    """Classification, without rejection, at half the budget: the worst of four attacks."""
    p, eps = profile, scrutiny.budgets(profile)[norm] / 2
    attacks = [Attack(m, norm, eps, p.steps) for m in ("pgd", "apgd", "fab", "deepfool")]
    record = robustness.evaluate(model, x, y, attacks, batch_size=p.eval_batch).record
    columns = [from_bits(column["right"]) for column in record["attacks"].values()]
    right = torch.stack(columns).all(0)
    checks = [c | {"name": f"half budget, {c['name']}"} for c in record["self_checks"]]
    return {"eps": eps, "robust_accuracy": share(right)}, checks


ADAPTIVE = Adaptive()
