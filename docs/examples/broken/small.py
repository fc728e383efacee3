"""What the broken defences share: the digits, a small network, its training, a strong attack."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldatlib.data.load import load_dataset
from ldatlib.evaluation.ascent import margins, ranked_wrong
from ldatlib.evaluation.search import search

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def digits(split: str = "train") -> tuple[Tensor, Tensor]:
    """Images [N, 1, 8, 8] in [0,1] and their classes [N]."""
    return load_dataset("digits").split(split)


def convolutions(channels: int = 1) -> nn.Sequential:
    """Images [N, channels, 8, 8] -> logits [N, 10]; all but its last layer gives features."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def trained(
    build: Callable[[], nn.Module], seed: int = 0, epochs: int = 15, loss: Loss = cross_entropy
) -> nn.Module:
    """``build()`` trained on the digits in some seconds, the same for the same seed; in eval mode.

    The caller's random numbers are not used up.
    """
    x, y = digits()
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        model = build().train()
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                loss(model, x[rows], y[rows]).backward()
                optimizer.step()
    return model.eval()


def attack_through(
    stand_in: Callable[[Tensor], Tensor],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    norm: str = "linf",
    *,
    accepted: Callable[[Tensor], Tensor] | None = None,
    restarts: int = 12,
    num_steps: int = 40,
) -> Tensor:
    """Follow the margin of ``stand_in`` (images -> logits); keep what fools ``model``.

    The library's search from larger balls, every second restart towards one class. Whether an image
    is done is asked of the defence itself: it is wrong and, where that may refuse, ``accepted``
    (images -> bool). Returns images like ``x``, the clean one where nothing was found.
    """
    with torch.no_grad():
        targets = ranked_wrong(stand_in(x), y)

    def objective(number: int):
        def value(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            logits, true = stand_in(images), y[rows]
            if number % 2:
                target = targets[rows, number // 2 % targets.shape[1]]
                pair = logits.gather(1, torch.stack([target, true], 1))
                aim = pair[:, 0] - pair[:, 1]
            else:
                aim = margins(logits, true)
            with torch.no_grad():
                done = model(images).argmax(1) != true
                if accepted is not None:
                    done &= accepted(images)
            return aim, done.float()

        return value

    objectives = [objective(number) for number in range(restarts)]
    generator = torch.Generator(x.device).manual_seed(0)
    return search(
        objectives, x, eps=eps, norm=norm, num_steps=num_steps, generator=generator
    ).images
