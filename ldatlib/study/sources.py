"""Somebody's model by one text: a function that returns it, a checkpoint, an exported program.

Files that are unpickled when they are read are refused: whoever trusts one loads it in a function,
and whoever trusts an exported program says so.
"""

import hashlib
import importlib
import re
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldatlib.data.names import shown
from ldatlib.errors import UserError, one_line
from ldatlib.evaluation.gate.exported import Exported
from ldatlib.execution import default_device
from ldatlib.files import exists, path_of
from ldatlib.training.checkpoint import load_model

# Endings of files that are unpickled, or run, when they are read.
_PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".torchscript", ".jit")
_KNOWN = (
    "FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION (a function that returns the model), a checkpoint "
    "of ours, NAME.safetensors, or an exported program, NAME.pt2"
)

# What sources have imported from beside them, by folder and name.
_HELPERS: dict[Path, dict[str, types.ModuleType]] = {}
# Folders that imports see only since a source lies there.
_ADDED: set[Path] = set()


def model_of(source: str, *, trust: bool = False) -> Callable:
    """The model that a text names, a module on the chosen device (``execution.default_device``).

    ``FILE.py:NAME`` and ``PACKAGE.MODULE:NAME``: a function that is called without arguments and
    returns the model, or a module itself; a file sees its own folder, a module the current one.
    ``NAME.safetensors``: a checkpoint of ours. ``NAME.pt2``: a program of ``torch.export``, where
    the caller trusts it (``trust``), since loading it may run code.

    Raises
    ------
    UserError : a file that is unpickled when it is read, a program without ``trust``, a name that
        is not there, a function that fails or returns nothing that can be called.
    """
    text = source.strip()
    if text.lower().endswith(_PICKLED):
        raise UserError(
            f"{shown(text)} is not read: such files may run code when they are; write a function "
            "that loads it and returns the module, and name it FILE.py:FUNCTION"
        )
    if text.lower().endswith(".pt2"):
        return _program(text, trust)
    if text.endswith(".safetensors"):
        path = path_of(text)
        if not exists(path):
            raise UserError(f"there is no checkpoint {shown(path)}")
        return load_model(path).to(default_device())
    found = attribute_of(text)
    if not isinstance(found, nn.Module):
        place = text.rpartition(":")[0]
        of_file = place.endswith(".py")
        folder = path_of(place).resolve().parent if of_file else Path.cwd()
        with _seeing(folder, carry=of_file):
            found = _called(found, text)
    return found.to(default_device()) if isinstance(found, nn.Module) else found


def _program(text: str, trust: bool) -> Exported:
    if not trust:
        raise UserError(
            f"{shown(text)} is not read: loading an exported program unpickles a part of it, which "
            "can run any code; add --trust if you trust whoever made it"
        )
    path = path_of(text)
    if not exists(path):
        raise UserError(f"there is no exported program {shown(path)}")
    try:
        program = torch.export.load(path)
    except Exception as error:  # whatever zip, JSON, unpickling and torch's versions raise
        raise UserError(
            f"{shown(path)} does not load as an exported program: {_reason(error)}"
        ) from error
    device = default_device()
    if device.type != "cpu":
        # Not .to(device): what the program makes itself lies where it was exported.
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    try:
        return Exported(program)
    except UserError as error:
        raise UserError(f"{shown(path)}: {error}") from error


def attribute_of(source: str) -> Any:
    """What ``FILE.py:NAME`` or ``PACKAGE.MODULE:NAME`` stands for; raises as ``model_of``."""
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise UserError(f"{shown(source)!r} names no model; known: {_KNOWN}")
    if place.endswith(".py"):
        module = _from_file(path_of(place))
    elif re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", place):
        module = _imported(place)
    else:
        raise UserError(f"{shown(source)!r} names no model; known: {_KNOWN}")
    if not hasattr(module, name):
        public = [
            key
            for key, value in vars(module).items()
            if callable(value)
            and not key.startswith("_")
            and getattr(value, "__module__", None) == module.__name__
        ]
        there = f"; it has {', '.join(public[:8])}" if public else ""
        raise UserError(f"{shown(place)} has no {name}{there}")
    return getattr(module, name)


def _from_file(path: Path) -> types.ModuleType:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {shown(path)}: {error.strerror}") from error
    # A name of its own: it hides no library, and none hides it.
    name = f"ldat_source_{hashlib.sha256(content).hexdigest()[:12]}"
    module = types.ModuleType(name)
    module.__file__ = str(path.resolve())
    sys.modules[name] = module
    with _seeing(path.resolve().parent):
        try:
            exec(compile(content, str(path), "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise UserError(f"{shown(path)} does not load: {_reason(error)}") from error
    _carry(module)
    return module


@contextmanager
def _seeing(folder: Path, carry: bool = True) -> Iterator[None]:
    """Inside, imports see what lies in ``folder``, and nothing that lies beside another source.

    After it a name that several folders have stands for none of them: what is imported only when a
    model runs would be the other's, unnoticed; so it fails. ``carry`` as of ``_carry``.
    """
    paths, own = list(sys.path), _HELPERS.setdefault(folder, {})
    if str(folder) not in paths:
        _ADDED.add(folder)
        paths.insert(0, str(folder))
    away = {str(other) for other in _ADDED if other != folder}
    for name in {name for of in _HELPERS.values() for name in of}:
        sys.modules.pop(name, None)
    sys.modules.update(own)
    before = set(sys.modules)
    sys.path[:] = [str(folder), *(p for p in paths if p not in away and p != str(folder))]
    try:
        yield
    finally:
        for name in sorted(set(sys.modules) - before):
            helper = sys.modules[name]
            if helper is not None and _beside(name, folder):
                own[name] = helper
                if carry:
                    _carry(helper)
        sys.path[:] = paths
        for other in _HELPERS.values():
            for name, module in other.items():
                alone = sum(name in of for of in _HELPERS.values()) == 1
                sys.modules[name] = module if alone else None  # type: ignore[assignment]


def _beside(name: str, folder: Path) -> bool:
    """Whether a module, or the package it is of, lies in ``folder``; our own does not count."""
    top = sys.modules.get(name.partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is None or name.partition(".")[0] == __name__.partition(".")[0]:
        return False
    place = Path(file).resolve().parent
    return place == folder or (place.parent == folder and Path(file).name == "__init__.py")


def _carry(module: types.ModuleType) -> None:
    """Processes that share an evaluation get the module's own classes, which they cannot import.

    What lies beside the file, too: a process that waits from an earlier evaluation does not look
    for modules there.
    """
    try:
        from joblib.externals import cloudpickle  # its own, before joblib 1.6
    except ImportError:
        import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def _imported(name: str) -> types.ModuleType:
    try:
        with _seeing(Path.cwd(), carry=False):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UserError(f"the module {name} does not load: {_reason(error)}") from error


def _called(function: Any, source: str) -> Callable:
    if not callable(function):
        kind = type(function).__name__
        raise UserError(f"{shown(source)} is a {kind}, no function that returns the model")
    try:
        found = function()
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{shown(source)} is called without arguments to get the model, and fails: "
            f"{_reason(error)}"
        ) from error
    if not callable(found):
        kind = type(found).__name__
        raise UserError(
            f"{shown(source)} returns a {kind}, no model: return a module or a function from "
            "images to logits"
        )
    return found


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
