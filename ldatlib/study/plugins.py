"""Defences and networks of strangers: a Python file that registers them, loaded wherever needed.

A plug-in is loaded in the process that opens a run, in every worker and in every notebook's
kernel: its path is part of the profile (``plugins``), which travels everywhere. The hash of its
source is part of the key of every training that uses what it registers.
"""

import hashlib
import sys
import traceback
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ldatlib import models
from ldatlib.defences import registry
from ldatlib.errors import UserError
from ldatlib.files import write_bytes
from ldatlib.training.config import TrainConfig


@dataclass(frozen=True)
class Plugin:
    """A loaded file, its source and the hash of it, and the names that it registered."""

    path: Path
    source: bytes
    sha256: str
    defences: tuple[str, ...]
    networks: tuple[str, ...]


# By the hash of the source: a copy of a loaded file is that file.
_LOADED: dict[str, Plugin] = {}


def load(paths: Iterable[str | Path]) -> list[Plugin]:
    """Load plug-in files in this process, each once; loaded ones are passed over.

    Raises ``UserError`` where a file is missing, fails, registers nothing, or registers a name
    that is taken.
    """
    return [load_source(path, _read(path)) for path in (Path(p).expanduser() for p in paths)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the plug-in {path}: {error.strerror}") from error


def load_source(path: Path, source: bytes) -> Plugin:
    """Load a plug-in from its source; ``path`` is its name. Raises as ``load``."""
    sha256 = hashlib.sha256(source).hexdigest()
    if sha256 in _LOADED:
        return _LOADED[sha256]
    before = set(registry.defence_names()), set(models.network_names())
    # A name of its own: two plug-ins of one file name do not meet, and none hides a library.
    name = f"ldat_plugin_{sha256[:12]}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # Its dataclasses look their module up here.
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
        defences = tuple(n for n in registry.defence_names() if n not in before[0])
        networks = tuple(n for n in models.network_names() if n not in before[1])
        if not defences and not networks:
            raise UserError("it registers no defence and no network (see docs/plugins.md)")
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        for added in set(registry.defence_names()) - before[0]:
            registry.unregister_defence(added)
        for added in set(models.network_names()) - before[1]:
            models.unregister_network(added)
        raise UserError(f"the plug-in {path} does not load: {_reason(error, path)}") from error
    _LOADED[sha256] = Plugin(path.resolve(), source, sha256, defences, networks)
    return _LOADED[sha256]


def _reason(error: BaseException, path: Path) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UserError):
        return text
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {text}"


def loaded(paths: Iterable[str]) -> list[Plugin]:
    """Those of the loaded plug-ins that came from these files, as they were then."""
    return [plugin for plugin in _LOADED.values() if str(plugin.path) in paths]


def forget() -> None:
    """Unload every plug-in: what they registered is unknown again."""
    for plugin in _LOADED.values():
        for name in plugin.defences:
            registry.unregister_defence(name)
        for name in plugin.networks:
            models.unregister_network(name)
    _LOADED.clear()


def source_of(config: TrainConfig) -> str | None:
    """The hash of the plug-ins that a training's defence and network come from; None: ours."""
    architecture = config.network.architecture if config.network else None
    used = [
        plugin.sha256
        for plugin in _LOADED.values()
        if config.defence.name in plugin.defences or architecture in plugin.networks
    ]
    return "+".join(sorted(used)) or None


def copy_into(root: Path, paths: Iterable[str | Path]) -> list[Path]:
    """Keep the plug-ins with what is computed with them: ``plugins/HASH-NAME`` of a run.

    Returns the copies, which stay what they are while somebody works on the originals.
    """
    copies = []
    for plugin in load(paths):
        name = plugin.path.name
        if not name.startswith(plugin.sha256[:10]):
            name = f"{plugin.sha256[:10]}-{name}"
        copies.append(root / "plugins" / name)
        if not copies[-1].is_file():
            write_bytes(copies[-1], plugin.source)
    return copies
