"""The words of tables, figures and pages: each term's title and what it means.

Everything that is shown to a reader takes its words from here; ``docs/glossary.md`` is made from
it. Keys are the names of columns in tables of numbers, where there is such a column.
"""

from dataclasses import dataclass

from ldatlib.defences import TITLES
from ldatlib.evaluation.detection import SCORES


@dataclass(frozen=True)
class Term:
    """``title`` as it is shown, ``meaning`` in a sentence or two."""

    title: str
    meaning: str


NETWORKS = {
    "training": Term(
        "training",
        "One network and how it came about: a defence, its settings, a seed. Its label, such as "
        "`ldat-s0`, names it in commands and files.",
    ),
    "defence": Term("defence", "What a training trains against, and the loss it minimises."),
    "natural": Term(
        TITLES["natural"], 'Trained on natural images alone, without a defence: "natural".'
    ),
    "standard": Term(
        TITLES["standard"],
        "Adversarial training (Madry et al. 2018): cross-entropy on the images of PGD. The paper "
        'calls it "Standard".',
    ),
    "ldat": Term(TITLES["ldat"], "The paper's defence as written, lambda growing to 1 (Eq. 12)."),
    "ldat_chosen": Term(
        TITLES["ldat_chosen"],
        "The same with a likelihood term a hundred times smaller, as validation images chose it.",
    ),
    "base": Term("base", "The LDAT of a profile that ablations change one thing of."),
    "surrogate": Term(
        "surrogate",
        "The attacker's own network in the black box: images are crafted on it and shown to a "
        "defence. *Undefended* or *defended*.",
    ),
    "sibling": Term(
        "sibling", "Another network of the same task, as an attacker without access could train it."
    ),
}
ATTACKS = {
    "budget": Term(
        "budget",
        "How far an attack may move an image, `eps`, in pixel units of images in [0,1]; measured "
        "by the largest change of a pixel (L-inf) or the Euclidean length (L2).",
    ),
    "table1_attacks": Term(
        "Table 1's attacks",
        "PGD, APGD-DLR, FAB and DeepFool in both norms; C&W and DDN in L2. DDN the paper "
        "announces and leaves out.",
    ),
    "autoattack": Term(
        "AutoAttack",
        "Croce and Hein's ensemble of four attacks with settings that nobody tunes.",
    ),
    "search": Term(
        "search from larger balls",
        "Ascent on the margin that begins in a ball of three budgets and ends in the ball itself, "
        "in many restarts. *Converged*: the last restart found nothing new.",
    ),
    "all_attacks": Term(
        "all attacks",
        "Table 1's attacks, the search from larger balls, AutoAttack and every attack of notebook "
        "09. AutoAttack and the tests for masking see the first images alone; an image counts as "
        "not fooled by an attack that it was not shown to.",
    ),
    "ordinary": Term(
        "ordinary attack",
        "One of Table 1's attacks: it wants a wrong class and knows no threshold.",
    ),
    "adaptive": Term(
        "adaptive attack",
        "It knows the threshold, and wants an image that is wrong *and* accepted.",
    ),
}
ACCURACIES = {
    "natural_accuracy": Term("natural accuracy", "Share of test images right without an attack."),
    "robust_accuracy": Term(
        "robust accuracy",
        "Share of *all* test images still right under an attack. Images that are wrong without "
        "one are not attacked and count as wrong.",
    ),
    "worst_case": Term(
        "worst case",
        "Share of images right under *every* attack of a norm, image by image: what an attacker "
        "leaves who tries them all.",
    ),
    "strongest": Term(
        "strongest of Table 1's attacks", "The one of them that leaves the fewest images right."
    ),
    "table1_worst_case": Term(
        "worst case of Table 1's attacks", "What the paper's own evaluation would report."
    ),
    "searched": Term(
        "worst case with the search", "Right under Table 1's attacks and the search, too."
    ),
    "all_worst_case": Term(
        "worst case of all attacks", "The lowest number known: the one to quote."
    ),
    "gap": Term(
        "gap",
        "Worst case of Table 1's attacks less that of all attacks, in points; *overstated* where "
        "the 95% interval of the share of images that fall in between begins above 1%.",
    ),
}
DETECTOR = {
    "threshold": Term(
        "threshold",
        "Images that score below it are rejected. *Frozen* ones accept 95% or 99% of the clean "
        "validation images that are right; 0.6 is the paper's.",
    ),
    "posterior": Term(
        SCORES["posterior"], "The network's confidence in its class: a score, in [1/C, 1]."
    ),
    "log_likelihood": Term(
        SCORES["log_likelihood"],
        "How likely the feature is under the Gaussian mixture: a score, in nats; only LDAT has it.",
    ),
    "clean_rejection": Term("clean rejection", "Share of all natural images that are rejected."),
    "missed": Term(
        "missed",
        "Wrong and accepted: the attack got through. Of an adaptive attack: what it or an ordinary "
        "attack gets.",
    ),
    "robust_error_under_rejection": Term(
        "robust error under rejection", "Share of all images that are missed."
    ),
    "defence_success": Term(
        "defence success",
        "The paper's rate: (rejected and wrong + accepted and right) / all images. High for a "
        "detector that rejects everything.",
    ),
    "detection_robust": Term(
        "robust with rejection",
        "Right and accepted when clean, and not missed under attack. It rewards refusing: an "
        "attacked image that is refused counts as kept. With a fraction of the budget: nor "
        "refused, or wrong, within so small a ball.",
    ),
    "clean_acceptance": Term(
        "clean acceptance", "Share of the clean images that are right which is accepted."
    ),
    "error_among_accepted": Term(
        "robust error among the accepted",
        "Of the images accepted where the attacker shows the one that is missed, or else the clean "
        "one, the share that is wrong.",
    ),
    "half_budget": Term(
        "classification at eps/2",
        "Robust accuracy without a detector at half the budget. A detector above that of the best "
        "network is a *hint* that its attack is weak: it would give a classifier of that "
        "robustness (Tramer 2022), though another one, and not in reasonable time.",
    ),
    "auc": Term(
        "AUC",
        "Area under the ROC of clean right images against successful adversarial ones; 0.5 is a "
        "coin, below it the score points the wrong way. *Adaptive*: against wrong images of the "
        "highest score that an attack could give them.",
    ),
    "exploratory": Term(
        "exploratory", "Of a threshold: chosen while looking at test images, so no measurement."
    ),
}
DOUBTS = {
    "self_check": Term(
        "self-check",
        "What must hold whatever was measured, such as a budget of 0 giving the natural accuracy.",
    ),
    "masking": Term(
        "gradient masking",
        "Gradients that lead nowhere, so that attacks fail and nothing is robust.",
    ),
    "misled": Term(
        "misled",
        "A tool of no more effort, or of less knowledge, leaves over five points fewer images "
        "right than PGD with the cross-entropy (and McNemar's test on the same images agrees, 5% "
        "over six tests), or a black box takes images that no attack with gradients got. That is "
        "masking.",
    ),
    "stuck": Term(
        "stuck",
        "Starts from larger balls leave over five points fewer images right than starts in the "
        "ball: a search from there stays at local maxima. That is no masking.",
    ),
    "overstated": Term(
        "overstated",
        "Some tool takes images that the reported worst case calls right: the 95% interval of "
        "their share begins above 1%. The reported number is too high.",
    ),
    "interval": Term(
        "± or interval",
        "95% Wilson interval of a share of test images; ± is half of it. Over seeds: the standard "
        "deviation over trainings with different seeds.",
    ),
}
SECTIONS = {
    "Networks": NETWORKS,
    "Attacks": ATTACKS,
    "What is counted": ACCURACIES,
    "The detector": DETECTOR,
    "Doubts": DOUBTS,
}
TERMS = {key: term for section in SECTIONS.values() for key, term in section.items()}


def title(key: str) -> str:
    """The words for a term; an unknown one is a ``KeyError``."""
    return TERMS[key].title


def defence(name: str) -> str:
    """The title of a defence; of one that is not registered here its name."""
    return TITLES.get(name, name)


def page() -> str:
    """``docs/glossary.md``."""
    lines = [
        "# Glossary: the words of tables, figures and pages",
        "",
        "<!-- Made by tools/reference.py from ldatlib/report/glossary.py: change it there. -->",
    ]
    for name, terms in SECTIONS.items():
        lines += ["", f"## {name}", ""]
        lines += [f"- **{term.title}**: {term.meaning}" for term in terms.values()]
    return "\n".join(lines) + "\n"
