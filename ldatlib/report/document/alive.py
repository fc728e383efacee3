"""Figures of the report that are alive: charts in the places of static figures of their names."""

from collections.abc import Callable, Mapping

from markupsafe import Markup

from ldatlib.report import charts, components
from ldatlib.report.charts import Chart
from ldatlib.report.components import Drawing
from ldatlib.report.document.kept import by_name
from ldatlib.study.kinds.white_box import WHITE_BOX
from ldatlib.study.records import Detection, Features, Sweep, Whitebox
from ldatlib.study.run import Run

# What the place of a chart is marked by, as ``charts.element`` does.
_MARK = 'class="ldat-chart"'


def chart(run: Run, name: str) -> Chart | None:
    """The chart in the place of ``figures/NAME.png``; None where there is none, or no record."""
    return _CHARTS[name](run) if name in _CHARTS else None


def element(drawn: Chart, name: str) -> Markup:
    """A chart's place in the page."""
    return Markup(charts.element(drawn, name))


def drawing(body: Markup) -> Drawing | None:
    """What draws the charts of a page's content; None where it has none."""
    return Drawing(charts.STYLE, charts.script()) if _MARK in body else None


def pictures(run: Run, *names: str) -> Markup:
    """The figures of these names, alive where they can be, with the static one for paper.

    What the run has neither drawn nor kept records of is left out.
    """
    parts = []
    for name in names:
        path, drawn = run.root / "figures" / f"{name}.png", chart(run, name)
        if drawn is not None:
            static = path.read_bytes() if path.is_file() else None
            said = charts.caption(drawn)
            parts.append(components.chart(name, element(drawn, name), said, static))
        elif path.is_file():
            parts.append(components.picture(path, name))
    return components.joined(*parts)


def _plane(run: Run) -> Chart | None:
    """Needs no record, but stands where notebook 01 has put its picture."""
    return charts.figure_3() if (run.root / "figures" / "fig3.png").is_file() else None


def _eps(run: Run) -> Chart | None:
    found = by_name(run, "sweep_eps", Sweep)
    return charts.accuracy_by_eps(found) if found else None


def _steps(run: Run) -> Chart | None:
    found = by_name(run, "sweep_steps", Sweep)
    return charts.accuracy_by_steps(found) if found else None


def _explorer(run: Run) -> Chart | None:
    found = by_name(run, "detection", Detection)
    base = run.profile.base
    return charts.explorer(found, defence=base if base in found else None) if found else None


def _images(run: Run, names: Mapping[str, Whitebox]) -> dict:
    trainings = [t for t in run.select_seed(run.trainings()) if t.name in names]
    return {
        t.name: run.adversarial(t) for t in trainings if WHITE_BOX.images_path(run, t).is_file()
    }


def _gallery(run: Run) -> Chart | None:
    found = by_name(run, "whitebox", Whitebox)
    saved = _images(run, found)
    return charts.gallery(found, saved, run.dataset.class_names) if saved else None


def _tsne(run: Run) -> Chart | None:
    found = by_name(run, "features", Features)
    if not found:
        return None
    saved = _images(run, by_name(run, "whitebox", Whitebox))
    images = next((each["x"] for each in saved.values()), None)
    titles = {t.name: t.title for t in run.trainings()}
    named = {titles[name]: record for name, record in found.items()}
    return charts.tsne(named, run.dataset.class_names, images)


_CHARTS: dict[str, Callable[[Run], Chart | None]] = {
    "fig3": _plane,
    "fig4": _eps,
    "fig5": _steps,
    "fig7": _tsne,
    "gallery": _gallery,
    "threshold": _explorer,
}
