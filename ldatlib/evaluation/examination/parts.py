"""The parts of an examination: attacks on what is left, tests for masking, the detector."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ldatlib.errors import UserError
from ldatlib.evaluation import autoattack, rejection, robustness
from ldatlib.evaluation.examination.detector import Detector
from ldatlib.evaluation.examination.effort import Effort
from ldatlib.evaluation.examination.progress import Tell
from ldatlib.evaluation.gate.diagnosis import spread_over
from ldatlib.evaluation.gate.wrappers import draw_from
from ldatlib.evaluation.masking import examine as masking
from ldatlib.evaluation.named_attacks import METHODS, Attack, has_room_for_square
from ldatlib.evaluation.partial import Partial, digest_of
from ldatlib.evaluation.robustness import from_bits, to_bits
from ldatlib.evaluation.worst_case import worst_case

_NO_ROOM = "Square moves tiles under L2, for which the images have too few rows"
_NOT_OF_EFFORT = "not part of this effort"


def _silent(norm: str, part: str, name: str, left: int | None) -> None:
    """Nobody listens."""


@dataclass
class Bench:
    """A model, its images, which of them are right without an attack, and how to go about it.

    ``siblings``: networks of the same task, by name. ``of``: model and images by their ``identity``
    before all, as some models change their buffers whenever they are asked.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    clean: Tensor
    effort: Effort
    batch_size: int
    seed: int
    processes: int
    classes: int
    partial: Partial | None
    siblings: Mapping[str, nn.Module] = field(default_factory=dict)
    tell: Tell = _silent
    of: str = ""

    def ball(self, norm: str, eps: float) -> "Ball":
        """One norm, in which nothing has been tried yet."""
        return Ball(self, norm, eps, self.clean.clone(), self.x.clone())

    def clean_checks(self) -> list[dict]:
        """Self-checks of the images as they are.

        Raises ``UserError`` where some have no finite logits: what falls among them is chance.
        """
        draw_from(self.model, 0)
        finite = robustness.finite_logits(self.model, self.x, "clean", self.batch_size)
        if not finite["passed"]:
            raise UserError(
                f"logits of {1 - finite['value']:.1%} of the images are NaN or infinite: no attack "
                "is defined on them; mend the model (a log of 0? a class masked by -inf?), or "
                "leave these images out"
            )
        agree = robustness.batch_agreement(self.model, self.x, self.y, self.clean, "clean")
        return [finite, agree]


@dataclass
class Ball:
    """One norm: ``right`` [N] under everything so far, the images found, a turn an attack."""

    bench: Bench
    norm: str
    eps: float
    right: Tensor
    x_adv: Tensor
    turns: list[dict] = field(default_factory=list)
    checks: list[dict] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def attack(self) -> None:
        """Table 1's attacks, the cheapest first."""
        attacks = self.bench.effort.attacks(self.norm, self.eps, self.bench.classes)
        tried = {attack.method for attack in attacks} | {"fgsm", "mi_fgsm", "square", "margin"}
        for name, method in METHODS.items():
            if self.norm in method.norms and name not in tried:
                self.skipped[method.title] = _NOT_OF_EFFORT
        self._worst_case("attacks", "table1", attacks)

    def search(self) -> None:
        """The search from larger balls."""
        self._worst_case("search", "search", [self.bench.effort.search(self.norm, self.eps)])

    def _worst_case(self, part: str, family: str, attacks: Iterable[Attack]) -> None:
        bench, rows = self.bench, self.right.nonzero().squeeze(1)
        if not len(rows):
            for attack in attacks:
                none: dict[str, Any] = {"settings": _settings(attack), "seconds": 0.0}
                if attack.searches:
                    none |= {"restarts": [0] * attack.restarts, "converged": True}
                self._turn(family, attack.key, rows, self.right[rows], none)
            return
        result = worst_case(
            bench.model,
            bench.x[rows],
            bench.y[rows],
            attacks,
            batch_size=bench.batch_size,
            seed=bench.seed,
            processes=bench.processes,
            search=False,
            on_attack=lambda key, left: bench.tell(self.norm, part, key, left),
            partial=bench.partial and bench.partial.of(f"{self.norm}-{part}"),
        )
        self.x_adv[rows] = result.x_adv
        for turn in result.record["attacks"]:
            own = {k: turn[k] for k in turn if k not in ("attack", "right")}
            self._turn(family, turn["attack"], rows, from_bits(turn["right"]), own)

    def autoattack(self) -> None:
        """AutoAttack on what the search has left."""
        bench, shape = self.bench, tuple(self.bench.x.shape[1:])
        names = bench.effort.ensemble(self.norm, shape)
        for name in autoattack.STANDARD:
            if name not in names:
                why = _NO_ROOM if name in bench.effort.autoattack else _NOT_OF_EFFORT
                self.skipped[f"AutoAttack's {autoattack.TITLES[name]}"] = why
        rows = self.right.nonzero().squeeze(1)
        if not names or not len(rows):
            for name in names:
                self._turn(
                    "autoattack", f"{self.norm}_{name}", rows, self.right[rows], {"seconds": 0.0}
                )
            return

        def done(name: str) -> None:
            bench.tell(self.norm, "autoattack", name, None)
            if bench.partial:
                bench.partial.check_time(f"{self.norm} {name}")

        result = autoattack.standard(
            bench.model,
            bench.x[rows],
            bench.y[rows],
            eps=self.eps,
            norm=self.norm,
            batch_size=_even(len(rows), bench.batch_size, bench.processes),
            seed=bench.seed,
            attacks=names,
            state=bench.partial.path(f"{self.norm}-autoattack") if bench.partial else None,
            on_attack=done,
            processes=bench.processes,
            of=f"{bench.of} {digest_of(rows)[:10]}",
        )
        self.x_adv[rows] = result.x_adv
        for name, why in result.record["skipped"].items():
            self.skipped[f"AutoAttack's {autoattack.TITLES[name]}"] = why
        for name, turn in result.record["attacks"].items():
            own = {"seconds": turn["seconds"], "warnings": turn["warnings"]}
            self._turn("autoattack", f"{self.norm}_{name}", rows, from_bits(turn["right"]), own)

    def check(self) -> None:
        """Self-checks of the images that were found by now."""
        bench, key = self.bench, f"{self.norm} examination"
        draw_from(bench.model, 0)
        self.checks += [
            robustness.inside_ball(bench.x, self.x_adv, self.eps, self.norm, key),
            robustness.finite_logits(bench.model, self.x_adv, key),
            robustness.batch_agreement(bench.model, self.x_adv, bench.y, self.right, key),
        ]

    def masking(self) -> tuple[dict | None, str | None]:
        """The tests for masking, on images from all over the data; or why there are none.

        What their attacks take counts: the number is the lowest known.
        """
        bench = self.bench
        if not has_room_for_square(tuple(bench.x.shape[1:]), self.norm):
            self.skipped["the tests for masking"] = _NO_ROOM
            return None, _NO_ROOM
        rows = spread_over(bench.x, bench.effort.masking_images)
        found, fresh = self._once("masking", lambda: self._masking(rows))
        self.checks += found.pop("self_checks")
        for name, bits in found["right"].items():
            after = self.right[rows] & from_bits(bits).to(self.right.device)
            self._turn("masking", f"{self.norm}_{name}", rows, after, {})
        for test in found["tests"]:
            # That there was no network to carry images over from is said once.
            if test["verdict"] == "skipped" and test["test"] != "transfer":
                self.skipped[f"test for masking: {test['title']}"] = test["reason"]
        if fresh:
            bench.tell(self.norm, "masking", "masking", int(self.right.sum()))
        return found, None

    def _masking(self, rows: Tensor) -> dict:
        bench = self.bench
        draw_from(bench.model, 0)
        found = masking.examine(
            bench.model,
            bench.x[rows],
            bench.y[rows],
            self.right[rows],
            eps=self.eps,
            norm=self.norm,
            siblings=dict(bench.siblings),
            effort=bench.effort.tests(bench.batch_size, bench.seed),
        )
        del found["gate"]  # the examination's own
        return found

    def detector(self, detector: Detector) -> dict:
        """The attack that knows the detector, on the images that did not freeze its threshold."""
        found, fresh = self._once("detector", lambda: self._detector(detector))
        if fresh:
            self.bench.tell(self.norm, "detector", "detector", None)
        return found

    def _detector(self, detector: Detector) -> dict:
        bench, rows, effort = self.bench, detector.rows, self.bench.effort
        draw_from(bench.model, 0)
        draw_from(detector.score, 0)
        found = rejection.reject(
            bench.model,
            bench.x[rows],
            bench.y[rows],
            detector.x_val,
            detector.y_val,
            score=detector.score,
            eps=self.eps,
            norm=self.norm,
            given=[self.x_adv[rows]],
            accept=(detector.accept,),
            num_steps=effort.detector_steps,
            restarts=effort.detector_restarts,
            queries=effort.detector_queries,
            batch_size=bench.batch_size,
            seed=bench.seed,
        )
        ((name, threshold),) = found["thresholds"].items()
        (point,) = [p for p in found["curve"] if p["acceptance"] == detector.accept]
        return detector.settings() | {
            "images": len(rows),
            "threshold": threshold,
            "missed": found["missed"][name],
            "by_image": found["images"][name],
            "robust": point["robust"],
            "clean_acceptance": point["clean_acceptance"],
            "error_among_accepted": point["error_among_accepted"],
            "differentiable": found["differentiable"],
            "auc": found["auc"],
            "curve": found["curve"],
        }

    def _once(self, part: str, work: Callable[[], dict]) -> tuple[dict, bool]:
        """The record of a part, found where it was kept, and whether it was made just now."""
        partial, name = self.bench.partial, f"{self.norm}-{part}"
        known = partial.find(name) if partial else None
        if known and isinstance(known[1].get("record"), dict):
            return known[1]["record"], False
        started = time.perf_counter()
        found = work() | {"seconds": round(time.perf_counter() - started, 3)}
        if partial:
            partial.keep(name, {}, {"record": found})
        return found, True

    def _turn(self, family: str, key: str, rows: Tensor, after: Tensor, more: dict) -> None:
        """Note an attack, which met the images ``rows`` and left ``after`` [n] of them right."""
        before, right = self.right, self.right.clone()
        right[rows] = before[rows] & after.to(right.device)
        self.right = right
        turn = {
            "family": family,
            "attack": key,
            "met": int(before[rows].sum()),
            "taken": int((before & ~right).sum()),
            "left": int(right.sum()),
            "right": to_bits(right),
        }
        none: dict[str, Any] = {"seconds": None, "settings": None, "restarts": None}
        self.turns.append(turn | none | {"converged": None, "warnings": []} | more)


def _even(count: int, most: int, processes: int) -> int:
    """The size of batches of at most ``most`` of which every process gets as many."""
    if processes == 1:
        return most
    batches = -(-count // most)
    return -(-count // (-(-batches // processes) * processes))


def _settings(attack: Attack) -> dict:
    return attack.as_dict() | {"step_size": attack.absolute_step}
