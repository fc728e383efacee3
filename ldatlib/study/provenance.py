"""What every record says of where it comes from."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from ldatlib.execution import keep_pages

_LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "foolbox", "pyautoattack")


def provenance(device: torch.device | str) -> dict:
    """Source revision, versions of Python and the libraries, device, what of the device is used.

    Not part of any key.
    """
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "revision": _revision(),
        "python": platform.python_version(),
        "libraries": {library: _version(library) for library in ("ldatlib", *_LIBRARIES)},
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "keeps_pages": keep_pages(),
    }


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The commit of the source tree, ``+changes`` where it differs; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
