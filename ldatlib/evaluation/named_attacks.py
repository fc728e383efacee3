"""The evaluation's attacks by name: foolbox's, pyautoattack's, and the search of this companion.

Each gets images it may attack and returns its images; ``robustness`` puts them inside the ball and
counts. Budgets are in pixel units of [0,1] images.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from ldatlib.attacks import NORMS
from ldatlib.defences.settings import Settings
from ldatlib.errors import UserError
from ldatlib.evaluation.search import RADII, Found, check_radii, margin_search

# Rows of an image, a fifth of which is the side of the squares that Square begins with under L2.
_SQUARE_SIDE = 5
# pyautoattack warns of single images with a vanishing gradient, once an attack and batch.
QUIET = logging.getLogger("ldatlib.apgd")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


@dataclass(frozen=True)
class Attack(Settings):
    """One attack at one budget.

    ``method`` is one of ``METHODS``; ``eps`` in pixel units, at least 0; ``steps`` its iterations;
    ``step_size`` in pixel units, ``None`` for eps/4 (L-inf) or eps/5 (L2); ``cw_step_size`` is the
    learning rate of C&W in its tanh space; with ``targets`` FAB attacks towards so many classes,
    the likeliest ones, instead of untargeted (0). ``margin`` alone takes ``steps`` in each of its
    ``restarts``, spread over balls of these ``radii``, in budgets, falling to 1.
    """

    method: str
    norm: str
    eps: float
    steps: int = 40
    step_size: float | None = None
    cw_step_size: float = 0.01
    targets: int = 0
    restarts: int = 13
    radii: tuple[float, ...] = RADII

    def __post_init__(self):
        if not isinstance(self.method, str) or self.method not in METHODS:
            raise UserError(f"unknown attack {self.method!r}; known: {', '.join(METHODS)}")
        norms = METHODS[self.method].norms
        if self.norm not in norms:
            raise UserError(f"{self.method} works under {' or '.join(norms)}, not {self.norm!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                # A number of numpy's is one: records have plain ones.
                object.__setattr__(self, field.name, value.item())
        self.check_number("eps")
        for name in ("steps", "restarts"):
            self.check_count(name)
        self.check_count("targets", 0)
        for name in ("step_size", "cw_step_size"):
            if name == "cw_step_size" or self.step_size is not None:
                self.check_number(name, open=True)
        check_radii(self.radii)

    def as_dict(self) -> dict:
        """Its settings, for JSON; those of the margin search where it is one."""
        own = asdict(self) | {"radii": list(self.radii)}
        if not self.searches:
            del own["restarts"], own["radii"]
        return own

    @property
    def searches(self) -> bool:
        """Has it restarts that it can tell about?"""
        return self.method == "margin"

    @property
    def key(self) -> str:
        """Its name in records, such as ``linf_pgd``: one column of Tables 1 and 2."""
        return f"{self.norm}_{self.method}"

    @property
    def absolute_step(self) -> float:
        if self.step_size is not None:
            return self.step_size
        return self.eps / (4 if self.norm == "linf" else 5)


@dataclass(frozen=True)
class _Method:
    title: str
    norms: tuple[str, ...]
    run: Callable[[nn.Module, Tensor, Tensor, Attack, int], Tensor | Found]


def _foolbox(model: nn.Module, attack, x: Tensor, y: Tensor, epsilon: float | None) -> Tensor:
    import foolbox

    target = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    arguments = {} if epsilon is None else {"epsilon": epsilon}
    return attack.run(target, x, foolbox.criteria.Misclassification(y), **arguments)


def _fgsm(model, x, y, spec, seed):
    import foolbox.attacks as fa

    kind = fa.LinfFastGradientAttack if spec.norm == "linf" else fa.L2FastGradientAttack
    return _foolbox(model, kind(), x, y, spec.eps)


def _mi_fgsm(model, x, y, spec, seed):
    import foolbox.attacks.mi_fgsm as mi

    kind = (
        mi.LinfMomentumIterativeFastGradientMethod
        if spec.norm == "linf"
        else mi.L2MomentumIterativeFastGradientMethod
    )
    attack = kind(momentum=1.0, steps=spec.steps, abs_stepsize=spec.absolute_step)
    return _foolbox(model, attack, x, y, spec.eps)


def _pgd(model, x, y, spec, seed):
    import foolbox.attacks as fa

    kind = fa.LinfPGD if spec.norm == "linf" else fa.L2PGD
    attack = kind(steps=spec.steps, abs_stepsize=spec.absolute_step, random_start=True)
    return _foolbox(model, attack, x, y, spec.eps)


def _deepfool(model, x, y, spec, seed):
    import foolbox.attacks as fa

    kind = fa.LinfDeepFoolAttack if spec.norm == "linf" else fa.L2DeepFoolAttack
    return _foolbox(model, kind(steps=spec.steps), x, y, None)


def _cw(model, x, y, spec, seed):
    import foolbox.attacks as fa

    attack = fa.L2CarliniWagnerAttack(
        binary_search_steps=9, steps=spec.steps, stepsize=spec.cw_step_size, confidence=0
    )
    found = _foolbox(model, attack, x, y, None)
    # foolbox answers a black image where it found none; nothing was found there.
    return torch.where((found == 0).flatten(1).all(1).view(-1, 1, 1, 1), x, found)


def _ddn(model, x, y, spec, seed):
    import foolbox.attacks as fa

    return _foolbox(model, fa.DDNAttack(steps=spec.steps), x, y, None)


def _apgd(model, x, y, spec, seed):
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(
        model,
        n_iter=spec.steps,
        norm=PACKAGE_NORMS[spec.norm],
        eps=spec.eps,
        seed=seed,
        # DLR divides by the gap between the first and the third logit.
        loss=apgd_loss(model, x),
        device=x.device,
        logger=QUIET,
    )
    return attack.perturb(x, y)


def apgd_loss(model: nn.Module, x: Tensor) -> str:
    """``"dlr"``, or ``"ce"`` where there are fewer than three classes."""
    with torch.no_grad():
        return "dlr" if model(x[:1]).shape[1] >= 3 else "ce"


def _fab(model, x, y, spec, seed):
    from pyautoattack.fab_pt import FABAttack_PT

    with torch.no_grad():
        others = model(x[:1]).shape[1] - 1
    targeted = {"targeted": True, "n_target_classes": min(spec.targets, others)}
    attack = FABAttack_PT(
        model,
        norm=PACKAGE_NORMS[spec.norm],
        n_iter=spec.steps,
        eps=spec.eps,
        seed=seed,
        device=x.device,
        **(targeted if spec.targets else {}),
    )
    return attack.perturb(x, y)


def has_room_for_square(shape: tuple[int, ...], norm: str) -> bool:
    """Whether images of this shape [channels, height, width] are large enough for Square."""
    return norm != "l2" or shape[1] >= _SQUARE_SIDE


def check_square(x: Tensor, norm: str) -> None:
    """Raises ``UserError`` where the package's Square has no room for its squares under L2."""
    if not has_room_for_square(tuple(x.shape[1:]), norm):
        raise UserError(
            f"Square under l2 needs images of at least {_SQUARE_SIDE} rows, not {x.shape[2]}; "
            "leave it out"
        )


def _square(model, x, y, spec, seed):
    from pyautoattack.square import SquareAttack

    check_square(x, spec.norm)
    attack = SquareAttack(
        model,
        norm=PACKAGE_NORMS[spec.norm],
        n_queries=spec.steps,
        eps=spec.eps,
        seed=seed,
        resc_schedule=False,
        device=x.device,
    )
    with torch.no_grad():
        return attack.perturb(x, y)


def _margin(model, x, y, spec, seed):
    return margin_search(
        model,
        x,
        y,
        eps=spec.eps,
        norm=spec.norm,
        num_steps=spec.steps,
        restarts=spec.restarts,
        radii=spec.radii,
        seed=seed,
    )


# What pyautoattack calls the norms.
PACKAGE_NORMS = {"linf": "Linf", "l2": "L2"}
METHODS = {
    "fgsm": _Method("FGSM", NORMS, _fgsm),
    "mi_fgsm": _Method("MI-FGSM", NORMS, _mi_fgsm),
    "pgd": _Method("PGD", NORMS, _pgd),
    "apgd": _Method("APGD-DLR", NORMS, _apgd),
    "fab": _Method("FAB", NORMS, _fab),
    "deepfool": _Method("DeepFool", NORMS, _deepfool),
    "cw": _Method("C&W", ("l2",), _cw),
    "ddn": _Method("DDN", ("l2",), _ddn),
    "square": _Method("Square", NORMS, _square),
    "margin": _Method("Margin, larger balls", NORMS, _margin),
}


def table1_attacks(
    eps_linf: float,
    eps_l2: float,
    *,
    steps: int = 40,
    cw_step_size: float = 0.01,
    fab_targets: int = 0,
) -> tuple[Attack, ...]:
    """The columns of Tables 1 and 2, and DDN, which the paper announces and leaves out."""
    methods = {
        "linf": ("pgd", "apgd", "fab", "deepfool"),
        "l2": ("pgd", "apgd", "fab", "cw", "deepfool", "ddn"),
    }
    budgets = {"linf": eps_linf, "l2": eps_l2}
    own: dict[str, dict] = {
        "cw": {"cw_step_size": cw_step_size},
        "fab": {"targets": fab_targets},
    }
    return tuple(
        Attack(method, norm, budgets[norm], steps, **own.get(method, {}))
        for norm, names in methods.items()
        for method in names
    )
