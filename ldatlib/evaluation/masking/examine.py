"""Is the robustness real, or do the gradients only lead nowhere? Tests for gradient masking.

Each test puts a stronger or a different tool beside the usual one and counts what is left, after
the lists of Athalye, Carlini and Wagner 2018 and Carlini et al. 2019, "On evaluating adversarial
robustness". Two questions, one rule:

- **misled**: does a tool of no more effort, or of less knowledge, leave fewer images right than the
  cross-entropy with as many restarts (PGD), the attack of most of the paper's tables and figures?
  Both look at the same images: McNemar's exact test, one-sided, at 5%.
- **overstated**: does a tool take images that the reported worst case calls right? Restarts, more
  iterations and a search for every class are more effort, and speak of this alone.

No tool should take an image from the worst case, nor a black box one from all attacks with
gradients; nor should images be right although the ball holds every image, or lie without a
gradient. Such a share is *about none* where its 95% Wilson interval reaches down to 1%. Either
answer "yes" is an alarm.
"""

from dataclasses import asdict

import torch
from torch import Tensor, nn

from ldatlib.attacks import NORMS, frozen
from ldatlib.errors import UserError
from ldatlib.evaluation.gate.entry import check, gated, said
from ldatlib.evaluation.masking import ball, landscape
from ldatlib.evaluation.masking.bench import Bench, Effort
from ldatlib.evaluation.masking.verdicts import TITLES, skipped
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.evaluation.robustness import share, to_bits


@gated
def examine(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    reported: Tensor,
    *,
    eps: float,
    norm: str,
    siblings: dict[str, nn.Module] | None = None,
    effort: Effort | None = None,
) -> dict:
    """All tests of one network in one norm, as a record for JSON.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits.
    reported : bool [N], the images right in the worst case that is to be judged.
    eps : in pixel units, above 0.
    siblings : networks of the same task, by name, on which images are crafted and then shown to
        ``model``. Without any, the transfer test is skipped.

    Returns
    -------
    ``tests``: a dictionary a test with ``test``, ``verdict`` ("alarm", "no alarm", "skipped"),
    ``misled`` and ``overstated`` (bool), ``reason`` and ``numbers``; ``alarms``: names of those
    that sound; ``right``: the images right under each attack on the ball itself, as bits;
    ``surface``, for the figure; ``self_checks``. Where no image is classified correctly, every
    test is skipped.

    Raises
    ------
    UserError : what the gate refuses (``docs/gate.md``), of siblings, too; a budget that is not
        positive, an unknown norm, or another number of verdicts than of images.
    """
    if not 0 < eps < float("inf"):
        raise UserError(f"masking is tested at an eps above 0, not {eps}")
    if norm not in NORMS:
        raise UserError(f"unknown norm {norm!r}; known: {', '.join(NORMS)}")
    reported = torch.as_tensor(reported)
    if len(reported) != len(x):
        raise UserError(f"{len(reported)} reported verdicts for {len(x)} images")
    siblings = {name: _checked(name, other, x, y) for name, other in (siblings or {}).items()}
    with frozen(model), torch.random.fork_rng():
        bench = Bench(model, x, y, eps, norm, effort or Effort())
        if not bench.clean.any():
            return _nothing_to_attack(bench)
        bench.pgd = bench.run("pgd", bench.library(Attack("pgd", norm, eps, bench.effort.steps)))
        reported = reported.to(x.device) & bench.clean
        bench.check_nothing()
        tests = [test(bench, reported) for test in ball.WHITE_BOX]
        white_box = torch.stack([reported, *bench.right.values()]).all(0)
        tests += [ball.square_test(bench, reported, white_box)]
        tests += [ball.transfer_test(bench, reported, white_box, siblings)]
        tests += [landscape.growing_eps_test(bench), landscape.rescaled_test(bench, reported)]
        tests += [landscape.gradients_test(bench)]
        surface, test = landscape.surface_test(bench)
        tests.append(test)
    return _header(bench) | {
        "pgd": share(bench.pgd),
        "reported": share(reported),
        "tests": tests,
        "alarms": [test["test"] for test in tests if test["verdict"] == "alarm"],
        "right": {name: to_bits(right) for name, right in bench.right.items()},
        "surface": surface,
        "self_checks": bench.checks,
    }


def _checked(name: str, sibling: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    try:
        return check(sibling, x, y).model
    except UserError as error:
        raise UserError(f"the sibling {name}: {error}") from None


def _header(bench: Bench) -> dict:
    return {
        "norm": bench.norm,
        "eps": bench.eps,
        "images": len(bench.x),
        "clean_accuracy": share(bench.clean),
        "effort": asdict(bench.effort),
        "gate": said(),
    }


def _nothing_to_attack(bench: Bench) -> dict:
    reason = "no image is classified correctly: there is nothing to attack"
    nothing = share(bench.clean)
    return _header(bench) | {
        "pgd": nothing,
        "reported": nothing,
        "tests": [skipped(name, reason) for name in TITLES],
        "alarms": [],
        "right": {},
        "surface": None,
        "self_checks": [],
    }
