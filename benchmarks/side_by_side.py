"""Time candidates side by side, in one process and in turns, so that a noisy machine is fair.

Every round times each candidate once, in an order that changes; what counts is the median over
rounds of the ratio within a round. Nothing here has a threshold.
"""

import argparse
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import torch
from torch import nn

from ldatlib.execution import place
from ldatlib.study.provenance import provenance
from ldatlib.study.run import Run, open_run
from ldatlib.training.checkpoint import load_model


def parser(about: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=about)
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result.add_argument("--threads", type=int, default=torch.get_num_threads())
    result.add_argument("--rounds", type=int, default=5)
    result.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    return result


def begin(options: argparse.Namespace) -> torch.device:
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    source = provenance(device)
    libraries = ", ".join(f"{k} {v}" for k, v in source["libraries"].items() if v)
    print(f"{date.today()}, {source['device']}, {source['threads']} threads, {libraries}")
    print(f"Python {platform.python_version()}, revision {(source['revision'] or 'none')[:10]}\n")
    return device


def demo_network(device: torch.device) -> tuple[Run, Path, nn.Module]:
    """The demo's run, the file of its PGD-AT network, and that network as the notebooks have it."""
    run = open_run("demo")
    training = run.training("standard")
    if not run.jobs_of("train", [training])[0].done:
        raise SystemExit("train the network first: python runner.py --only 02")
    path = run.checkpoint_path(training)
    return run, path, place(load_model(path), device)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started


class Apart:
    """A candidate in a process of its own: what this project sets for its process is not set there.

    ``make(*arguments)`` runs in that process and returns the work; calling the candidate does the
    work once and returns what it returns. All of them are picklable, tensors on the CPU.
    """

    def __init__(self, make: Callable[..., Callable[[], object]], *arguments: object):
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        parts = (theirs, torch.get_num_threads(), make, arguments)
        self._process = spawn.Process(target=_serve, args=parts, daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def __call__(self) -> object:
        self._pipe.send("once")
        return self._pipe.recv()


def _serve(pipe, threads: int, make: Callable, arguments: tuple) -> None:
    torch.set_num_threads(threads)
    work = make(*arguments)
    pipe.send("ready")
    while True:
        try:
            pipe.recv()
        except EOFError:  # the benchmark has ended
            return
        found = work()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        pipe.send(found)


def measure(
    candidates: Mapping[str, Callable[[], object]], device: torch.device, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, after one round that does not count."""
    for work in candidates.values():
        work()
    result: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        names = list(candidates)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            result[name].append(_seconds(candidates[name], device))
    return result


def table(seconds: dict[str, list[float]], against: str, images: int) -> None:
    """A row a candidate: median seconds, images a second, and the ratio to ``against``."""
    print(f"| what | seconds | images/s | ratio to {against} |")
    print("| --- | ---: | ---: | ---: |")
    for name, values in seconds.items():
        pairs = zip(values, seconds[against], strict=True)
        ratio = statistics.median(own / other for own, other in pairs)
        median = statistics.median(values)
        print(f"| {name} | {median:.3f} | {images / median:.1f} | {ratio:.3f} |")
    print()
