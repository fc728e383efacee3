"""Write published results into docs, from records alone: cifar10-small, the demo, the fuzz, broken
defences, and plans played through on several machines.

Tables and pictures: the latter go to docs/images.

    python tools/published_tables.py            rewrites what stands between the markers
    python tools/published_tables.py --check    says what would change; exit status 1 if anything

A marker is a line ``<!-- begin NAME -->`` with its ``<!-- end NAME -->``. Nothing is typed by hand.
"""

import argparse
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tools")]

import cifar_pages  # noqa: E402
import demo_pages  # noqa: E402
import plan_pages  # noqa: E402
from markers import fill, markdown  # noqa: E402

PAGES = (
    "README.md",
    "docs/demo.md",
    "docs/cifar10.md",
    "docs/regularizer.md",
    "docs/reliability.md",
    "docs/scale.md",
    "docs/profiles.md",
    "docs/broken.md",
)
DEMO = PROJECT / "data" / "results" / "demo.json"
FUZZ = PROJECT / "data" / "results" / "fuzz.json"
BROKEN = PROJECT / "data" / "results" / "broken.json"
ENGINE = PROJECT / "benchmarks" / "results" / "cpu-k.md"
# Points between two numbers that are called near each other.
NEAR = 0.05


def fuzz() -> str:
    """How the generated calls ended, a row a target, and in all: what tools/fuzz.py has counted."""
    import pandas as pd

    from ldatlib.files import read_json

    found = read_json(FUZZ)
    counts = ["calls", "successes", "refusals", "findings"]
    frame = pd.DataFrame(found["targets"])[["target", "about", *counts]]
    frame.loc[len(frame)] = ["in all", "", *frame[counts].sum()]
    frame = frame.rename(columns={"about": "generated", "successes": "succeeded"})
    frame = frame.rename(columns={"refusals": "refused"})
    minutes = sum(row["seconds"] for row in found["targets"]) / 60
    return f"{markdown(frame, 2)}\n\nTaken together {minutes:.0f} minutes of one core."


def engine() -> str:
    """What Dask's engine costs beside joblib's: benchmark (k), as it was measured last."""
    return ENGINE.read_text(encoding="utf-8").strip() if ENGINE.is_file() else "Not measured yet."


def _defence(row: dict) -> str:
    title = row["name"].replace("_", " ")
    return f"[{title}](examples/broken/{row['name']}.py)"


def ending(row: dict) -> str:
    """How the examination of a defence ended, beside the attacker who has read its code."""
    if row["examine"]["value"] - row["adaptive"]["value"] <= NEAR:
        return "believed" if not row["doubts"] else "doubted"
    return "above, doubted" if row["doubts"] else "above, believed"


def broken() -> str:
    """A row a defence: what every evaluation leaves right, in percent."""
    import pandas as pd

    from ldatlib.files import read_json

    rows = []
    for row in read_json(BROKEN)["defences"]:
        alone = f"{100 * row['autoattack']['value']:.1f}"
        if row["autoattack_version"] != "standard":
            alone = f"fails; {row['autoattack_version']} {alone}"
        numbers = {key: f"{100 * row[key]['value']:.1f}" for key in ("clean", "examine")}
        rows.append(
            {
                "defence": _defence(row) + (" (detector)" if row["detector"] else ""),
                "without attack": numbers["clean"],
                "AutoAttack alone": alone,
                "examine": numbers["examine"],
                "who has read the code": f"{100 * row['adaptive']['value']:.1f}",
                "examine's number is": ending(row),
            }
        )
    return markdown(pd.DataFrame(rows))


def _doubt(name: str) -> str:
    """A test for masking by its title."""
    from ldatlib.evaluation.masking.verdicts import TITLES

    kind, _, test = name.partition(" ")
    return f"masking: {TITLES[test]}" if kind == "masking" else name


def broken_said() -> str:
    """What examine says of each defence, by name, and what to try."""
    import pandas as pd

    from ldatlib.files import read_json

    rows = []
    for row in read_json(BROKEN)["defences"]:
        tried = row["belief"].partition("Try: ")[2]
        gate = [f"gate: {name}" for name in row["gate"] if f"gate: {name}" not in row["doubts"]]
        said = [_doubt(doubt.removeprefix("linf: ")) for doubt in row["doubts"]]
        rows.append(
            {
                "defence": _defence(row),
                "speaks against the number": "; ".join([*gate, *said]) or "nothing",
                "strongest": row["strongest"],
                "to try": tried,
            }
        )
    return markdown(pd.DataFrame(rows), 4)


def render(run) -> dict[str, str]:
    """Marker -> Markdown."""
    from ldatlib.files import read_json

    demo = read_json(DEMO)
    return {
        **cifar_pages.render(run),
        "reliability-fuzz": fuzz(),
        "scale-engine": engine(),
        "broken-table": broken(),
        "broken-said": broken_said(),
        **plan_pages.render(demo),
        **demo_pages.render(demo),
    }


def main() -> int:
    from ldatlib.study.run import open_run

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = open_run("cifar10-published", out=folder, jobs=1)
        rendered = render(run)
        if not options.check:
            cifar_pages.draw(run, PROJECT / "docs" / "images")
    stale = []
    for page in PAGES:
        path = PROJECT / page
        old = path.read_text(encoding="utf-8")
        new = fill(old, rendered)
        if new != old:
            stale.append(page)
            if not options.check:
                path.write_text(new, encoding="utf-8")
    print("differs from the records:" if options.check else "rewritten:", stale or "nothing")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
