"""Names of users reach figures, the widget and the page as text, and as nothing else."""

import io
import unicodedata
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from charted import drawn as drawn_chart
from helpers import detection_record, synthetic_record
from hostile import NAMES, TITLES, Structure
from matplotlib.text import Text
from PIL import Image

from ldatlib.defences import TITLES as KNOWN
from ldatlib.evaluation.feature_space import Cloud
from ldatlib.report import components, escape, figures, fonts, grid, page, tables
from ldatlib.report.figures.images import Cell
from ldatlib.report.figures.look import finished
from ldatlib.report.figures.plane import Plane
from ldatlib.report.widgets import threshold_explorer

# What of ``figures`` is no picture.
HELPERS = {"caption", "class_key", "colour", "embedded", "gallery_rows", "plane_of", "save"}
HELPERS |= {"style", "FIGURES", "Described", "described", "length_limits"}
ENDS = ("", "_low", "_high")
NETWORKS = ("standard", "trades", "ldat", "ldat_chosen")


@pytest.fixture
def hostile(monkeypatch):
    """Defences with the titles that a plug-in could give them."""
    for name, title in zip(NETWORKS, TITLES, strict=True):
        monkeypatch.setitem(KNOWN, name, title)
    return dict(zip(NETWORKS, TITLES, strict=True))


def drawn(figure):
    """Texts of a figure as they are seen; drawn without a warning, and with room for the panels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), dpi=30)
    shown = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    return [text.get_text().replace(r"\$", "$") for text in shown if text.get_text()]


def clouds(count):
    points = np.random.default_rng(0).normal(size=(2 * count, 2))
    return Cloud(points, points + 0.1, np.arange(2 * count) % count)


def plane(title, count):
    cloud = clouds(count)
    return Plane(title, cloud.natural, cloud.adversarial, cloud.y, lambda p: p[:, 0] > 0, None)


def cells(count):
    image = torch.rand(1, 8, 8)
    found = [Cell("ldat", image, image, k, (k + 1) % count, 0.5, k > 0) for k in range(count)]
    return [(f"attack {k}", [cell]) for k, cell in enumerate(found)]


def curves(defences):
    columns = [f"{c}{end}" for c in ("robust_0", "robust_0.5", "robust_1", "error") for end in ENDS]
    point = {"norm": "l2", "score": "posterior", **dict.fromkeys(columns, 50.0)}
    rows = [{"defence": d, "clean_acceptance": a, **point} for d in defences for a in (50, 95)]
    return pd.DataFrame(rows)


def pictures(run, hostile, alike):
    """Every figure function, by name, with hostile titles and names of classes."""
    first = [t for t in run.select_seed(run.trainings()) if t.name in NETWORKS]
    kinds = ("whitebox", "detection", "autoattack", "sweep_eps", "sweep_steps", "features")
    found = {
        kind: run.records(kind, [t for t in first if kind != "features" or t.name != "standard"])
        for kind in kinds
    }
    found |= {kind: run.records(kind, first) for kind in ("masking", "adaptive")}
    by_defence = {kind: {r.defence: r for r in records} for kind, records in found.items()}
    table = tables.scrutiny(found["whitebox"], found["autoattack"], {})
    replaced = run.attack_trainings()
    basic = dict(zip(replaced, alike("basic", list(replaced.values())), strict=True))
    logs = {t.name: run.log(t) for t in first}
    titles = list(hostile.values())
    matrix = pd.DataFrame(np.eye(4) * 50, index=titles, columns=titles)
    switched = run.switch_trainings()
    study = tables.likelihood_study(
        list(switched),
        *(alike(kind, list(switched.values())) for kind in ("train", "validation", "basic")),
    )
    walks = {title: np.array([[1.0, 1.0], [0.5, 0.2]]) for title in ("PGD", "Algorithm 1")}
    return {
        "accuracy_by_eps": figures.accuracy_by_eps(by_defence["sweep_eps"]),
        "accuracy_by_steps": figures.accuracy_by_steps(by_defence["sweep_steps"]),
        "adaptive": figures.adaptive(tables.adaptive_rows(found["adaptive"], found["detection"])),
        "defence_success": figures.defence_success(by_defence["detection"]),
        "feature_planes": figures.feature_planes(
            [plane(title, len(NAMES)) for title in titles], NAMES
        ),
        "gallery": figures.gallery(cells(len(NAMES)), NAMES, 3.0),
        "growing_eps": figures.growing_eps(found["masking"], "l2"),
        "likelihood_histograms": figures.likelihood_histograms(by_defence["detection"]["ldat"]),
        "likelihood_over_epochs": figures.likelihood_over_epochs({"as written": logs["ldat"]}),
        "rejection": figures.rejection(curves([t.name for t in first])),
        "replaced_attack": figures.replaced_attack(basic),
        "scrutiny": figures.scrutiny(table),
        # What is published does not hold the separation.
        "small_model": figures.small_model(
            study.assign(separation=2.0), dict.fromkeys(study.training, 0.01), 10, 0.1
        ),
        "surfaces": figures.surfaces(found["masking"], "l2"),
        "threshold_static": figures.threshold_static(
            by_defence["detection"]["ldat"], "posterior", "linf_pgd", 0.6
        ),
        "toy_trajectories": figures.toy_trajectories(
            np.array([1.0, 0.5]), -0.5, np.array([1.0, 1.0]), walks, 0.1
        ),
        "training_curves": figures.training_curves(logs),
        "transfer_heat_map": figures.transfer_heat_map(matrix),
        "tsne": figures.tsne({title: clouds(len(NAMES)) for title in titles}, NAMES),
    }


# Figures that name no defence and no class of the user's.
IMPERSONAL = {"likelihood_over_epochs", "replaced_attack", "toy_trajectories"}


@pytest.mark.slow
def test_every_figure_shows_hostile_names_as_they_are(run, hostile, alike):
    made = pictures(run, hostile, alike)
    assert set(made) == set(figures.__all__) - HELPERS
    expected = {escape.in_figure(t).replace(r"\$", "$") for t in hostile.values()}
    shown = {name: drawn(figure) for name, figure in made.items()}
    for name, figure in made.items():
        texts = shown[name]
        assert figures.caption(figure), name
        if name not in IMPERSONAL | {"gallery"}:
            assert any(title in text for text in texts for title in expected), name
        for text in texts:
            # Our own formulas have an even number of dollar signs and nothing else has any.
            assert len(text) < 120, (name, text)
    for name in ("feature_planes", "tsne", "gallery"):
        texts = "\n".join(shown[name])
        for label in escape.class_labels(NAMES):
            assert label.replace(r"\$", "$") in texts, (name, label)
        assert escape.class_key(NAMES) in figures.caption(made[name])


def test_a_legend_has_an_entry_for_every_hostile_name():
    figure = matplotlib.figure.Figure()
    axis = figure.subplots()
    labels = escape.class_labels(NAMES)
    for label in labels:
        axis.plot([0, 1], label=label)
    shown = [text.get_text() for text in axis.legend().get_texts()]
    assert shown == labels and len(set(shown)) == len(NAMES)


@pytest.mark.parametrize("name", [*NAMES, *TITLES])
def test_a_dollar_sign_is_no_formula(name):
    """Matplotlib takes a text for a formula where the number of its bare dollar signs is even."""
    shown = escape.in_figure(name)
    assert shown.count("$") == shown.count(r"\$")
    if fonts.drawable(name) and len(name) <= 32 and name.isprintable():
        composed = unicodedata.normalize("NFC", name)
        assert shown.replace(r"\$", "$").strip() == composed


def test_what_no_font_has_becomes_a_number_with_a_key(monkeypatch):
    monkeypatch.setattr(fonts, "fallback", lambda text: None if "猫" in text else ())
    names = ("dog", "猫", "_x", "#7", "b" * 25)
    assert escape.class_labels(names) == ["dog", "#1", " _x", "#3", "#4"]
    assert escape.class_key(names) == f"#1: 猫, #3: #7, #4: {'b' * 25}"
    assert escape.class_key(("dog", "cat")) == ""
    monkeypatch.setitem(KNOWN, "ldat", "猫 defence")
    assert escape.in_figure("猫 defence surrogate") == "ldat surrogate"
    assert escape.in_figure("of 猫 and dog") == "of  and dog"


def test_names_that_look_alike_stay_apart():
    names = ("e\u0301", "\u00e9", "a b", "a  b", "")
    assert escape.class_labels(names) == ["#0", "#1", "#2", "#3", "#4"]


def test_a_font_is_found_for_what_the_usual_one_lacks(monkeypatch, tmp_path):
    """The usual one is here Computer Modern, without a Cyrillic letter."""
    monkeypatch.setitem(matplotlib.rcParams, "font.family", ["cmr10"])
    families = fonts.fallback("кот")
    assert families and fonts.fallback("cat") == ()
    figure = matplotlib.figure.Figure()
    text = figure.text(0.5, 0.5, "кот and cat")
    finished(figure, "a word")
    assert text.get_fontfamily() == ["cmr10", *families]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / "word.png")


def test_a_character_that_nobody_has_has_no_font():
    assert fonts.fallback("\U0010fffd") is None and fonts.fallback("cat ß") == ()


def test_a_picture_of_the_page_says_what_it_shows(tmp_path):
    shows = " ".join(NAMES)
    figure = finished(matplotlib.figure.Figure(), shows)
    figures.save(figure, tmp_path, "x")
    found = Structure(components.picture(tmp_path / "x.png", "Figure 1"))
    assert found.alternatives == [shows] and "".join(found.texts).strip() == shows
    assert [tag for tag, _ in found.elements] == ["figure", "img", "figcaption"]
    Image.new("L", (2, 2)).save(tmp_path / "mute.png")
    mute = Structure(components.picture(tmp_path / "mute.png", "Figure 1"))
    assert mute.alternatives == ["Figure 1"]


def test_the_page_has_the_elements_of_plain_names():
    def pieces(names):
        """Pieces of a page, each with the names that it shows."""
        frame = pd.DataFrame({name: names for name in names}, index=list(names))
        deep = frame.set_index(pd.MultiIndex.from_tuples([(name, "x") for name in names]))
        for style in (page.styled(frame, "t"), page.styled(deep, "u")):
            # A notebook would typeset what looks like a formula.
            assert "tex2jax_ignore" in style.to_html() and "mathjax_ignore" in style.to_html()
            yield style.to_html(), names
        for name in names:
            yield components.paragraph(name, name), [name]
            yield components.table(grid.of_frame(deep, "v", name)), names
            yield components.lines([name]) + components.preformatted(name), [name]
            yield components.section("s", name, components.heading(name)), [name]
            yield components.document(name, components.lead(name), alive=True), [name]

    # As long as those: long cells wrap.
    plain = [f"name{k}".ljust(len(name), "x") for k, name in enumerate(NAMES)]
    for (hostile, names), (harmless, _) in zip(pieces(NAMES), pieces(plain), strict=True):
        ours, theirs = Structure(hostile), Structure(harmless)
        assert ours.elements == theirs.elements
        seen = "".join(ours.texts)
        assert all(name in seen for name in names)


def test_the_widget_has_the_elements_of_plain_titles(monkeypatch):
    def seen(titles):
        for name, title in titles.items():
            monkeypatch.setitem(KNOWN, name, title)
        own = {name: synthetic_record(defence=name, title=title) for name, title in titles.items()}
        widget = threshold_explorer(own)
        assert [label for label, _ in widget.defence.options] == list(titles.values())
        return Structure(drawn_chart(widget.chart.spec) + widget.status.value).elements

    names = dict(zip(NETWORKS, TITLES, strict=True))
    assert seen(names) == seen(dict.fromkeys(NETWORKS, "plain") | {"ldat": "other"})


def test_a_network_that_is_never_right_has_a_widget_and_figures():
    """No threshold can be frozen: the paper's stands first, and the figures say why."""
    never = ([0.3, 0.5, 0.7], "000")
    likely = ([-9.0, -5.0, -1.0], "000")
    sets = {
        "posterior": dict.fromkeys(("val", "clean", "linf_pgd", "l2_pgd"), never),
        "log_likelihood": dict.fromkeys(("val", "clean", "linf_pgd", "l2_pgd"), likely),
    }
    none = {"accept_95": None, "accept_99": None}
    thresholds = {"posterior": {"paper": 0.6, **none}, "log_likelihood": {"paper": None, **none}}
    record = detection_record(sets, thresholds)
    widget = threshold_explorer({"ldat": record})
    assert widget.threshold.value == 0.6
    widget.score.value = "log_likelihood"
    assert widget.threshold.value == -5.0
    reason = "frozen: none, no validation image is right"
    assert reason in "".join(drawn(figures.defence_success({"ldat": record})))
    drawn(figures.likelihood_histograms(record))
    shown = tables.thresholds({"ldat": record})
    assert list(shown.index.get_level_values("threshold")) == ["0.6 (paper)", reason, reason]
    rows = pd.DataFrame(tables.outcome_rows(record, "posterior"))
    assert len(tables.outcomes_for_reading(rows)) and tables.areas({"ldat": record}).isna().all(
        axis=None
    )
