"""What is wrong in the paper's own text, found while reading."""

from ldatlib.report import glossary, paper
from ldatlib.report.words import column_title

ERRATA = (
    'Section 4.1.1 gives CIFAR-10 "6,000 images" and 600 a class; it has 60,000 and 6,000.',
    'Eq. 12 lets λ grow, Section 4.1.2 lets it "decrease linearly to 0".',
    "Algorithm 1 takes unit gradient steps, Section 4.1.2 says Adam with learning rate 0.2; it "
    "returns θ where it means δ; its number of iterations is not given.",
    "Eq. 2 (PGD) starts at x, the sentence before it at a random point around it.",
    "Eq. 3 (C&W) has the floor -k on the wrong side: it silences the second term while the image "
    "is safely right, and never stops it once it is wrong; and the two maxima are nested the wrong "
    "way round. At δ = 0 its image is (x + 1) / 2 and not x: arctanh(x) should be arctanh(2x - 1).",
    "The footnotes of Tables 4 and 5 contradict the text: rows near natural accuracy are those of "
    "the undefended surrogate.",
    "95.02 stands both for LDAT with β = 0 (Table 3) and for the ResNet-50 surrogate "
    "(Section 4.2.3).",
    'The "more complicated" surrogate of Table 5 is the defence\'s own architecture.',
    "DDN is announced in Section 4.2.2 and is in no table.",
)


def of_table1() -> list[str]:
    """Columns of the paper's Table 1 that LDAT does not lead, whatever Section 4.2.2 says."""
    printed = paper.table(1).set_index("defence")
    return [
        f'"Best robustness against all types of attacks" (Section 4.2.2) is not what Table 1 says: '
        f"{column_title(str(key))} {printed[key][best]:.2f} for {glossary.defence(best)}, "
        f"{printed[key]['ldat']:.2f} for LDAT."
        for key, best in printed.idxmax().items()
        if best != "ldat"
    ]
