"""Every picture that a notebook saves has a title, a caption and words in its place."""

import re
from pathlib import Path

import nbformat
import pytest

from ldatlib.report import figures
from runner import NOTEBOOKS

_SAVED = re.compile(r'figures\.save\([^)]*?, f?"(\w+?)(?:_\{norm\})?"\)')


def saved():
    """Names of files, ``_{norm}`` left out, by the sources of the notebooks."""
    cells = [
        c for path in sorted(Path(NOTEBOOKS).glob("*.ipynb")) for c in nbformat.read(path, 4).cells
    ]
    return [name for cell in cells for name in _SAVED.findall(cell.source)]


def test_every_saved_picture_is_described_and_no_other():
    assert set(saved()) == set(figures.FIGURES)


def test_a_panel_of_a_norm_is_found_by_its_file():
    assert figures.described("surface_linf") is figures.described("surface_l2")
    with pytest.raises(KeyError):
        figures.described("own")


def test_words_are_whole_sentences_of_the_length_that_a_screen_reader_reads():
    for name, entry in figures.FIGURES.items():
        assert entry.caption.endswith(".") and entry.alt.endswith("."), name
        assert len(entry.alt) <= 200 and len(entry.caption) <= 250, name
        assert not entry.title.endswith("."), name
