"""Run an attack by name: in batches, its images put inside the ball, its restarts kept."""

import torch
from torch import Tensor, nn

from ldatlib.attacks import finite, frozen, per_image, project
from ldatlib.evaluation.named_attacks import METHODS, Attack
from ldatlib.evaluation.search import Found


def run_restarts(
    model: nn.Module, x: Tensor, y: Tensor, attack: Attack, *, batch_size: int = 128, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """As ``run_attack``, and the restart that found each image [N]: 0, 1, ..., or -1 for none.

    All -1 for an attack that does not say.
    """
    results, restarts = [x[:0].clone()], [y.new_zeros(0)]
    with frozen(model), torch.random.fork_rng():
        torch.manual_seed(seed)
        for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            if not len(part):
                break
            answer = METHODS[attack.method].run(model, part, labels, attack, seed)
            silent = torch.full_like(labels, -1)
            restarts.append(answer.restart if isinstance(answer, Found) else silent)
            found = (answer.images if isinstance(answer, Found) else answer).detach()
            # DDN and DeepFool divide by gradients that may vanish.
            delta = torch.where(per_image(finite(found), found), found - part, 0)
            results.append((part + project(delta, attack.eps, attack.norm)).clamp(0, 1))
    return torch.cat(results), torch.cat(restarts)
