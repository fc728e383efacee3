"""(c) One LDAT training step against the sum of its bare passes, and against a plain loop.

Bare passes: K forward and input-gradient passes, and two forward and backward passes in train
mode, of the same network, precision and layout. The plain loop is written as public scripts of
adversarial training are: float32, contiguous, gradients of the parameters computed in the attack
and thrown away; it runs in a process of its own.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from side_by_side import Apart, begin, measure, parser, table

from ldatlib.attacks import frozen
from ldatlib.defences import make_defence
from ldatlib.execution import place, prepare
from ldatlib.models import NetworkConfig, build_network

STEPS = 10
CONFIG = NetworkConfig(10, "gmm")


def optimiser(model):
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)


def ldat_step(model, defence, sgd, x, y) -> None:
    x_adv = defence.adversary.finalise(x, defence.adversary(model, x, y))
    model.train()
    loss, _ = defence.loss(model, x, x_adv, y, progress=0.5)
    sgd.zero_grad(set_to_none=True)
    loss.backward()
    sgd.step()


def bare_step(model, x, y) -> None:
    with frozen(model), torch.enable_grad():
        for _ in range(STEPS):
            at = x.detach().requires_grad_(True)
            torch.autograd.grad(F.cross_entropy(model(at), y, reduction="sum"), at)
    model.train()
    for _ in range(2):
        F.cross_entropy(model(x), y).backward()


def plain_step(model, sgd, x, y) -> None:
    """Algorithm 1 and its loss as a script would have them."""
    model.eval()
    delta, eps = torch.zeros_like(x), torch.ones(len(x), 1, 1, 1, device=x.device)
    for _ in range(STEPS):
        delta.requires_grad_(True)
        logits = model(x + delta)
        F.cross_entropy(logits, y).backward()
        gradient = delta.grad / delta.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        fooled = (logits.argmax(1) != y).view(-1, 1, 1, 1)
        eps = torch.where(fooled, eps * 0.8, eps * 1.2)
        eta = delta.detach() + gradient
        delta = eps * eta / eta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    x_adv = (x + delta * (1.5 / length).clamp_max(1)).clamp(0, 1)
    model.train()
    loss = torch.zeros((), device=x.device)
    for images in (x, x_adv):
        features = model.features(images)
        logits = model.head.margin_logits(features, y, 0.1)
        own = (features - model.head.means[y]).square().sum(1).mean()
        loss = loss + 0.5 * (F.cross_entropy(logits, y) + 0.5 * own)
    sgd.zero_grad()
    loss.backward()
    sgd.step()


def plain_loop(x, y, device):
    x, y = x.to(device), y.to(device)
    model = build_network(CONFIG).to(device)
    sgd = optimiser(model)
    return lambda: plain_step(model, sgd, x, y)


def main() -> None:
    options = parser(__doc__).parse_args()
    device = begin(options)
    batch = 8 if options.quick else 64
    ours = place(build_network(CONFIG), device)
    execution = prepare(ours, device, precision="auto")
    defence = make_defence("ldat", eps_linf=8 / 255, eps_l2=0.5, radius=1.5, num_steps=STEPS)
    x, y = torch.rand(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    last = x.contiguous(memory_format=torch.channels_last)
    own = optimiser(ours)
    print(f"PreAct ResNet-18, batch {batch}, K = {STEPS}; here: {execution.precision}\n")
    candidates: dict[str, Callable[[], object]] = {
        "its bare passes": lambda: bare_step(ours, last, y),
        "an LDAT step": lambda: ldat_step(ours, defence, own, last, y),
        "a plain loop": Apart(plain_loop, x.cpu(), y.cpu(), device),
    }
    table(measure(candidates, device, options.rounds), "its bare passes", batch)


if __name__ == "__main__":
    main()
