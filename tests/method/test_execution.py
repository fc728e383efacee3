"""How a network runs: what a process does with the memory of freed tensors."""

import os
import platform
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone")
def test_a_placed_network_keeps_the_pages_of_its_tensors():
    kept, recorded, alone, after = churn()
    assert (kept, recorded) == ("True", "True")
    # Small blocks that settle in the hole of a large one make a new one necessary, now and then.
    assert int(after) < int(alone) / 4


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
