"""What is wrong in the paper's own text, found while reading."""

from ldatlib.report import glossary, paper
from ldatlib.report.words import column_title

ERRATA = (
    'Section 4.1.1 gives CIFAR-10 "6,000 images" and 600 a class; it has 60,000 and 6,000.',
    'Eq. 12 lets λ grow, Section 4.1.2 lets it "decrease linearly to 0".',
    "Algorithm 1 takes unit gradient steps, Section 4.1.2 says Adam with learning rate 0.2; it "
    "returns θ where it means δ; its number of iterations is not given.",
    "Eq. 3 (C&W) has the sign of the second term and the nesting of the maxima wrong.",
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
