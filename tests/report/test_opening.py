"""What stands first in a notebook, on what is published and where there is nothing to say."""

import re
from types import SimpleNamespace

import pytest

from ldatlib.report import claims, opening, tables
from ldatlib.report.comparisons import right_images, share
from ldatlib.study.records import Share


@pytest.mark.parametrize("notebook", ["02", "03", "07", "08"])
def test_an_answer_is_sentences_with_numbers_and_a_time(run, notebook):
    said = opening.answer(run, notebook)
    assert "%" in said and said.endswith("kept, they take seconds.") and "\n" not in said


def test_the_white_box_names_the_network_of_which_most_is_left(run):
    """Counted here from the images, attack by attack."""
    trainings = run.select_seed(run.trainings())
    records = run.records("whitebox", trainings)
    left = {
        t.title: share(right_images(r, "l2")).value for t, r in zip(trainings, records, strict=True)
    }
    best = max(left, key=left.__getitem__)
    assert f"of {best} in L2 ({100 * left[best]:.0f}%" in opening.answer(run, "03")


def test_of_a_model_pgd_alone_stands_beside_everything(run):
    """Counted here from the images of PGD-AT."""
    (record,) = run.records("whitebox", [run.training("standard")])
    alone, together = (share(right_images(record, key)).value for key in ("linf_pgd", "linf"))
    said = opening.answer(run, "11")
    assert f"PGD-AT {100 * alone:.0f}% of its images" in said
    assert f"(L-inf) {100 * together:.0f}%" in said


def test_the_scrutiny_is_of_both_norms_and_of_who_knows_the_threshold(run):
    """Counted here from what each record left right."""
    base = run.training(run.profile.base)
    (whitebox,) = run.records("whitebox", [base])
    said = opening.answer(run, "09")
    for norm, title in (("linf", "L-inf"), ("l2", "L2")):
        table1 = share(right_images(whitebox, norm)).value
        assert f"under {title} {100 * table1:.0f}% against Table 1's attacks" in said
    (adaptive,), (seen,) = (run.records(kind, [base]) for kind in ("adaptive", "detection"))
    rows = tables.adaptive_at_frozen([adaptive], [seen]).query("score == 'posterior'")
    assert set(rows.norm) == {"linf", "l2"}
    for row in rows.itertuples():
        assert f"ordinary attack, {row.union:.0f}% by one that knows its threshold" in said


def test_the_papers_claims_and_ours_are_counted_apart(run):
    said = opening.answer(run, "10")
    ours = sum(claim.extension for claim in claims.CLAIMS)
    assert ours == 3 and f"the paper's {len(claims.CLAIMS) - ours} claims, in our words" in said
    first, second = said.split("Of 3 extensions of ours: ")
    counts = [sum(map(int, re.findall(r"(\d+) ['\"]", text))) for text in (first, second)]
    assert counts == [len(claims.CLAIMS) - ours, ours]


def test_algorithm_1_seeks_the_boundary_from_either_side():
    """The band of Section 3.2: no half of it is preferred."""
    trainings = [SimpleNamespace(title="LDAT")]
    record = SimpleNamespace(last={"val_robust_accuracy": 0.45})
    made = SimpleNamespace(
        plane_trainings=lambda: trainings, records=lambda kind, of: [record], plan=lambda number: []
    )
    said = opening.answer(made, "01")
    assert "Algorithm 1 the neighbourhood of the boundary, on either side;" in said
    assert "in validation: LDAT 45%." in said


@pytest.mark.parametrize("ablations", ("paper", "all"))
def test_what_is_not_changed_in_a_profile_is_said_of_the_ablations(ablations):
    share = Share(value=0.5, low=0.4, high=0.6, count=10)
    column = SimpleNamespace(robust_accuracy=share)
    record = SimpleNamespace(clean_accuracy=share, attacks={"linf_pgd": column})
    made = SimpleNamespace(
        beta_trainings=lambda: {0.0: None, 1.0: None},
        records=lambda kind, of: [record, record],
        profile=SimpleNamespace(ablations=ablations),
        plan=lambda number: [],
    )
    said = opening.answer(made, "05")
    assert ("Head and likelihood term are not changed" in said) == (ablations == "paper")


def test_every_notebook_has_an_answer():
    from runner import notebooks

    assert {path.name[:2] for path in notebooks()} >= set(opening._ANSWERS)
