"""What a page says of each picture: title, how to read it, and words in the picture's place.

Keys are the names under which the notebooks save them. What a picture of one run shows, with its
numbers, is written into its file (``look.caption``); what is said here holds for every run.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Described:
    """``caption``: how to read it, one or two sentences; ``alt``: what is drawn, for all runs."""

    title: str
    caption: str
    alt: str


FIGURES = {
    "fig1": Described(
        "Figure 1: decision regions in two dimensions",
        "Networks whose last layer has two features. Background: the predicted class. An attack "
        "succeeds where a red mark lies on another class's ground.",
        "Scatter of natural (blue) and attacked (red) features over the regions of each class, a "
        "panel a network.",
    ),
    "fig2": Described(
        "Figure 2: how far an attack moves the features",
        "Each line joins the two versions of an image. One distribution for both would mean short "
        "lines.",
        "The scatter of Figure 1 with a line from each natural feature to its attacked one.",
    ),
    "fig3": Described(
        "Figure 3: three attacks on a linear classifier",
        "PGD walks on behind the boundary, friendly PGD stops there, Algorithm 1 stays around it, "
        "within the grey band.",
        "Above the walk of each attack in the plane, below its signed distance to the boundary "
        "over the steps.",
    ),
    "fig4": Described(
        "Figure 4: accuracy under PGD against the budget",
        "Numbers are those at the budget of Table 1 (dashed), of as many images as the title says. "
        "With a budget large enough every curve has to reach 0: one that stays above says that the "
        "attack fails.",
        "Robust accuracy over the budget, on a logarithmic axis, a line a defence, a panel a norm.",
    ),
    "fig5": Described(
        "Figure 5: accuracy against iterations",
        "Of as many images as the title says. Flat at the right end: the attack has converged. "
        "Still falling: its column of Table 1 is too high.",
        "Robust accuracy over the iterations of PGD and of C&W, a line a defence.",
    ),
    "fig6": Described(
        "Figure 6: another attack in the place of Algorithm 1",
        "One LDAT trained against each attack. Compare within a norm: an advantage is one of "
        "Algorithm 1 only where norm and length of the examples are alike.",
        "Natural accuracy and accuracy under PGD of each training, dots with intervals, grouped "
        "by the norm of the attack in training.",
    ),
    "fig7": Described(
        "Figure 7: t-SNE of the features",
        "Neighbourhoods are those of the features; sizes and distances of the clusters are not.",
        "Features in two dimensions, natural images as dots, attacked ones as crosses, by class.",
    ),
    "fig8": Described(
        "Figure 8: scores of natural and attacked images",
        "A threshold rejects what lies left of its line. It helps where orange lies left of it "
        "and blue does not; the paper's 0.6 is a probability and has no place on a likelihood.",
        "Histograms of the largest posterior and of the log-likelihood, images right (blue) and "
        "wrong (orange), a panel a set, with the thresholds as lines.",
    ),
    "fig9": Described(
        "Figure 9: what a threshold buys and what it costs",
        "Shares of all images. Left of each panel is better in both parts: few clean images "
        "rejected, few wrong ones accepted. All networks: tables/fig9.csv.",
        "Clean rejection and robust error under rejection by attack, a dot a threshold, of LDAT "
        "and two rivals.",
    ),
    "gallery": Described(
        "One image under every attack",
        "Perturbations: red is brighter, blue darker, white unchanged; the largest of a row has "
        "the fullest colour. Red words: the attack succeeded.",
        "A test image, and for each attack and network the perturbation, the attacked image and "
        "what the network takes it for.",
    ),
    "training": Described(
        "How the trainings went",
        "Losses are different ones and have an axis each. Dotted: level lines limit a defence's "
        "perturbations; the others are LDAT's before projection.",
        "Training loss, validation accuracies, length of the perturbations, centroid distance and "
        "weight of the likelihood term over the epochs.",
    ),
    "transfer": Described(
        "Who fools whom",
        "Dashed: a network under its own images. Solid: the strongest images against a network. "
        "Where the two part, a gradient misleads.",
        "Matrix of accuracies: images crafted on the row's network, shown to the column's.",
    ),
    "surface": Described(
        "The loss around the images",
        "A step along the gradient has to raise the margin, a random one hardly. Two flat curves "
        "would be masking.",
        "Median margin along the gradient and along a random direction, with quantiles, a panel a "
        "network.",
    ),
    "growing_eps": Described(
        "Balls that grow until they hold every image",
        "A curve that stays above 0 at its right end is a plateau: the attack fails.",
        "Accuracy under PGD over doubling budgets, a line a network.",
    ),
    "scrutiny": Described(
        "What all attacks leave",
        "From what the paper measures (grey) to everything that was run (dark). The darkest bar "
        "is the number to quote.",
        "Accuracy left by ever more attacks, four bars a defence, a panel a norm.",
    ),
    "adaptive": Described(
        "What an attacker gets who knows the threshold",
        "Missed (left) means little without clean rejection (right): who rejects every clean "
        "image misses nothing.",
        "Wrong and accepted images under the strongest ordinary and the adaptive attack, and clean "
        "images rejected, a row a defence, by threshold.",
    ),
    "rejection": Described(
        "The detector at every threshold",
        "At the right end everything is accepted: a network without a detector. Bands: 95%.",
        "Robust accuracy with rejection, and error among the accepted, over the share of clean "
        "images accepted.",
    ),
    "threshold": Described(
        "One threshold",
        "What the explorer shows: the cut among the scores, and its point on the ROC.",
        "Histogram of a score with the threshold, and ROC of clean against attacked images.",
    ),
    "likelihood_epochs": Described(
        "The likelihood term over the epochs",
        "Distances between classes that fall with the spread within them: all of it shrinks.",
        "Validation accuracies and distances of features over the epochs, a line a setting.",
    ),
    "likelihood_model": Described(
        "The small model against the trainings",
        "Left: distance to the own centroid as the model expects it of separation and weight; on "
        "the line: as expected. Right: the lower a training, the less its classes are separated; "
        "in the grey region the model expects collapse.",
        "Distance to the own centroid, expected and measured; separation over the weight of the "
        "term.",
    ),
    "examined_honest": Described(
        "Examined: an honest network over the budget",
        "In balls that hold every image nothing is left: the attacks work.",
        "Images right under the attacks of an examination, over the budget.",
    ),
    "examined_rounded": Described(
        "Examined: rounded pixels over the budget",
        "Images stay right even in balls that hold every image: the attacks fail, not the images.",
        "Images right under the attacks of an examination, over the budget.",
    ),
    "examined_all": Described(
        "Examined: one attack against all",
        "A large gap between the bars is what masking looks like in a table.",
        "Two bars a model: images right under PGD alone, and under everything.",
    ),
}


def described(name: str) -> Described:
    """What ``FIGURES`` says of a picture by its file's name without ending, such as ``surface_l2``.

    A ``KeyError`` for one that no notebook saves.
    """
    return FIGURES[name.removesuffix("_linf").removesuffix("_l2")]
