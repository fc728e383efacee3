"""The paper's tables as data: their shape, and what the paper itself says about the numbers."""

import pandas as pd
import pytest

from ldatlib.report import paper

PAPER = paper.FOLDER
DEFENCES = ["standard", "trades", "mart", "lbgat", "ldat"]
WHITE_BOX = [
    "natural",
    *("linf_pgd", "linf_apgd", "linf_fab", "linf_deepfool"),
    *("l2_pgd", "l2_apgd", "l2_fab", "l2_cw", "l2_deepfool"),
]
TRANSFER = ["fgsm", "mi_fgsm", "pgd"]


def table(number: int) -> pd.DataFrame:
    return pd.read_csv(PAPER / f"table{number}.csv")


@pytest.mark.parametrize(
    ("number", "columns", "rows"),
    [
        (1, ["defence", *WHITE_BOX], 5),
        (2, ["defence", *WHITE_BOX], 5),
        (3, ["beta", "natural", "robust"], 5),
        (4, ["footnote", "surrogate_as_printed", "surrogate_as_text", "defence", *TRANSFER], 8),
        (5, ["footnote", "surrogate_as_printed", "surrogate_as_text", "defence", *TRANSFER], 8),
    ],
)
def test_shape(number, columns, rows):
    found = table(number)
    assert list(found.columns) == columns
    assert len(found) == rows
    assert found.notna().all(axis=None)


@pytest.mark.parametrize("number", range(1, 6))
def test_accuracies_are_percentages(number):
    words = ["defence", "beta", "footnote", "surrogate_as_printed", "surrogate_as_text"]
    accuracies = table(number).drop(columns=words, errors="ignore")
    assert all(pd.api.types.is_numeric_dtype(kind) for kind in accuracies.dtypes)
    assert accuracies.ge(0).all(axis=None) and accuracies.le(100).all(axis=None)


@pytest.mark.parametrize(
    ("number", "led_by_lbgat"),
    [(1, {"linf_fab"}), (2, {"linf_pgd", "linf_fab", "l2_pgd"})],
)
def test_best_of_each_column_is_the_one_in_bold(number, led_by_lbgat):
    found = table(number).set_index("defence")
    assert list(found.index) == DEFENCES
    expected = {column: "lbgat" if column in led_by_lbgat else "ldat" for column in WHITE_BOX}
    assert found.idxmax().to_dict() == expected


@pytest.mark.parametrize("number", [1, 2])
def test_no_attack_raises_the_accuracy(number):
    found = table(number).set_index("defence")
    assert found.drop(columns="natural").lt(found["natural"], axis=0).all(axis=None)


def test_beta_trades_natural_for_robust_accuracy():
    found = table(3)
    assert found["beta"].tolist() == [0, 0.2, 0.5, 0.8, 1]
    assert found["natural"].is_monotonic_decreasing and found["natural"].is_unique
    assert found["robust"].is_monotonic_increasing and found["robust"].is_unique
    assert found["robust"].iloc[0] == 0


def test_beta_of_one_half_is_the_model_of_table_1():
    chosen = table(3).set_index("beta").loc[0.5]
    ldat = table(1).set_index("defence").loc["ldat"]
    assert chosen["natural"] == ldat["natural"]
    assert chosen["robust"] == ldat["linf_pgd"]


@pytest.mark.parametrize("number", [4, 5])
def test_ldat_leads_on_both_surrogates(number):
    for _, group in table(number).groupby("footnote"):
        assert group["defence"].tolist() == DEFENCES[1:]
        best = group.set_index("defence")[TRANSFER].idxmax()
        assert best.eq("ldat").all()


@pytest.mark.parametrize(("number", "white_box"), [(4, 1), (5, 2)])
def test_footnotes_contradict_the_text(number, white_box):
    """The text: near natural accuracy means an undefended surrogate. The footnotes swap the two."""
    found = table(number)
    swapped = {"defended": "undefended", "undefended": "defended"}
    assert found["surrogate_as_printed"].map(swapped).eq(found["surrogate_as_text"]).all()
    printed = found.groupby("footnote")["surrogate_as_printed"].unique().str.join(" ").to_dict()
    assert printed == {1: "defended", 2: "undefended"}

    natural = found["defence"].map(table(white_box).set_index("defence")["natural"])
    lost = found[TRANSFER].rsub(natural, axis=0)
    undefended = found["surrogate_as_text"].eq("undefended")
    assert lost[undefended].gt(0).all(axis=None) and lost[undefended].lt(4).all(axis=None)
    assert lost[~undefended].gt(14).all(axis=None)


def test_a_hundred_classes_stand_beside_cifar_100():
    ten, hundred = paper.counterparts(10), paper.counterparts(100)
    assert (ten.white_box, ten.black_box, ten.data) == (1, 4, "CIFAR-10")
    assert (hundred.white_box, hundred.black_box, hundred.data) == (2, 5, "CIFAR-100")
    assert len(paper.table(2)) == 5 and "surrogate_as_text" in paper.table(5)
