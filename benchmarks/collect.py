"""Run the benchmarks one after another and put what they say into benchmarks/README.md.

    python benchmarks/collect.py                     all of them, on this machine's CPU
    python benchmarks/collect.py a c                 some
    python benchmarks/collect.py --device cuda a c e on a GPU

What is measured stands in benchmarks/results, a file each; one that is there for the same revision
is not measured again, so an interrupted call goes on. Measure on a machine that does nothing else.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tools")]

from published_tables import fill  # noqa: E402

RESULTS = HERE / "results"
NOTHING = "Not measured yet."


def scripts() -> dict[str, Path]:
    return {path.name[0]: path for path in sorted(HERE.glob("[a-z]_*.py"))}


def measure(path: Path, device: str, more: list[str]) -> str:
    """What the script prints."""
    # The demo is run on whatever there is, by a process of its own.
    chosen = [] if path.name.startswith("f_") else ["--device", device]
    command = [sys.executable, str(path), *chosen, *more]
    print("$", *[Path(part).name if "/" in part else part for part in command[1:]], flush=True)
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
    if done.returncode:
        raise SystemExit(done.stderr.strip() or done.stdout.strip())
    return done.stdout.strip() + "\n"


def revision() -> str:
    from ldatlib.study.provenance import provenance

    return (provenance("cpu")["revision"] or "none")[:10]


def page(text: str) -> str:
    """The page with what is in ``results`` between its markers."""
    names = [f"{device}-{letter}" for device in ("cpu", "cuda") for letter in scripts()]
    rendered = {}
    for name in names:
        path = RESULTS / f"{name}.md"
        rendered[name] = path.read_text(encoding="utf-8").strip() if path.is_file() else NOTHING
    return fill(text, rendered)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("letters", nargs="*", help="a to k; none: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    parser.add_argument("--rounds", metavar="N", help="turns of every candidate (default: 5)")
    parser.add_argument("--force", action="store_true", help="measure again what is there")
    options = parser.parse_args()
    known = scripts()
    for letter in options.letters:
        if letter not in known:
            parser.error(f"no benchmark {letter!r}; known: {', '.join(known)}")
    RESULTS.mkdir(exist_ok=True)
    for letter in options.letters or known:
        path = RESULTS / f"{options.device}-{letter}.md"
        found = path.is_file() and f"revision {revision()}" in path.read_text(encoding="utf-8")
        if found and not options.force and not options.quick:
            print(f"({letter}) is there for this revision")
            continue
        more = ["--quick"] if options.quick else []
        if options.rounds and letter != "f":
            more += ["--rounds", options.rounds]
        said = measure(known[letter], options.device, more)
        print(said)
        if not options.quick:
            path.write_text(said, encoding="utf-8")
            readme = HERE / "README.md"
            readme.write_text(page(readme.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
