"""What every committed notebook must be; nbval runs them apart from these tests."""

import ast
import re

import nbformat
import pytest
from nbval.plugin import metadata_tags

from runner import notebooks

NOTEBOOKS = {path.name: nbformat.read(path, 4) for path in notebooks()}


def tagged(nb, tag):
    return [c for c in nb.cells if c.cell_type == "code" and tag in c.metadata.get("tags", [])]


@pytest.fixture(params=NOTEBOOKS)
def nb(request):
    return NOTEBOOKS[request.param]


def test_one_parameters_cell_of_literals(nb):
    (cell,) = tagged(nb, "parameters")
    statements = ast.parse(cell.source).body
    names = [statement.targets[0].id for statement in statements]
    assert names == ["profile", "overrides", "out", "jobs"]
    for statement in statements:
        ast.literal_eval(statement.value)


def test_outputs_are_committed_and_free_of_errors(nb):
    outputs = [o for c in nb.cells if c.cell_type == "code" for o in c.outputs]
    assert outputs and not [o for o in outputs if o.output_type == "error"]


def test_at_least_two_cells_are_compared(nb):
    compared = tagged(nb, "nbval-check-output")
    assert len(compared) >= 2 and all(cell.outputs for cell in compared)


def test_every_tag_means_something(nb):
    """A tag that nbval does not know compares nothing."""
    tags = {tag for cell in nb.cells for tag in cell.metadata.get("tags", [])}
    assert tags <= {"parameters", *metadata_tags}


def test_cells_stay_short(nb):
    assert max(len(c.source.splitlines()) for c in nb.cells if c.cell_type == "code") <= 30


def test_outputs_name_no_folder_of_a_machine(nb):
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", text)


def test_the_environment_of_the_author_is_not_in_them(nb):
    assert "papermill" not in nb.metadata
    assert nb.metadata.kernelspec.name == "python3"


def test_a_notebook_opens_with_question_and_answer(nb):
    first = [cell.source for cell in nb.cells[:4]]
    assert first[0].startswith("# ") and "**The question.** " in first[0]
    number = first[0][2:4]
    assert f'print(opening.answer(run, "{number}"))' in first[3]


def test_a_notebook_ends_with_two_exercises(nb):
    last = nb.cells[-1]
    assert last.cell_type == "markdown" and last.source.startswith("## Exercises")
    for folded in ("<details><summary>Answer</summary>\n\n", "\n\n</details>"):
        assert last.source.count(folded) == 2


def test_after_the_report_comes_what_is_not_the_papers():
    assert list(NOTEBOOKS)[-2:] == ["10_report.ipynb", "11_examine.ipynb"]
