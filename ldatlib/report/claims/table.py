"""The paper's claims, and ours beside them: what each says, what this run saw, and a verdict."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pandas as pd

from ldatlib.report import paper
from ldatlib.report.claims import ablations, black_box, detector, features, training, white_box
from ldatlib.report.claims.evidence import Evidence, NoRecord
from ldatlib.report.claims.rules import Seen
from ldatlib.study.run import Run

COLLAPSED = "cannot tell: collapsed"


@dataclass(frozen=True)
class Claim:
    """What the paper says in our words, how records are asked about it, the notebook that does.

    Of a network that guesses nothing can be said, but that it guesses: ``of_collapse`` marks the
    claim that is about it. ``extension``: the paper does not say it; we ask it beside its claims.
    """

    section: str
    text: str
    observe: Callable[[Evidence], Seen]
    notebook: str
    of_collapse: bool = False
    extension: bool = False

    @property
    def shown(self) -> str:
        """Its text, marked where it is not the paper's."""
        return f"(ours) {self.text}" if self.extension else self.text


CLAIMS = (
    Claim(
        "4.2.2",
        "the best robustness against all types of attacks",
        white_box.best_against_all_attacks,
        "03",
    ),
    Claim(
        "4.2.2",
        "the best robustness, AutoAttack and notebook 09 included",
        white_box.best_under_everything,
        "09",
        extension=True,
    ),
    Claim(
        "4.2.2", "LDAT has the highest natural accuracy", white_box.highest_natural_accuracy, "03"
    ),
    Claim(
        "4.2.2",
        "a significant advantage against DeepFool",
        white_box.advantage_against_deepfool,
        "03",
    ),
    Claim(
        "4.2.2",
        "LDAT is more effective under the L2 threat model",
        white_box.more_effective_under_l2,
        "03",
    ),
    Claim(
        "4.3",
        "accuracy falls significantly less as the budget grows",
        white_box.slower_decrease_over_budgets,
        "03",
    ),
    Claim(
        "4.3",
        "LDAT keeps its advantage as iterations grow",
        white_box.advantage_over_iterations,
        "03",
    ),
    Claim(
        "3.2",
        "the perturbation grows with the model's robustness",
        training.growing_perturbation,
        "02",
    ),
    Claim(
        "3.3",
        "growing lambda does not cost the ability to classify",
        training.still_classifies,
        "02",
        of_collapse=True,
    ),
    Claim(
        "4.2.2",
        "more beta: less natural, more robust accuracy (Table 3)",
        ablations.beta_trades_off,
        "05",
    ),
    Claim(
        "4.2.2",
        "above beta 0.5 robustness hardly improves (Table 3)",
        ablations.beta_saturates,
        "05",
    ),
    Claim(
        "4.2.3",
        "LDAT outperforms the other baselines in the black box",
        black_box.best_in_the_black_box,
        "04",
    ),
    Claim(
        "4.2.3",
        "undefended surrogate: accuracy approaches the natural one",
        black_box.undefended_surrogate_is_weak,
        "04",
    ),
    Claim(
        "4.2.3",
        "examples of a defended surrogate transfer far better",
        black_box.defended_surrogate_is_strong,
        "04",
    ),
    Claim(
        "4.4",
        "with PGD instead of Algorithm 1 robustness decreases",
        ablations.algorithm1_is_better,
        "05",
    ),
    Claim(
        "4.5", "LDAT's features are better clustered than TRADES's", features.better_clustered, "06"
    ),
    Claim(
        "1, 5",
        "natural and adversarial features follow one distribution (told apart less than TRADES's)",
        features.same_distribution,
        "06",
    ),
    Claim(
        "3",
        "natural features are closer to the centroid",
        features.natural_features_are_closer,
        "06",
    ),
    Claim(
        "4.6",
        "a threshold of 0.6 has almost no effect on natural images",
        detector.spares_natural_images,
        "08",
    ),
    Claim(
        "4.6",
        "successful C&W and FAB examples have low confidence",
        detector.successes_have_low_confidence,
        "07",
    ),
    Claim(
        "4.6",
        "the threshold helps against C&W and FAB, not against PGD",
        detector.helps_against_the_near,
        "08",
    ),
    Claim(
        "4.6",
        "the threshold helps (against an attack that knows it)",
        detector.helps_against_the_adaptive,
        "09",
        extension=True,
    ),
    Claim(
        "Table 1",
        "an oddity: accuracy under APGD is above that under PGD",
        white_box.apgd_above_pgd,
        "03",
        extension=True,
    ),
)


@dataclass(frozen=True)
class Judged:
    """A claim, what a run saw of it, and the verdict: in words, and as one of ``OUTCOMES``."""

    claim: Claim
    seen: Seen
    verdict: str
    outcome: str


# Every verdict is one of these; the last where the run has no record of what a claim asks for.
OUTCOMES = ("holds", "does not hold", "cannot tell", "not run")


def judged(run: Run, ldat: str = "ldat") -> list[Judged]:
    """Each claim of the paper as this run saw it; ``ldat``: the defence that they are put to.

    The paper's claims are about CIFAR: on other data a verdict speaks of what is so "here", with a
    smaller network, fewer images or epochs than the paper's "at this scale".
    """
    scale = _scale(run) if paper.is_papers_data(run.dataset) else " here"
    return _judged(run, ldat, scale, CLAIMS)


def _judged(run: Run, ldat: str, scale: str, asked: Iterable[Claim]) -> list[Judged]:
    evidence, found = Evidence(run, ldat), []
    for claim in asked:
        seen = observe(claim, evidence)
        said = judgement(claim, evidence, seen, scale)
        outcome = {True: "holds", False: "does not hold", None: "cannot tell"}[seen.holds]
        found.append(Judged(claim, seen, said, "not run" if seen.missing else outcome))
    return found


def claims(run: Run, ldat: str = "ldat") -> pd.DataFrame:
    """Each claim of the paper with what this run saw and a verdict.

    ``ldat``: the defence that the claims are put to, as written unless said.

    ``rules`` says when a claim holds. Each ``p`` in what was seen is corrected (Holm) for the
    comparisons of its claim. ``judged`` says how far a verdict reaches.
    """
    return pd.DataFrame(
        {
            "section": found.claim.section,
            "claim, in our words": found.claim.shown,
            "seen here": found.seen.text,
            "same here?": COLLAPSED if found.verdict == COLLAPSED else same_here(found.seen),
            "verdict": found.verdict,
        }
        for found in judged(run, ldat)
    )


def sentences(run: Run, notebook: str, ldat: str | None = None) -> list[str]:
    """What a run says to the claims that a notebook (``"03"``) is about, a paragraph each.

    ``ldat``: the profile's base unless said.
    """
    scale = _scale(run) if paper.is_papers_data(run.dataset) else f" on {run.dataset.title}"
    asked = [claim for claim in CLAIMS if claim.notebook == notebook]
    return [
        f"{_whose(found.claim)}: {found.claim.text}. Verdict: {found.verdict}. {found.seen.text}"
        for found in _judged(run, ldat or run.profile.base, scale, asked)
    ]


def _whose(claim: Claim) -> str:
    whose = "Ours, beside the paper" if claim.extension else "The paper in our words"
    return f"{whose} ({claim.section})"


def _scale(run: Run) -> str:
    images = len(run.dataset.labels["train"])
    whole = paper.is_papers_scale(run.trainings()[0].config, images)
    return "" if whole else " at this scale"


def judgement(claim: Claim, evidence: Evidence, seen: Seen, scale: str) -> str:
    """The verdict in words; ``scale``: what it is limited to, with a space before."""
    if evidence.at_chance and not claim.of_collapse:
        return COLLAPSED
    if seen.holds is None:
        return f"cannot tell{scale}"
    scope = f", {seen.scope}" if seen.scope else ""
    return f"{'holds' if seen.holds else 'does not hold'} for {seen.of}{scale}{scope}"


def observe(claim: Claim, evidence: Evidence) -> Seen:
    """What was seen; of a network that guesses, and without the records, nothing is told."""
    try:
        seen = claim.observe(evidence)
    except NoRecord as missing:
        text = f"needs records that this run does not have: {missing}"
        return Seen(None, text, missing=True)
    if evidence.at_chance and not claim.of_collapse:
        return replace(seen, holds=None, text=f"{evidence.title} only guesses; {seen.text}")
    return seen


def same_here(seen: Seen) -> str:
    """In a word, and how far it reaches."""
    if seen.holds is None:
        return "cannot tell"
    word = "yes" if seen.holds else "no"
    return f"{word}, {seen.scope}" if seen.scope else word
