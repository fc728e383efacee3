"""Attacks for training: Algorithm 1 of the paper, and projected gradient descent.

Both are pure functions on images ``x`` [N, ...] in [0,1] with labels ``y`` [N]. They keep the
dtype, leave the model as they found it (mode, gradient flags, gradients), return a detached
tensor, and treat every image on its own: neither the order of a batch nor its size matters beyond
rounding. The model runs in eval mode (batch norm uses its running statistics), which is what an
attacker of the deployed network sees (the paper does not say; ``docs/gaps.md``, gap 8).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldatlib.errors import UserError

NORMS = ("linf", "l2")
LOSSES = ("ce", "kl")


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode and no parameter gradients inside; everything as before outside, errors or not."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """[N] -> [N, 1, ...] so that it broadcasts over the pixels of ``like``."""
    return values.view(-1, *[1] * (like.ndim - 1))


def finite(images: Tensor) -> Tensor:
    """Which images [N, ...] have numbers for pixels, [N]; steps along infinite gradients do not."""
    return images.flatten(1).isfinite().all(1)


def l2_norm(delta: Tensor) -> Tensor:
    """Euclidean norm of each image, [N, ...] -> [N]."""
    return delta.flatten(1).norm(dim=1)


def project(delta: Tensor, eps: float, norm: str) -> Tensor:
    """The nearest perturbation with ``||delta||_norm <= eps``."""
    if norm == "linf":
        return delta.clamp(-eps, eps)
    # The floor only keeps 0/0 out: a perturbation that short is inside every ball we accept.
    shrink = (eps / l2_norm(delta).clamp_min(1e-12)).clamp_max(1)
    return delta * per_image(shrink, delta)


def unit_direction(gradient: Tensor, fallback: Tensor) -> Tensor:
    """``g / ||g||_2`` per image, and ``fallback`` (unit vectors) where g vanishes or overflows.

    The gradient is first scaled by its largest entry: float32 squares of 1e-23 are zero, and a
    confident network's gradients are that small.
    """
    largest = gradient.flatten(1).abs().amax(1)
    usable = (largest > 0) & largest.isfinite()
    scaled = gradient / per_image(torch.where(usable, largest, 1), gradient)
    norm = torch.where(usable, l2_norm(scaled), 1)
    return torch.where(per_image(usable, gradient), scaled / per_image(norm, gradient), fallback)


def _random_directions(x: Tensor, generator: torch.Generator | None) -> Tensor:
    noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return noise / per_image(l2_norm(noise).clamp_min(1e-12), noise)


def boundary_attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    num_steps: int = 10,
    gamma: float = 0.2,
    radius: float | None = None,
    optimizer: str = "unit",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Algorithm 1: walk along the decision boundary, growing or shrinking the perturbation.

    Per image, from ``eps = 1`` and ``delta = 0``, ``num_steps`` times: one forward pass at
    ``x + delta`` (pixels are not clipped on the way) tells whether it is misclassified and gives
    the gradient g of the cross-entropy; ``eps`` shrinks by ``1 - gamma`` if it is and grows by
    ``1 + gamma`` if not; ``delta = eps * eta / ||eta||`` with ``eta = delta + g / ||g||``. It is
    DDN (Rony et al. 2019) without box, quantisation, step decay and best-so-far.

    Parameters
    ----------
    num_steps : K, at least 1; one forward and one input-gradient pass each.
    gamma : in (0, 1).
    radius : the last perturbation is projected onto this L2 ball, in pixel units (1.5 on CIFAR-10
        in the paper), and ``x + delta`` clipped to [0,1]. ``None`` leaves out both and returns
        the last iterate of the algorithm itself.
    optimizer : ``"unit"`` as Algorithm 1 has it; ``"adam"`` feeds the normalised gradient to Adam
        with learning rate 0.2 as Section 4.1.2 says, then renormalises ``eta``.
    generator : random directions where a gradient vanishes come from it.

    Returns
    -------
    x_adv : like ``x``, detached. Not necessarily misclassified: the paper wants it near the
        boundary, on either side.

    Raises
    ------
    UserError : for a value outside the ranges above.
    """
    if num_steps < 1:
        raise UserError(f"num_steps must be at least 1, not {num_steps}")
    if not 0 < gamma < 1:
        raise UserError(f"gamma must lie between 0 and 1, not {gamma}")
    if radius is not None and not 0 < radius < float("inf"):
        raise UserError(f"radius must be a positive number or None, not {radius}")
    if optimizer not in _STEPS:
        raise UserError(f"unknown optimizer {optimizer!r}; known: {', '.join(_STEPS)}")
    x_adv, _ = boundary_walk(model, x, y, num_steps, gamma, optimizer, generator)
    return x_adv if radius is None else finalise(x.detach(), x_adv, radius)


def boundary_walk(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    num_steps: int,
    gamma: float,
    optimizer: str,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 itself: its last iterate, and which images [N] were right where it began."""
    x = x.detach()
    delta = torch.zeros_like(x)
    eps = torch.ones(len(x), dtype=x.dtype, device=x.device)
    fallback = _random_directions(x, generator)
    step = _STEPS[optimizer]()
    with frozen(model), torch.enable_grad():
        for k in range(num_steps):
            delta.requires_grad_(True)
            logits = model(x + delta)
            # The sum, not the mean: an image's gradient must not depend on the batch around it.
            loss = F.cross_entropy(logits, y, reduction="sum")
            gradient = unit_direction(torch.autograd.grad(loss, delta)[0], fallback)
            delta = delta.detach()
            misclassified = logits.detach().argmax(1) != y
            if k == 0:
                right = ~misclassified
            eps = torch.where(misclassified, eps * (1 - gamma), eps * (1 + gamma))
            # If delta and the step cancel exactly, the gradient's direction stands in for 0/0.
            eta = unit_direction(delta + step(gradient), gradient)
            delta = per_image(eps, eta) * eta
    return x + delta, right


def finalise(x: Tensor, x_adv: Tensor, radius: float) -> Tensor:
    """Algorithm 2's projection: ``x_adv - x`` onto the L2 ball, then the pixels into [0,1]."""
    return (x + project(x_adv - x, radius, "l2")).clamp(0, 1)


def _unit_step() -> Callable[[Tensor], Tensor]:
    return lambda direction: direction


def _adam_step(
    lr: float = 0.2, beta1: float = 0.9, beta2: float = 0.999
) -> Callable[[Tensor], Tensor]:
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0
    count = 0

    def step(direction: Tensor) -> Tensor:
        nonlocal first, second, count
        count += 1
        first = beta1 * first + (1 - beta1) * direction
        second = beta2 * second + (1 - beta2) * direction.square()
        corrected = second / (1 - beta2**count)
        return lr * first / (1 - beta1**count) / (corrected.sqrt() + 1e-8)

    return step


_STEPS = {"unit": _unit_step, "adam": _adam_step}
ATTACK_OPTIMIZERS = tuple(_STEPS)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    step_size: float,
    num_steps: int,
    norm: str = "linf",
    loss: str = "ce",
    random_start: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient ascent on the cross-entropy, or on the KL divergence from ``p(x)``.

    Eq. 2 of the paper (Madry et al. 2018), with a random start in the ball; ``loss="kl"`` is the
    inner maximisation of TRADES (Zhang et al. 2019), whose start is ``x`` plus noise of 0.001.

    Parameters
    ----------
    eps, step_size : in pixel units, at least 0; ``num_steps`` at least 0.
    norm : ``"linf"`` (signed steps) or ``"l2"`` (steps along ``g / ||g||_2``).
    loss : ``"ce"`` uses ``y``; ``"kl"`` ignores it.

    Returns
    -------
    x_adv : like ``x``, detached, ``||x_adv - x||_norm <= eps`` and pixels in [0,1].

    Raises
    ------
    UserError : unknown norm or loss, negative or non-finite numbers.
    """
    if norm not in NORMS:
        raise UserError(f"unknown norm {norm!r}; known: {', '.join(NORMS)}")
    if loss not in LOSSES:
        raise UserError(f"unknown attack loss {loss!r}; known: {', '.join(LOSSES)}")
    for name, value in (("eps", eps), ("step_size", step_size), ("num_steps", num_steps)):
        if not 0 <= value < float("inf"):
            raise UserError(f"{name} must be a number of at least 0, not {value}")
    x = x.detach()
    # Signs need none, and draw no random numbers for it.
    fallback = _random_directions(x, generator) if norm == "l2" else x
    delta = torch.zeros_like(x)
    if random_start and loss == "kl":
        delta = 0.001 * torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    elif random_start:
        delta = random_in_ball(x, eps, norm, generator)
    with frozen(model), torch.enable_grad():
        if loss == "kl":
            with torch.no_grad():
                target = model(x).log_softmax(1)
        for _ in range(num_steps):
            x_adv = (x + project(delta, eps, norm)).clamp(0, 1).requires_grad_(True)
            logits = model(x_adv)
            if loss == "ce":
                objective = F.cross_entropy(logits, y, reduction="sum")
            else:
                objective = F.kl_div(
                    logits.log_softmax(1), target, reduction="sum", log_target=True
                )
            gradient = torch.autograd.grad(objective, x_adv)[0]
            direction = gradient.sign() if norm == "linf" else unit_direction(gradient, fallback)
            delta = x_adv.detach() - x + step_size * direction
    return (x + project(delta, eps, norm)).clamp(0, 1)


def random_in_ball(x: Tensor, eps: float, norm: str, generator: torch.Generator | None) -> Tensor:
    """A random perturbation of each image: uniform in the cube (L-inf) or in the L2 ball."""
    if norm == "linf":
        noise = torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        return (2 * noise - 1) * eps
    length = torch.rand(len(x), dtype=x.dtype, device=x.device, generator=generator)
    # Uniform in the ball: the radius of a uniform point is distributed as u^(1/d).
    length = length ** (1 / max(x.shape[1:].numel(), 1)) * eps
    return per_image(length, x) * _random_directions(x, generator)
