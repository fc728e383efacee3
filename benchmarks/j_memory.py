"""(j) Memory and seconds of folders of pictures: large ones mapped, very many listed. Linux only.

Anonymous memory is what is a process's own, as ``RssAnon`` of ``/proc/PID/status`` says, looked at
every 20 ms; pages of a mapped file are not in it, as processes share them and the system takes them
back. Pictures are generated into a temporary folder (``TMPDIR``), 6 GB for the largest.
"""

import contextlib
import gc
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from side_by_side import begin, measure, parser, table

from ldatlib.data import load_dataset
from ldatlib.data.listing import list_pictures
from ldatlib.data.pixels import pieces

SIDE, BATCH = 256, 128
# Pictures of SIDE x SIDE, a tenth of them to test on; names of 8x8 pictures.
LARGE, QUICK_LARGE = (1_100, 5_500, 16_500), (220, 440)
MANY, QUICK_MANY = 200_000, 2_000
# One step of a small network: what is measured is the data.
TRAIN = "depth=8 width=4 stages=3 batch_size=4 val_size=50 epochs=1 precision=float32"


def pictures(root: Path, count: int) -> None:
    """JPEG files of smooth random colours in two classes."""
    rng = np.random.default_rng(0)
    for split, of_split in (("train", count - count // 11), ("test", count // 11)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
        for number in range(of_split):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            picture = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            picture.save(root / split / "ab"[number % 2] / f"{number:06}.jpg", quality=85)


def names(root: Path, count: int) -> None:
    """PNG files of 8x8 in ten classes; one content, for only the names matter here."""
    content = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(content, "PNG")
    for split, share in (("train", 0.95), ("test", 0.05)):
        for label in range(10):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(int(count * share) // 10):
                (folder / f"picture-{number:06}.png").write_bytes(content.getvalue())


def anonymous(pid: int | str = "self") -> int:
    """Bytes of anonymous resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(s.split()[1]) for s in status.splitlines() if s.startswith("RssAnon")) * 1024


def watched(command: list[str]) -> tuple[float, int]:
    """Seconds of a command that stops at its time limit, and the most anonymous memory it had."""
    started, most = time.perf_counter(), 0
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while child.poll() is None:
        with contextlib.suppress(OSError, StopIteration):  # it has just ended
            most = max(most, anonymous(child.pid))
        time.sleep(0.02)
    said = child.stdout.read() if child.stdout else ""
    if child.returncode not in (0, 3):
        raise SystemExit(said)
    return time.perf_counter() - started, most


def training(folder: Path, sizes: tuple[int, ...], threads: int, device: torch.device) -> Path:
    """A step on each folder, twice; returns the largest."""
    print(f"`ldat train --profile folder`, one step, {SIDE}x{SIDE}\n")
    print("| pictures | pixels GiB | start | seconds | anonymous MiB |")
    print("| ---: | ---: | --- | ---: | ---: |")
    for count in sizes:
        root, run = folder / f"large-{count}", folder / f"run-{count}"
        pictures(root, count)
        command = [sys.executable, "-m", "ldatlib", "train", "--profile", "folder"]
        for setting in (f"data_root={root}", *TRAIN.split()):
            command += ["--set", setting]
        command += ["--training", "natural"]
        command += ["--out", str(run), "--time-limit", "1s", "--device", str(device)]
        os.environ["OMP_NUM_THREADS"] = str(threads)
        for start in ("first", "second", "third"):
            seconds, most = watched(command)
            size = count * 3 * SIDE**2 / 2**30
            print(f"| {count:,} | {size:.2f} | {start} | {seconds:.1f} | {most / 2**20:.0f} |")
    print()
    return root


def batches(root: Path, cache: Path, rounds: int, device: torch.device) -> None:
    """Batches in random order from the mapped file against a tensor in memory."""
    mapped = load_dataset("folder", root=root, val_size=50, cache=cache).images["train"]
    count = min(len(mapped), 2**30 // (3 * SIDE**2))
    mapped = mapped[:count] if isinstance(mapped, torch.Tensor) else mapped.select(slice(count))
    memory = torch.cat(list(pieces(mapped)))
    order = torch.randperm(count).split(BATCH)

    def work(pixels) -> None:
        for index in order:
            pixels[index].to(device)

    print(f"batches of {BATCH} in random order, {memory.numel() / 2**30:.2f} GiB\n")
    candidates = {"from memory": lambda: work(memory), "from the file": lambda: work(mapped)}
    table(measure(candidates, device, rounds), "from memory", count)


def listing(root: Path, count: int) -> None:
    names(root, count)
    gc.collect()
    before, started = anonymous(), time.perf_counter()
    found = list_pictures(root)
    seconds, taken = time.perf_counter() - started, anonymous() - before
    assert sum(len(files) for classes in found.values() for files in classes.values()) == count
    print("| pictures listed | seconds | MiB |")
    print("| ---: | ---: | ---: |")
    print(f"| {count:,} | {seconds:.2f} | {taken / 2**20:.1f} |")
    times = 10
    more = f"{seconds * times:.1f} | {taken * times / 2**20:.0f}"
    print(f"| {times * count:,}, extrapolated | {more} |\n")


def main() -> None:
    options = parser(__doc__).parse_args()
    if not Path("/proc/self/status").is_file():
        raise SystemExit("this system does not say what memory is a process's own")
    device = begin(options)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        listing(folder / "many", QUICK_MANY if options.quick else MANY)
        sizes = QUICK_LARGE if options.quick else LARGE
        largest = training(folder, sizes, options.threads, device)
        batches(largest, folder / f"run-{sizes[-1]}" / "cache", options.rounds, device)


if __name__ == "__main__":
    main()
