"""The defences: what each trains against, and the loss it minimises.

A loss takes the network, the images ``x``, the adversarial images ``x_adv`` (both [N, C, H, W] in
[0,1]) and the labels ``y`` [N], and returns the scalar to minimise with a dictionary of its parts
for the log. ``p = softmax(model(x))``, ``p' = softmax(model(x_adv))``. Natural and adversarial
images pass through the network one after the other, in train mode (``docs/gaps.md``, gap 8).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldatlib import attacks
from ldatlib.errors import UserError
from ldatlib.gmm import REGULARIZER_SCALES

Loss = tuple[Tensor, dict[str, Tensor]]


def natural_loss(model: nn.Module, x: Tensor, y: Tensor) -> Loss:
    """Cross-entropy on the images as they are: no defence."""
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    return loss, {"natural_accuracy": _accuracy(logits, y)}


def standard_loss(model: nn.Module, x_adv: Tensor, y: Tensor) -> Loss:
    """Cross-entropy on PGD examples: Madry et al. 2018, Eq. 4 of the paper. Also L2-AT."""
    logits = model(x_adv)
    loss = F.cross_entropy(logits, y)
    return loss, {"adversarial_accuracy": _accuracy(logits, y)}


def trades_loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, beta: float) -> Loss:
    """``CE(p, y) + beta KL(p || p')``: TRADES, Zhang et al. 2019, Eq. 5 of the paper; beta 6."""
    logits, logits_adv = model(x), model(x_adv)
    natural = F.cross_entropy(logits, y)
    divergence = _kl(logits, logits_adv).mean()
    return natural + beta * divergence, {
        "loss_natural": natural.detach(),
        "loss_divergence": divergence.detach(),
        "natural_accuracy": _accuracy(logits, y),
        "adversarial_accuracy": _accuracy(logits_adv, y),
    }


def mart_loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, beta: float) -> Loss:
    """``CE(p', y) - log(1.0001 - max_{k != y} p'_k) + beta mean[KL(p || p') (1 - p_y)]``.

    MART, Wang et al. 2020; beta 5 as in its ResNet-18 script.
    """
    logits, logits_adv = model(x), model(x_adv)
    p, p_adv = logits.softmax(1), logits_adv.softmax(1)
    # Probabilities are positive, so -1 never is the largest of the other classes.
    others = p_adv.scatter(1, y.unsqueeze(1), -1).amax(1)
    boosted = F.cross_entropy(logits_adv, y) - torch.log(1.0001 - others).mean()
    own = p.gather(1, y.unsqueeze(1)).squeeze(1)
    divergence = (_kl(logits, logits_adv) * (1.0000001 - own)).mean()
    return boosted + beta * divergence, {
        "loss_adversarial": boosted.detach(),
        "loss_divergence": divergence.detach(),
        "natural_accuracy": _accuracy(logits, y),
        "adversarial_accuracy": _accuracy(logits_adv, y),
    }


def lbgat_loss(
    model: nn.Module, teacher: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, beta: float
) -> Loss:
    """``MSE(z', z_T) + CE(z_T, y) + beta KL(p || p')``: LBGAT, Cui et al. 2021; beta 6.

    The natural teacher's logits z_T are trained jointly and not detached: each side is drawn to
    the other.
    """
    logits, logits_adv, logits_teacher = model(x), model(x_adv), teacher(x)
    guidance = F.mse_loss(logits_adv, logits_teacher)
    natural = F.cross_entropy(logits_teacher, y)
    divergence = _kl(logits, logits_adv).mean()
    return guidance + natural + beta * divergence, {
        "loss_guidance": guidance.detach(),
        "loss_teacher": natural.detach(),
        "loss_divergence": divergence.detach(),
        "natural_accuracy": _accuracy(logits, y),
        "adversarial_accuracy": _accuracy(logits_adv, y),
    }


def ldat_loss(
    model: nn.Module,
    x: Tensor,
    x_adv: Tensor,
    y: Tensor,
    *,
    beta: float,
    margin: float,
    lambda_t: float,
    regularizer_scale: str = "sum",
) -> Loss:
    """``(1 - beta) [L_cls(x) + lambda_t L_lkd(x)] + beta [L_cls(x') + lambda_t L_lkd(x')]``.

    Algorithm 2, Eq. 9 to 11. L_cls is the cross-entropy of the posterior with the margin, L_lkd
    the likelihood regularisation of Eq. 7. With a linear head (an ablation) there is no margin
    and no L_lkd: what is left is the mixture of natural and adversarial cross-entropy.
    """
    parts: dict[str, Tensor] = {}
    total: Tensor | float = 0.0
    for images, name, weight in ((x, "natural", 1 - beta), (x_adv, "adversarial", beta)):
        if weight == 0:
            continue
        features = model.features(images)
        logits = model.head(features)
        if hasattr(model.head, "margin_logits"):
            classification = F.cross_entropy(model.head.margin_logits(features, y, margin), y)
            regularizer = model.head.likelihood_regularization(features, y, regularizer_scale)
            parts[f"regularizer_{name}"] = regularizer.detach()
            total = total + weight * (classification + lambda_t * regularizer)
        else:
            classification = F.cross_entropy(logits, y)
            total = total + weight * classification
        parts[f"loss_{name}"] = classification.detach()
        parts[f"{name}_accuracy"] = _accuracy(logits, y)
    return total, parts


def lambda_at(progress: float, schedule: str, lambda_init: float) -> float:
    """The weight of L_lkd at ``progress = t / T`` in (0, 1].

    ``"grow"`` is Eq. 12, where t counts epochs; ``"grow_by_step"`` the same by the step, which
    differs where epochs are few. ``"decay"`` is Section 4.1.2 ("decreases linearly to 0"): the
    paper says both (``docs/gaps.md``, gap 1).
    """
    factors = {"constant": 1.0, "decay": 1.0 - progress}
    return lambda_init * factors.get(schedule, progress)


def _accuracy(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.detach().argmax(1) == y).float().mean()


def _kl(logits: Tensor, logits_adv: Tensor) -> Tensor:
    """``KL(p || p')`` per image, [N], in nats."""
    return F.kl_div(
        logits_adv.log_softmax(1), logits.log_softmax(1), reduction="none", log_target=True
    ).sum(1)


@dataclass(frozen=True)
class DefenceConfig:
    """One defence with all its switches. Fields that a defence does not use stay at their default.

    ``eps``, ``radius`` and ``step_size`` are in pixel units. ``attack`` is what the adversarial
    images come from: ``"none"``, ``"boundary"`` (Algorithm 1) or ``"pgd"``.
    """

    name: str
    objective: str
    head: str = "linear"
    attack: str = "pgd"
    norm: str = "linf"
    attack_loss: str = "ce"
    eps: float = 8 / 255
    step_size: float = 2 / 255
    num_steps: int = 10
    gamma: float = 0.2
    radius: float = 1.5
    attack_optimizer: str = "unit"
    beta: float = 0.0
    margin: float = 0.1
    lambda_init: float = 1.0
    lambda_schedule: str = "grow"
    regularizer_scale: str = "sum"
    centroid_init: str = "xavier"
    centroid_weight_decay: bool = True

    def __post_init__(self):
        choices = {
            "objective": OBJECTIVES,
            "head": ("linear", "gmm"),
            "attack": ("none", "boundary", "pgd"),
            "norm": attacks.NORMS,
            "attack_loss": attacks.LOSSES,
            "attack_optimizer": attacks.ATTACK_OPTIMIZERS,
            "lambda_schedule": ("grow", "grow_by_step", "constant", "decay"),
            "regularizer_scale": tuple(REGULARIZER_SCALES),
            "centroid_init": ("xavier", "normal"),
        }
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                raise UserError(f"{self.name}: {name} {value!r} is not one of {', '.join(known)}")
        for name in ("eps", "step_size", "radius", "beta", "margin", "lambda_init"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UserError(f"{self.name}: {name} must be a number of at least 0, not {value}")
        if self.objective == "ldat" and self.beta > 1:
            raise UserError(f"{self.name}: beta of LDAT lies in [0, 1], not {self.beta}")
        if not 0 < self.gamma < 1:
            raise UserError(f"{self.name}: gamma must lie between 0 and 1, not {self.gamma}")
        if self.num_steps < 1:
            raise UserError(f"{self.name}: num_steps must be at least 1, not {self.num_steps}")

    def as_dict(self) -> dict:
        return asdict(self)

    def adversary(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The unprojected adversarial images of a training step; ``finalise`` comes after."""
        if self.attack == "none":
            return x
        if self.attack == "boundary":
            return attacks.boundary_attack(
                model,
                x,
                y,
                num_steps=self.num_steps,
                gamma=self.gamma,
                optimizer=self.attack_optimizer,
                generator=generator,
            )
        return attacks.pgd(
            model,
            x,
            y,
            eps=self.eps,
            step_size=self.step_size,
            num_steps=self.num_steps,
            norm=self.norm,
            loss=self.attack_loss,
            generator=generator,
        )

    def finalise(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """What a training step sees: Algorithm 1's images projected; PGD's are inside already."""
        if self.attack != "boundary":
            return x_adv
        return attacks.finalise(x, x_adv, self.radius)

    def loss(
        self,
        model: nn.Module,
        x: Tensor,
        x_adv: Tensor,
        y: Tensor,
        *,
        progress: float,
        teacher: nn.Module | None = None,
    ) -> Loss:
        """The loss of this defence at ``progress = t / T`` of its training."""
        if self.objective == "natural":
            return natural_loss(model, x, y)
        if self.objective == "standard":
            return standard_loss(model, x_adv, y)
        if self.objective == "trades":
            return trades_loss(model, x, x_adv, y, self.beta)
        if self.objective == "mart":
            return mart_loss(model, x, x_adv, y, self.beta)
        if self.objective == "lbgat":
            return lbgat_loss(model, teacher, x, x_adv, y, self.beta)
        return ldat_loss(
            model,
            x,
            x_adv,
            y,
            beta=self.beta,
            margin=self.margin,
            lambda_t=lambda_at(progress, self.lambda_schedule, self.lambda_init),
            regularizer_scale=self.regularizer_scale,
        )


OBJECTIVES = ("natural", "standard", "trades", "mart", "lbgat", "ldat")

TITLES = {
    "natural": "Natural",
    "standard": "Standard",
    "l2_at": "L2-AT",
    "l2_at_wide": "L2-AT (radius)",
    "trades": "TRADES",
    "mart": "MART",
    "lbgat": "LBGAT",
    "ldat": "LDAT",
    "ldat_chosen": "LDAT (chosen)",
}
DEFENCES = tuple(TITLES)


# LDAT for new users: of the likelihood terms tried on CIFAR-10, the one under which most
# validation images survived PGD L2 (docs/regularizer.md). Table 1 has LDAT as written, ``"ldat"``.
CHOSEN = {"lambda_init": 0.01}


def make_defence(
    name: str, *, eps_linf: float, eps_l2: float, radius: float, **switches
) -> DefenceConfig:
    """A defence of the paper at the budgets of a profile, with any field replaced by name.

    L-inf defences train with steps of eps/4, L2 ones with eps/5, ten of them. Raises
    ``UserError`` for an unknown defence or switch, listing the known ones.
    """
    linf = {"norm": "linf", "eps": eps_linf, "step_size": eps_linf / 4}

    def l2(eps: float) -> dict:
        return {"objective": "standard", "norm": "l2", "eps": eps, "step_size": eps / 5}

    ldat = {
        "objective": "ldat",
        "head": "gmm",
        "attack": "boundary",
        "beta": 0.5,
        "radius": radius,
        **linf,
    }
    known: dict[str, Callable[[], dict]] = {
        "natural": lambda: {"objective": "natural", "attack": "none"},
        "standard": lambda: {"objective": "standard", **linf},
        "l2_at": lambda: l2(eps_l2),
        "l2_at_wide": lambda: l2(radius),
        "trades": lambda: {"objective": "trades", "attack_loss": "kl", "beta": 6.0, **linf},
        "mart": lambda: {"objective": "mart", "beta": 5.0, **linf},
        "lbgat": lambda: {"objective": "lbgat", "attack_loss": "kl", "beta": 6.0, **linf},
        "ldat": lambda: ldat,
        "ldat_chosen": lambda: ldat | CHOSEN,
    }
    if name not in known:
        raise UserError(f"unknown defence {name!r}; known: {', '.join(known)}")
    config = DefenceConfig(name=name, **known[name]())
    switchable = {field.name for field in fields(DefenceConfig)} - {"name"}
    unknown = sorted(set(switches) - switchable)
    if unknown:
        raise UserError(
            f"unknown switch {unknown[0]!r} of {name}; known: {', '.join(sorted(switchable))}"
        )
    return replace(config, **switches)
