"""Where the tests for gradient masking work: a network, its images, attacks of equal effort."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldatlib.attacks import finite, per_image
from ldatlib.errors import UserError
from ldatlib.evaluation import robustness
from ldatlib.evaluation.ascent import inside, margins, random_start
from ldatlib.evaluation.named_attacks import PACKAGE_NORMS, QUIET, Attack
from ldatlib.evaluation.robustness import may_differ, predict, run_attack
from ldatlib.evaluation.search import RADII, search


@dataclass(frozen=True)
class Effort:
    """How hard the tests try. ``steps`` as in Table 1; ``queries`` are Square's."""

    steps: int = 40
    restarts: int = 3
    queries: int = 1000
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "restarts", "queries", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """[N, C] and [N] -> [N]."""
    return F.cross_entropy(logits, y, reduction="none")


class Scaled(nn.Module):
    """The same classifier, its logits times a number."""

    def __init__(self, model: nn.Module, scale: float):
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.model(x)


class Bench:
    """A network, its images, and what each attack on the ball has left right."""

    def __init__(self, model, x, y, eps, norm, effort):
        self.model, self.x, self.y, self.effort = model, x, y, effort
        self.eps, self.norm = eps, norm
        self.clean = predict(model, x, effort.batch_size) == y
        self.right: dict[str, Tensor] = {}
        self.checks: list[dict] = []
        self.pgd = self.clean
        with torch.no_grad():
            self.classes = model(x[:1]).shape[1]

    def ordinary(self) -> nn.Module:
        """The network with logits of ordinary size: half the clean margins are above about four.

        The cross-entropy follows the softmax, and large or tiny logits make it a weak guide
        though no gradient is masked; the number is a power of two, so that scaling is exact.
        """
        with torch.no_grad():
            logits = torch.cat([self.model(part) for part in self.x[self.clean].split(256)])
        margin = -margins(logits, self.y[self.clean]).double().median()
        if not 0 < margin < float("inf"):
            return self.model
        return Scaled(self.model, 2.0 ** round(math.log2(4 / float(margin))))

    def library(self, attack: Attack) -> Callable:
        batch, seed = self.effort.batch_size, self.effort.seed
        return lambda model, x, y: run_attack(model, x, y, attack, batch_size=batch, seed=seed)

    def apgd(self, loss: str, restarts: int) -> Callable:
        from pyautoattack.autopgd_base import APGDAttack

        def attack(model, x, y):
            search = APGDAttack(
                model,
                n_iter=self.effort.steps,
                n_restarts=restarts,
                norm=PACKAGE_NORMS[self.norm],
                eps=self.eps,
                seed=self.effort.seed,
                loss=loss,
                device=x.device,
                logger=QUIET,
            )
            return search.perturb(x, y)

        return self.batched(attack)

    def search(self, objectives: Callable, radii: Sequence[float] = RADII) -> Callable:
        """``objectives(model, x, y)``, a restart each, maximised until the class flips."""

        def attack(model, x, y):
            generator = torch.Generator(x.device).manual_seed(self.effort.seed)
            ball = {"eps": self.eps, "norm": self.norm, "num_steps": self.effort.steps}
            chosen = objectives(model, x, y)
            return search(chosen, x, radii=radii, generator=generator, **ball).images

        return self.batched(attack)

    def repeated(self, value: Callable) -> Callable:
        """``value(logits, y) -> [n]`` in every restart, for ``search``."""

        def objectives(model, x, y):
            def objective(images, rows):
                logits = model(images)
                return value(logits, y[rows]), margins(logits, y[rows])

            return [objective] * self.effort.restarts

        return objectives

    def batched(self, attack: Callable) -> Callable:
        def all_of(model, x, y):
            size = self.effort.batch_size
            parts = zip(x.split(size), y.split(size), strict=True)
            return torch.cat([attack(model, *part) for part in parts])

        return all_of

    def leaves(self, attack: Callable, model=None, eps=None, among: Tensor | None = None) -> Tensor:
        """Images right before and after; the attack sees ``model``, this network is asked.

        ``among``: only these images are attacked, and only they can be right.
        """
        rows = self.clean if among is None else among
        x_adv = self._found(attack, model, self.eps if eps is None else eps, rows)
        return self._still(x_adv, rows)

    def run(self, name: str, attack: Callable, model=None, among: Tensor | None = None) -> Tensor:
        """As ``leaves``, in the ball itself: counted in the worst case, and checked."""
        rows = self.clean if among is None else among
        x_adv = self._found(attack, model, self.eps, rows)
        self.right[name] = self._still(x_adv, rows)
        key = f"{self.norm} {name}"
        self.checks.append(robustness.inside_ball(self.x, x_adv, self.eps, self.norm, key))
        self.checks.append(robustness.finite_logits(self.model, x_adv, key))
        found = robustness.batch_agreement(
            self.model, x_adv, self.y, self.right[name], key, among=rows
        )
        self.checks.append(found)
        return self.right[name]

    def _found(self, attack: Callable, model, eps: float, rows: Tensor) -> Tensor:
        x_adv = self.x.clone()
        if rows.any():
            seen = self.model if model is None else model  # the truth of a module may raise
            found = attack(seen, self.x[rows], self.y[rows]).detach()
            found = torch.where(per_image(finite(found), found), found, self.x[rows])
            x_adv[rows] = inside(self.x[rows], found, eps, self.norm)
        return x_adv

    def _still(self, x_adv: Tensor, rows: Tensor) -> Tensor:
        return rows & (predict(self.model, x_adv, self.effort.batch_size) == self.y)

    def check_nothing(self) -> None:
        """A budget of 0 gives the clean accuracy."""
        left = self.leaves(self.library(Attack("pgd", self.norm, 0.0, 1)), eps=0.0)
        self.checks.append(
            {
                "name": f"{self.norm}: a budget of 0 gives the clean accuracy",
                "passed": int((left != self.clean).sum()) <= may_differ(self.model) * len(left),
                "value": float(left.float().mean()),
            }
        )

    def starts(self) -> Tensor:
        generator = torch.Generator(self.x.device).manual_seed(self.effort.seed)
        return random_start(self.x, self.eps, self.norm, generator)
