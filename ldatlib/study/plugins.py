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

import torch

from ldatlib import models
from ldatlib.defences import registry
from ldatlib.errors import UserError
from ldatlib.files import as_path, write_bytes
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
    loaded = [load_source(path, _read(path)) for path in (as_path(p, "plugins") for p in paths)]
    # One file under two names, or copied, is one plug-in.
    return list({plugin.sha256: plugin for plugin in loaded}.values())


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
    for plugin in [p for p in _LOADED.values() if p.path == path.resolve()]:
        _forget(plugin)  # the file was edited since
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
        for network in networks:
            _try_network(network)
        for defence in defences:
            _try_defence(defence)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        for added in set(registry.defence_names()) - before[0]:
            registry.unregister_defence(added)
        for added in set(models.network_names()) - before[1]:
            models.unregister_network(added)
        raise UserError(f"the plug-in {path} does not load: {_reason(error, path)}") from error
    _LOADED[sha256] = Plugin(path.resolve(), source, sha256, defences, networks)
    return _LOADED[sha256]


def _try_network(name: str) -> None:
    """Two images through a network that was registered: features [N, D], as it says itself."""
    config = models.NetworkConfig(num_classes=3, architecture=name, depth=10, width=4, stages=1)
    try:
        with torch.random.fork_rng(devices=[]):
            logits = models.build_network(config)(torch.rand(2, config.in_channels, 32, 32))
        if logits.shape != (2, 3):
            raise ValueError(f"logits of shape {list(logits.shape)} for 2 images, 3 classes")
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"network {name}: it must take (config) and map images [N, channels, H, W] to "
            f"features [N, feature_dim]: {type(error).__name__}: {error}"
        ) from error


def _try_defence(name: str) -> None:
    """The loss of a defence that was registered, on two images: a scalar and its parts."""
    defence = registry.make_defence(name, eps_linf=8 / 255, eps_l2=0.5, radius=1.5)
    config = models.NetworkConfig(
        num_classes=3, head=defence.head, depth=4, stages=1, width=4, in_channels=1
    )
    with torch.random.fork_rng(devices=[]):
        model, teacher = models.build_network(config), models.build_network(config)
        x, y = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    try:
        loss, parts = defence.loss(
            model, x, x.clone(), y, progress=1.0, teacher=teacher if defence.needs_teacher else None
        )
        if loss.ndim or not loss.requires_grad:
            raise ValueError(f"a loss of shape {list(loss.shape)}, or one without a gradient")
        if any(torch.as_tensor(part).ndim for part in parts.values()):
            raise ValueError("parts that are no scalars")
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"defence {name}: loss must return a scalar to minimise and a dictionary of scalars "
            f"for the log: {type(error).__name__}: {error}"
        ) from error


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
    for plugin in list(_LOADED.values()):
        _forget(plugin)


def _forget(plugin: Plugin) -> None:
    del _LOADED[plugin.sha256]
    for name in set(plugin.defences) & set(registry.defence_names()):
        registry.unregister_defence(name)
    for name in set(plugin.networks) & set(models.network_names()):
        models.unregister_network(name)


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
