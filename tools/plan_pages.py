"""What plans cost, in tables: operations and hours of docs/profiles.md, makespans of docs/scale.md.

Plans need neither images nor results. ``tools/published_tables.py`` puts the tables there.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from markers import markdown, paragraph

# Numbers of workers in docs/scale.md, and operations a second of each: one large GPU may reach it.
WORKERS, RATE = (1, 2, 4, 8, 16, 32), 2e14
# Operations a second of two cores: a step of LDAT on PreAct ResNet-18, docs/profiles.md.
CPU_RATE = 398e9
_HOUR, _DAY, _YEAR = 3600.0, 86400.0, 365.25 * 86400
# Rows of the tables of operations: kinds of jobs, and what they are for.
_ROWS = {
    ("train",): "",
    ("whitebox",): "Tables 1, 2",
    ("sweep_eps", "sweep_steps"): "Figures 4, 5",
    ("transfer",): "Tables 4, 5",
    ("basic", "validation"): "Table 3, Figure 6, ablations",
    ("features", "detection"): "Figures 7 to 9",
    ("search",): "notebook 09",
    ("autoattack",): "notebook 09",
    ("masking",): "notebook 09",
    ("adaptive",): "notebook 09",
}


@contextmanager
def plan_of(profile: str) -> Iterator:
    """A run in an empty folder, and the plan of everything that its notebooks need."""
    from ldatlib.study.jobs import Plan
    from ldatlib.study.notebooks import everything
    from ldatlib.study.run import open_run

    with tempfile.TemporaryDirectory() as folder:
        run = open_run(profile, out=folder, jobs=1)
        run.plan_without_data()
        yield run, Plan(run, everything(run))


def total(profile: str) -> float:
    """Operations of everything."""
    with plan_of(profile) as (_, plan):
        return sum(job.operations for job in plan.jobs)


def operations(profiles: tuple[str, ...], unit: str, rate: float | None = None) -> str:
    """Jobs and operations by kind, a pair of columns a profile; at ``rate`` a second hours, too.

    ``unit`` is TFLOP or PFLOP. ``KeyError`` for a kind that stands in no row.
    """
    import pandas as pd

    size = {"TFLOP": 1e12, "PFLOP": 1e15}[unit]
    row_of = {kind: kinds for kinds in _ROWS for kind in kinds}
    columns: dict[str, list[str]] = {
        "kind": [
            ", ".join(f"`{kind}`" for kind in kinds) + (f" ({about})" if about else "")
            for kinds, about in _ROWS.items()
        ]
        + ["all"]
    }
    for profile in profiles:
        jobs, sums = dict.fromkeys(_ROWS, 0), dict.fromkeys(_ROWS, 0.0)
        with plan_of(profile) as (_, plan):
            for job in plan.jobs:
                jobs[row_of[job.kind]] += 1
                sums[row_of[job.kind]] += job.operations
        every = [*sums.values(), sum(sums.values())]
        digits = 2 if unit == "TFLOP" else 0
        columns[f"`{profile}`: jobs"] = [str(n) for n in [*jobs.values(), sum(jobs.values())]]
        columns[f"{unit} of `{profile}`"] = [f"{one / size:,.{digits}f}" for one in every]
        if rate:
            columns[f"hours of `{profile}`"] = [f"{one / rate / _HOUR:.1f}" for one in every]
    return markdown(pd.DataFrame(columns))


def hours(record: dict) -> str:
    """What the large profiles would take; ``demo-full`` by the seconds in the demo's ``record``."""
    small, large = total("cifar10"), total("cifar100")
    seconds = sum(record["seconds"].values())
    longer = seconds * total("demo-full") / total("demo")
    return paragraph(
        "Computed from the operations of their plans, not measured: at "
        f"{RATE / 1e12:.0f} TFLOP a second, which one large GPU may reach, `cifar10` takes "
        f"{small / RATE / _HOUR:.0f} hours and `cifar100` {large / RATE / _DAY:.0f} days; at "
        f"{CPU_RATE / 1e9:.0f} GFLOP, the measured rate of a step of LDAT on PreAct ResNet-18, "
        f"{small / CPU_RATE / _YEAR:.1f} and {large / CPU_RATE / _YEAR:.0f} years. `demo-full` "
        f"takes {longer / 2 / 60:.0f} minutes of two cores, at the rate of the demo's "
        f"{seconds:.0f} core-seconds."
    )


def scale(profile: str) -> str:
    """A profile's plan on 1 to 32 workers, played through."""
    from ldatlib.study.makespan import table

    with plan_of(profile) as (_, plan):
        return "\n".join(table(plan, WORKERS, RATE, None))


def stages(record: dict) -> str:
    """What it saves the demo that a job begins as soon as what it is made from is there.

    Played through on two processes with the seconds that its jobs have taken: the schedule as it
    is, and one in which all trainings end before the first evaluation, and so on.
    """
    from ldatlib.study.jobs import Job, Plan
    from ldatlib.study.makespan import makespan

    with plan_of("demo") as (run, plan):
        measured = {job.path: record["seconds"][job.name] for job in plan.jobs}

        def took(of: Plan) -> float:
            return makespan(of, 2, RATE, measured=measured).seconds

        waves: list[list[Job]] = []
        ended: set[Path] = set()
        while wave := plan.ready(ended, ended):
            waves.append(wave)
            ended.update(job.path for job in wave)
        whole, apart = took(plan), sum(took(Plan(run, wave)) for wave in waves)
    seconds = sum(measured.values())
    return paragraph(
        f"On two processes that saves the demo {apart - whole:.0f} s of {apart:.0f}, "
        f"{(apart - whole) / apart:.1%}: its {len(measured)} jobs, {seconds:.0f} s of one core as "
        f"measured, take {whole:.0f} s where each begins as soon as it can and {apart:.0f} s where "
        f"they come in {len(waves)} waves (played through with those seconds, without the "
        "notebooks)."
    )


def render(record: dict) -> dict[str, str]:
    """Marker -> Markdown; ``record``: the demo's."""
    return {
        "plan-cifar": operations(("cifar10", "cifar100"), "PFLOP", RATE),
        "plan-demo": operations(("demo", "demo-full"), "TFLOP"),
        "plan-hours": hours(record),
        "scale-cifar10": scale("cifar10"),
        "scale-cifar100": scale("cifar100"),
        "scale-stages": stages(record),
    }
