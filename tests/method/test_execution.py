"""How a network runs: the memory of freed tensors, and processes side by side."""

import os
import platform
import shutil
import subprocess
import sys

import pytest
from tiny import PROJECT

# Blocks larger than any that glibc keeps by itself.
CHURN = """
import resource, torch
from ldatlib.execution import keep_pages, place
from ldatlib.study.provenance import provenance

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

alone = faults(20)
place(torch.nn.Conv2d(1, 1, 1), "cpu")
faults(20)
print(keep_pages(), provenance("cpu")["keeps_pages"], alone, faults(20))
"""


def churn(**environment: str) -> list[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", CHURN]
    said = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=PROJECT, env=kept | environment
    )
    return said.stdout.split()


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone")
def test_a_placed_network_keeps_the_pages_of_its_tensors():
    kept, recorded, alone, after = churn()
    assert (kept, recorded) == ("True", "True")
    # Small blocks that settle in the hole of a large one make a new one necessary, now and then.
    assert int(after) < int(alone) / 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        {"MALLOC_MMAP_THRESHOLD_": "65536"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"},
    ],
)
def test_whoever_sets_the_allocator_is_left_alone(setting):
    kept, recorded, alone, after = churn(**setting)
    assert (kept, recorded) == ("False", "False")
    assert int(after) > int(alone) / 2


ALONE = """
import os, sys
import joblib
import runner
from ldatlib.evaluation.side_by_side import spread
from ldatlib.study.schedule import has_locks

print(has_locks(), spread(lambda _: os.getpid(), [(1,), (2,)], 2) == [os.getpid()] * 2)
runner.release_workers()
"""


@pytest.mark.slow
def test_a_read_only_shared_memory_leaves_one_process():
    """No threads in its place: they would share the random state that attacks draw from."""
    mount = "mount -t tmpfs -o ro tmpfs /dev/shm"
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-Urm", "sh", "-c", mount]).returncode
    ):
        pytest.skip("no mounts of one's own here")
    command = ["unshare", "-Urm", "sh", "-c", f'{mount} && exec "$0" -W ignore -c "$1"']
    done = subprocess.run(
        [*command, sys.executable, ALONE], capture_output=True, text=True, cwd=PROJECT
    )
    assert done.stdout == "False True\n", done.stderr
    assert done.stderr.startswith("processes have no locks here, one works alone: [Errno 30]")
    assert done.stderr.count("\n") == 1
