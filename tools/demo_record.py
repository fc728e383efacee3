"""What the pages say of the demo, from a finished run -> data/results/demo.json, Figure 4.

    python tools/demo_record.py                           of runs/demo
    python tools/demo_record.py --beside "AVX2=DIR" ...   and how far other runs' numbers are off

``--beside NAME=DIR`` takes another run of the same trainings, on another machine or with other
kernels; ``NAME=REVISION:docs/demo.md`` what an earlier page says one was. Those that the record
holds already stay. Run it on the run's machine: it asks torch which kernels it has.
Then: python tools/published_tables.py.
"""

import argparse
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

RECORD = PROJECT / "data" / "results" / "demo.json"
FIGURE = PROJECT / "docs" / "images" / "fig4.png"
# Columns that docs/demo.md has shown before there was a record, in their order.
_ON_THE_PAGE = ("natural", "linf_pgd", "linf", "l2_pgd", "l2")
# The paper's remedy for a bad L-inf number, Figure 6: Algorithm 1 replaced.
REPLACED = "PGD-CE*"
_VALIDATED = ("val_clean_accuracy", "val_robust_accuracy")


def rows(frame) -> list[dict[str, Any]]:
    """A frame as JSON: an entry a row, without what is not defined."""
    found = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{k: v for k, v in row.items() if v is not None} for row in found]


def bits(right) -> str:
    """Bool [N] as the records hold it: ``"1"`` right, ``"0"`` wrong."""
    return "".join("01"[int(one)] for one in right.tolist())


def finished(run) -> None:
    """``UserError`` unless everything that the pages quote is there."""
    from ldatlib.errors import UserError
    from ldatlib.study.notebooks import everything

    missing = [job.path.stem for job in everything(run) if not job.done]
    if missing:
        raise UserError(f"{run.root} lacks {missing[0]} and {len(missing) - 1} more: finish it")


def when(run) -> str:
    """The day of a run's last record."""
    newest = max(path.stat().st_mtime for path in (run.root / "records").glob("*.json"))
    return datetime.fromtimestamp(newest, UTC).date().isoformat()


def source(run) -> dict[str, Any]:
    """Where the numbers of a run come from."""
    import msgspec

    (record,) = run.records("train", [run.training("ldat")])
    return {**msgspec.to_builtins(record.provenance), "date": when(run)}


def seconds(run) -> dict[str, float]:
    """What each job of the run has taken of one core, by its name."""
    from ldatlib.files import read_json
    from ldatlib.study.notebooks import everything

    return {job.name: read_json(job.path)["seconds"] for job in everything(run)}


def validation(run) -> dict[str, list[list[float]]]:
    """Defence -> epoch, clean and PGD accuracy in percent of the validation images."""
    return {
        training.name: [
            [line["epoch"], *(round(100 * line[key], 2) for key in _VALIDATED)]
            for line in run.log(training)
            if _VALIDATED[0] in line
        ]
        for training in run.select_seed(run.trainings())
    }


def contests(run) -> list[dict[str, Any]]:
    """Everybody on the same images: without an attack, and in each norm under everything."""
    from ldatlib.report import conclusions
    from ldatlib.report.claims.evidence import Evidence

    return [_contest(one) for one in conclusions.contests(Evidence(run, run.profile.base))]


def searched(run) -> list[dict[str, Any]]:
    """The same under Table 1's attacks and the search: what every run has soon."""
    from ldatlib.evaluation.robustness import from_bits
    from ldatlib.report.comparisons import right_images
    from ldatlib.report.conclusions import Contest
    from ldatlib.report.words import NORMS

    trainings = run.select_seed(run.trainings())
    table1, search = (run.records(kind, trainings) for kind in ("whitebox", "search"))
    found = [
        Contest(
            "natural", "without an attack", {r.defence: right_images(r, "natural") for r in table1}
        )
    ]
    for norm, name in NORMS.items():
        right = {
            one.defence: right_images(one, norm) & from_bits(other.norms[norm].right)
            for one, other in zip(table1, search, strict=True)
        }
        found.append(Contest(f"{norm}_search", f"under {name}, with the search,", right))
    return [_contest(one) for one in found]


def _contest(one) -> dict[str, Any]:
    right = {name: bits(images) for name, images in one.right.items()}
    return {"name": one.name, "under": one.under, "right": right}


def values(run) -> dict[str, dict[str, float]]:
    """Column -> defence -> percent: Table 1, with the search and, where it was run, with all."""
    from ldatlib.report import tables
    from ldatlib.report.comparisons import right_images, share
    from ldatlib.report.document.scrutiny import Scrutiny
    from ldatlib.report.words import NORMS

    found: dict[str, dict[str, float]] = {}
    trainings = run.select_seed(run.trainings())
    keys = ["natural", *(attack.key for attack in run.table1_attacks()), *NORMS]
    for record in run.records("whitebox", trainings):
        for key in keys:
            percent = 100 * share(right_images(record, key)).value
            found.setdefault(key, {})[record.defence] = round(percent, 2)
    for one in searched(run)[1:]:
        found[one["name"]] = {
            name: round(100 * right.count("1") / len(right), 2)
            for name, right in one["right"].items()
        }
    scrutiny = Scrutiny(run)
    kinds = (scrutiny.auto, scrutiny.search, scrutiny.masking, scrutiny.adaptive)
    if all(len(each) == len(trainings) for each in kinds):
        for row in rows(tables.scrutiny(*_scrutinised(scrutiny))):
            found.setdefault(f"{row['norm']}_all", {})[row["defence"]] = row["worst_case"]
    return found


def _scrutinised(found) -> tuple:
    """The arguments of ``tables.scrutiny``."""
    return (
        [found.whitebox[name].record for name in found.names],
        [found.auto[name].record for name in found.names],
        {name: found.others(name) for name in found.names},
    )


def of_page(text: str) -> dict[str, dict[str, float]]:
    """The same of Table 1 as docs/demo.md had it: rows ``| title | measured | ...``."""
    from ldatlib.defences import TITLES

    names = {title: name for name, title in TITLES.items()}
    found: dict[str, dict[str, float]] = {key: {} for key in _ON_THE_PAGE}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in names and cells[1:2] == ["measured"]:
            for key, cell in zip(_ON_THE_PAGE, cells[2:], strict=True):
                found[key][names[cells[0]]] = float(cell)
    return found


def beside(text: str, run) -> dict[str, Any]:
    """Another run's numbers; ``text`` as ``--beside`` takes it."""
    from ldatlib.errors import UserError
    from ldatlib.study.run import open_run

    name, _, where = text.partition("=")
    if not where:
        raise UserError(f"--beside {text}: it takes NAME=DIR or NAME=REVISION:docs/demo.md")
    if not Path(where).is_dir():
        command = ["git", "-C", str(PROJECT), "show", where]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"--beside {text}: neither a folder nor a page of a revision")
        return {"name": name, "page": where, "values": of_page(done.stdout)}
    other = open_run("demo", out=where, jobs=1)
    first = other.select_seed(other.trainings())
    jobs = [job for kind in ("whitebox", "search") for job in other.jobs_of(kind, first)]
    lacking = [job.path.stem for job in jobs if not job.done]
    if lacking:
        raise UserError(f"--beside {text}: no record {lacking[0]} there, of the same settings")
    found = {"values": values(other), "searched": searched(other)}
    return {"name": name, "source": source(other), **found}


def record(run, others: list[dict[str, Any]]) -> dict[str, Any]:
    """All that the pages need."""
    import torch

    from ldatlib.report import conclusions, tables
    from ldatlib.report.document.lead import what_was_run
    from ldatlib.report.document.scrutiny import Scrutiny

    finished(run)
    scrutiny, p = Scrutiny(run), run.profile
    trainings = run.select_seed(run.trainings())
    whitebox = run.records("whitebox", trainings)
    masking = [one.record for one in scrutiny.masking.values()]
    near = [t for t in trainings if t.name in ("trades", p.base)]
    features = dict(zip((t.title for t in near), run.records("features", near), strict=True))
    attacks = {name: t for name, t in run.attack_trainings().items() if name == REPLACED}
    replaced = dict(zip(attacks, run.records("basic", list(attacks.values())), strict=True))
    alarms = tables.masking_rows(masking)
    loud = alarms[alarms.verdict == "alarm"]
    return {
        "what": what_was_run(run, len(trainings)),
        "base": p.base,
        "budgets": {"linf": p.eps_linf, "l2": p.eps_l2},
        "images": {"all": p.eval_images, "sweep": p.sweep_images, "first": p.scrutiny_images},
        "contests": contests(run),
        "table1": rows(tables.table1(whitebox)),
        "scrutiny": rows(tables.scrutiny(*_scrutinised(scrutiny))),
        "detector": rows(tables.adaptive_at_frozen(*scrutiny.aimed())),
        "alarms": {name: list(own.test) for name, own in loud.groupby("defence", sort=False)},
        "probes": conclusions.probes(features),
        "replaced": {
            name: {key: column.robust_accuracy.value for key, column in found.attacks.items()}
            for name, found in replaced.items()
        },
        "provenance": source(run),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "values": values(run),
        "searched": searched(run),
        "seconds": seconds(run),
        "validation": validation(run),
        "others": others,
    }


def main() -> int:
    from ldatlib.errors import UserError
    from ldatlib.files import read_json, write_json
    from ldatlib.study.run import open_run

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=str(PROJECT / "runs" / "demo"), metavar="DIR")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=DIR")
    options = parser.parse_args()
    try:
        run = open_run("demo", out=options.folder, jobs=1)
        added = [beside(text, run) for text in options.beside]
        names = {one["name"] for one in added}
        known = read_json(RECORD)["others"] if RECORD.is_file() else []
        made = record(run, [*(one for one in known if one["name"] not in names), *added])
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(RECORD, made)
    shutil.copyfile(run.root / "figures" / "fig4.png", FIGURE)
    print(f"{RECORD.relative_to(PROJECT)}: {RECORD.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
