"""Every chart that the finished records of a run allow."""

from typing import TypeVar

from torch import Tensor

from ldatlib.report.charts.explorer import explorer
from ldatlib.report.charts.features import tsne
from ldatlib.report.charts.gallery import gallery
from ldatlib.report.charts.look import Chart
from ldatlib.report.charts.plane import figure_3
from ldatlib.report.charts.sweeps import accuracy_by_eps, accuracy_by_steps
from ldatlib.study.kinds.white_box import WHITE_BOX
from ldatlib.study.records import Detection, Features, Record, Sweep, Whitebox, read
from ldatlib.study.run import Run
from ldatlib.study.trainings import Training

R = TypeVar("R", bound=Record)


def of_run(run: Run) -> dict[str, Chart]:
    """Name -> chart of a run: ``explorer``, ``figure_3``, ``figure_4`` and so on, ``gallery``.

    From what is finished, in the order of the profile's defences and of its first seed; a chart
    whose records or images are missing is left out. Attacks nothing, trains nothing.
    """
    trainings = run.select_seed(run.trainings())

    def found(kind: str, shape: type[R]) -> dict[str, R]:
        jobs = run.jobs_of(kind, trainings)
        return {job.training.name: read(job.path, shape) for job in jobs if job.done}

    made = {"figure_3": figure_3()}
    if swept := found("sweep_eps", Sweep):
        made["figure_4"] = accuracy_by_eps(swept)
    if swept := found("sweep_steps", Sweep):
        made["figure_5"] = accuracy_by_steps(swept)
    saved = {t.name: run.adversarial(t) for t in trainings if _kept(run, t)}
    names = run.dataset.class_names
    wanted = ("trades", "ldat", run.profile.base)
    features = {name: r for name, r in found("features", Features).items() if name in wanted}
    if features:
        # The images before the attack are the same for every network.
        images: Tensor | None = next((each["x"] for each in saved.values()), None)
        made["figure_7"] = tsne({r.title: r for r in features.values()}, names, images)
    if judged := found("detection", Detection):
        base = run.profile.base
        made["explorer"] = explorer(judged, defence=base if base in judged else None)
    attacked = {name: r for name, r in found("whitebox", Whitebox).items() if name in saved}
    if attacked:
        made["gallery"] = gallery(attacked, saved, names)
    return made


def _kept(run: Run, training: Training) -> bool:
    return WHITE_BOX.images_path(run, training).is_file()
