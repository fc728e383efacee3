"""What a classifier that may refuse is worth, as the field reports it, over all thresholds.

A detector's threshold is a choice; the curve over the share of clean images that it accepts is
not. At every threshold, of all test images:

- *robust with rejection*: accepted and right when clean, and no image of its ball is wrong and
  accepted (Stutz et al. 2020; Pang et al. 2022). With a fraction a of the budget, besides: no
  image within a * eps is refused, or wrong (Chen et al. 2023, "Stratified adversarial robustness
  with rejection": a small perturbation that gets a right image refused is a fault, too);
- *robust error among the accepted*: of the images that are accepted where the attacker shows the
  one that is missed, or else the clean one, the share that is wrong.

Both follow from three numbers an image: its clean score, the highest score of a wrong image in its
ball, and the lowest of a right one in each smaller ball.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldatlib.evaluation import detection
from ldatlib.evaluation.adaptive import Missed, adaptive_attack
from ldatlib.evaluation.detection import Score
from ldatlib.evaluation.extreme_scores import highest_score, lowest_score
from ldatlib.evaluation.gate.entry import check, gated, said
from ldatlib.evaluation.joint import UNIT, Scale, differentiable, scale_of
from ldatlib.evaluation.random_score import fresh_looks
from ldatlib.evaluation.robustness import share, to_bits

# Of the budget: within these a right image must not be refused.
FRACTIONS = (0.25, 0.5, 1.0)
# Shares of the right validation images that a threshold accepts; 1: everything is accepted.
ACCEPTANCES = (*(round(0.05 * k, 2) for k in range(1, 20)), 0.99, 1.0)

# Scores [N], in float64, and whether the image is right [N].
Judged = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Attacked:
    """What was found: ``at`` each threshold, ``highest`` [N, ...], ``lowest`` by fraction."""

    at: list[Missed]
    highest: Tensor
    lowest: dict[float, Tensor]


@dataclass(frozen=True)
class Point:
    """One threshold. Shares as ``robustness.share`` has them.

    ``acceptance``: of the right validation images; ``clean_acceptance``: of the right test images.
    ``robust`` by fraction of the budget (``"0"``: clean, ``"0.25"``, ...), of all;
    ``threshold`` is None where everything is accepted, ``error_among_accepted`` where nothing is.
    """

    acceptance: float
    threshold: float | None
    clean_acceptance: dict
    robust: dict[str, dict]
    error_among_accepted: dict | None


def curve(
    val: Judged,
    clean: Judged,
    highest: Judged,
    lowest: Mapping[float, Judged],
    acceptances: Sequence[float] = ACCEPTANCES,
) -> list[Point]:
    """Every point of the curve; thresholds are frozen on validation images.

    Parameters
    ----------
    val, clean : scores and verdicts of validation and test images.
    highest : of the wrong image of the highest score in each test image's ball; right where none
        was found.
    lowest : by fraction of the budget, of the least sure image, or a wrong one.
    acceptances : in (0, 1]; at 1 everything is accepted.

    Raises
    ------
    UserError : no right validation image, or shares out of range.
    """
    scores, right = clean
    points = []
    for accept in acceptances:
        threshold = None if accept == 1 else detection.freeze_threshold(*val, accept)
        cut = float("-inf") if threshold is None else threshold
        good = right & (scores >= cut)
        missed = ~highest[1] & (highest[0] >= cut)
        robust = {"0": good & ~missed}
        for fraction, (values, still) in sorted(lowest.items()):
            robust[f"{fraction:g}"] = robust["0"] & still & (values >= cut)
        accepted = good | missed
        of_right = good[right]
        points.append(
            Point(
                accept,
                threshold,
                share(of_right) if len(of_right) else share(good),
                {fraction: share(kept) for fraction, kept in robust.items()},
                share(missed[accepted]) if accepted.any() else None,
            )
        )
    return points


@gated
def attack_detector(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    score: Score,
    thresholds: Sequence[float],
    eps: float,
    norm: str,
    scale: Scale = UNIT,
    given: Sequence[Tensor] = (),
    num_steps: int = 40,
    restarts: int = 1,
    queries: int = 1000,
    batch_size: int = 128,
    seed: int = 0,
) -> Attacked:
    """All attacks on one score: at every threshold, for the highest score, and for the lowest.

    Parameters are those of ``adaptive_attack``. Each begins at what those before it have found.
    """
    attack: dict[str, Any] = {"score": score, "norm": norm, "scale": scale, "num_steps": num_steps}
    attack |= {"queries": queries, "batch_size": batch_size, "seed": seed}
    at = adaptive_attack(
        model, x, y, thresholds=thresholds, eps=eps, given=given, restarts=restarts, **attack
    )
    known = [*given, *(found.images for found in at)]
    highest = highest_score(model, x, y, eps=eps, given=known, **attack)
    lowest: dict[float, Tensor] = {}
    for fraction in FRACTIONS:
        within = list(lowest.values()) + ([*known, highest] if fraction == 1 else [])
        lowest[fraction] = lowest_score(model, x, y, eps=fraction * eps, given=within, **attack)
    return Attacked(at, highest, lowest)


@gated
def reject(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    x_val: Tensor,
    y_val: Tensor,
    *,
    score: Score,
    eps: float,
    norm: str,
    given: Sequence[Tensor] = (),
    accept: Sequence[float] = (0.95, 0.99),
    num_steps: int = 40,
    restarts: int = 1,
    queries: int = 1000,
    batch_size: int = 128,
    seed: int = 0,
) -> dict:
    """The whole of it for any network and any score, as a record for JSON.

    Parameters
    ----------
    model : images [N, C, H, W] in [0,1] -> logits.
    x, y : test images and classes; ``x_val``, ``y_val`` validation ones, on which thresholds are
        frozen, and margin and score scaled.
    score : ``"posterior"``, ``"log_likelihood"``, or a function of model and images [n, ...] to
        [n], greater where it is surer. Without a gradient it is attacked by Square: the record
        says so (``differentiable``).
    given : what ordinary attacks have found in the same ball, each like ``x``.
    accept : shares of the right validation images, in (0, 1), each with a threshold of its own.

    Returns
    -------
    ``differentiable``, ``scale``, ``thresholds`` (``accept_95`` and ``accept_99`` unless said
    otherwise), ``missed`` at each, ``images`` at each (a digit an image: ``clean_accepted``;
    ``fooled``, a wrong image was found in the ball; ``missed``, one that is accepted), ``auc``
    (clean right images against wrong ones of the highest score; None without any), ``curve``, a
    dictionary a point, and ``gate``, what was said before.

    Raises
    ------
    UserError : for what the gate refuses (``docs/gate.md``), and as ``adaptive_attack``,
        ``scale_of`` and ``curve``.
    """
    checked = check(model, x_val, y_val)
    assert checked.y is not None  # there are labels
    x_val, y_val = checked.x, checked.y
    scale = scale_of(model, x_val, y_val, score)
    val = judge(model, x_val, y_val, score)
    cuts = {f"accept_{100 * a:g}": detection.freeze_threshold(*val, a) for a in accept}
    attack: dict[str, Any] = {"eps": eps, "norm": norm, "scale": scale, "num_steps": num_steps}
    attack |= {"given": given}
    attack |= {"restarts": restarts, "queries": queries, "batch_size": batch_size, "seed": seed}
    found = attack_detector(model, x, y, score=score, thresholds=list(cuts.values()), **attack)
    acceptances = sorted({*ACCEPTANCES, *accept})
    clean, highest = judge(model, x, y, score), judge(model, found.highest, y, score)
    lowest = {f: judge(model, images, y, score) for f, images in found.lowest.items()}
    missed, images = {}, {}
    for (name, cut), of_cut in zip(cuts.items(), found.at, strict=True):
        values, right = judge(model, of_cut.images, y, score)
        passed = (~right & (values >= cut)) | (~highest[1] & (highest[0] >= cut))
        missed[name] = share(passed)
        images[name] = {
            "clean_accepted": to_bits(clean[0] >= cut),
            "fooled": to_bits(~right | ~highest[1]),
            "missed": to_bits(passed),
        }
    return {
        "differentiable": differentiable(model, x, score),
        "scale": asdict(scale),
        "thresholds": cuts,
        "missed": missed,
        "images": images,
        "auc": detection.roc(clean[0][clean[1]], highest[0][clean[1] & ~highest[1]])["auc"],
        "curve": [asdict(point) for point in curve(val, clean, highest, lowest, acceptances)],
        "gate": said(),
    }


def judge(model: nn.Module, x: Tensor, y: Tensor, score: Score) -> Judged:
    """Scores, to six digits as records hold them, and whether the image is right; on the CPU."""
    looks = [
        detection.score_images(model, x, score, attacked=True) for _ in range(fresh_looks(score))
    ]
    values, predicted = torch.stack([values for values, _ in looks]).mean(0), looks[0][1]
    return (values.double().cpu() * 1e6).round() / 1e6, (predicted == y).cpu()
