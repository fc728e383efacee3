"""The paper's claims as rows: what each says, what this run saw of it, and a verdict."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from ldatlib.report import paper
from ldatlib.report.claims import ablations, black_box, detector, features, training, white_box
from ldatlib.report.claims.evidence import Evidence, NoRecord, Seen
from ldatlib.study.run import Run


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and how a run's records are asked about it."""

    section: str
    text: str
    observe: Callable[[Evidence], Seen]


CLAIMS = (
    Claim(
        "4.2.2",
        "the best robustness against all types of attacks",
        white_box.best_against_all_attacks,
    ),
    Claim(
        "4.2.2", "the same, AutoAttack and notebook 09 included", white_box.best_under_everything
    ),
    Claim("4.2.2", "LDAT has the highest natural accuracy", white_box.highest_natural_accuracy),
    Claim(
        "4.2.2", "a significant advantage against DeepFool", white_box.advantage_against_deepfool
    ),
    Claim(
        "4.2.2",
        "LDAT is more effective under the L2 threat model",
        white_box.more_effective_under_l2,
    ),
    Claim(
        "4.3",
        "accuracy falls significantly less as the budget grows",
        white_box.slower_decrease_over_budgets,
    ),
    Claim(
        "4.3", "LDAT keeps its advantage as iterations grow", white_box.advantage_over_iterations
    ),
    Claim(
        "3.2", "the perturbation grows with the model's robustness", training.growing_perturbation
    ),
    Claim("3.3", "growing lambda does not cost the ability to classify", training.still_classifies),
    Claim(
        "4.2.2",
        "more beta: less natural, more robust accuracy (Table 3)",
        ablations.beta_trades_off,
    ),
    Claim("4.2.2", "above beta 0.5 robustness hardly improves (Table 3)", ablations.beta_saturates),
    Claim(
        "4.2.3",
        "LDAT outperforms the other baselines in the black box",
        black_box.best_in_the_black_box,
    ),
    Claim(
        "4.2.3",
        "undefended surrogate: accuracy approaches the natural one",
        black_box.undefended_surrogate_is_weak,
    ),
    Claim(
        "4.2.3",
        "examples of a defended surrogate transfer far better",
        black_box.defended_surrogate_is_strong,
    ),
    Claim(
        "4.4",
        "with PGD instead of Algorithm 1 robustness decreases",
        ablations.algorithm1_is_better,
    ),
    Claim("4.5", "LDAT's features are better clustered than TRADES's", features.better_clustered),
    Claim(
        "1, 5",
        "natural and adversarial features follow one distribution",
        features.same_distribution,
    ),
    Claim("3", "natural features are closer to the centroid", features.natural_features_are_closer),
    Claim(
        "4.6",
        "a threshold of 0.6 has almost no effect on natural images",
        detector.spares_natural_images,
    ),
    Claim(
        "4.6",
        "successful C&W and FAB examples have low confidence",
        detector.successes_have_low_confidence,
    ),
    Claim(
        "4.6",
        "the threshold helps against C&W and FAB, not against PGD",
        detector.helps_against_the_near,
    ),
    Claim(
        "4.6",
        "the threshold helps (against an attack that knows it)",
        detector.helps_against_the_adaptive,
    ),
    Claim(
        "Table 1", "(oddity) accuracy under APGD is above that under PGD", white_box.apgd_above_pgd
    ),
)


def claims(run: Run, ldat: str = "ldat") -> pd.DataFrame:
    """Each claim of the paper with what this run saw and a verdict.

    ``ldat``: the defence that the claims are put to, as written unless said.

    The paper's claims are about CIFAR; on other data the verdict is "not tested on the paper's
    data" and the observation stands beside it. With a smaller network, fewer images or epochs than
    the paper's it speaks of this scale.
    """
    evidence = Evidence(run, ldat)
    paper_data = paper.is_papers_data(run.dataset)
    images = len(run.dataset.labels["train"])
    whole = paper.is_papers_scale(run.trainings()[0].config, images)
    scale = "" if whole else " at this scale"
    rows = []
    for claim in CLAIMS:
        try:
            holds, text = claim.observe(evidence)
        except NoRecord:
            holds, text = None, "needs records that this run does not have"
        if evidence.at_chance and holds:
            holds, text = None, f"{evidence.title} classifies no better than chance; {text}"
        seen = {True: "yes", False: "no", None: "cannot tell"}[holds]
        verdict = {True: "holds", False: "does not hold", None: "cannot tell"}[holds] + scale
        rows.append(
            {
                "section": claim.section,
                "the paper says": claim.text,
                "seen here": text,
                "same here?": seen,
                "verdict": verdict if paper_data else "not tested on the paper's data",
            }
        )
    return pd.DataFrame(rows)
