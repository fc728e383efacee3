"""What each notebook computes, as one table: kinds of results, each of which trainings.

A new row, or a new entry of one, is all it takes for a notebook to compute something more.
"""

from collections.abc import Callable, Iterable

from ldatlib.study.jobs import Job, jobs_of
from ldatlib.study.trainings import Training, Trainings
from ldatlib.study.workspace import Workspace

Which = Callable[[Trainings], Iterable[Training]]


def every_seed(run: Trainings) -> list[Training]:
    return run.trainings()


def first_seed(run: Trainings) -> list[Training]:
    return run.select_seed(run.trainings())


def planes(run: Trainings) -> list[Training]:
    return run.plane_trainings()


def surrogates(run: Trainings) -> list[Training]:
    return run.surrogates()


def sibling(run: Trainings) -> list[Training]:
    """The surrogate that is a sibling, from which attacks are transferred."""
    return [run.surrogates()[1]]


def ablations(run: Trainings) -> list[Training]:
    return _each_once(run.ablations())


def switches(run: Trainings) -> list[Training]:
    return [] if run.profile.ablations == "paper" else _each_once(run.switch_trainings().values())


def pgd_trained(run: Trainings) -> list[Training]:
    """The honest network that notebook 11 examines."""
    return [run.training("standard")]


def base(run: Trainings) -> list[Training]:
    return [t for t in first_seed(run) if t.name == run.profile.base]


def in_feature_space(run: Trainings) -> list[Training]:
    return [t for t in first_seed(run) if t.name in ("trades", "ldat", run.profile.base)]


def _each_once(trainings: Iterable[Training]) -> list[Training]:
    # The base is in several of the ablations.
    return list({training.label: training for training in trainings}.values())


COMPUTES: dict[str, tuple[tuple[str, Which], ...]] = {
    "01": (("train", planes),),
    "02": (("train", every_seed),),
    "03": (
        ("train", every_seed),
        ("whitebox", every_seed),
        ("sweep_eps", first_seed),
        ("sweep_steps", first_seed),
    ),
    "04": (
        ("train", surrogates),
        ("train", every_seed),
        ("transfer", surrogates),
        ("transfer", first_seed),
    ),
    "05": (("train", ablations), ("basic", ablations), ("validation", switches)),
    "06": tuple((kind, in_feature_space) for kind in ("train", "whitebox", "features")),
    "07": tuple((kind, base) for kind in ("train", "whitebox", "detection")),
    "08": tuple((kind, first_seed) for kind in ("train", "whitebox", "detection")),
    "09": (
        ("train", every_seed),
        ("train", sibling),
        *(
            (kind, first_seed)
            for kind in ("whitebox", "detection", "search", "autoattack", "masking", "adaptive")
        ),
    ),
    # The report shows what the others have left.
    "10": (),
    "11": tuple((kind, pgd_trained) for kind in ("train", "whitebox")),
}


def plan(ws: Workspace, notebook: str) -> list[Job]:
    """What a notebook computes, in order; the same jobs whoever asks for them."""
    return [
        job for kind, which in COMPUTES.get(notebook, ()) for job in jobs_of(ws, kind, which(ws))
    ]


def everything(ws: Workspace) -> list[Job]:
    """All that the notebooks compute, each job once."""
    jobs = (job for notebook in COMPUTES for job in plan(ws, notebook))
    return list({job.path: job for job in jobs}.values())
