"""Files of a run: safetensors with a JSON header, and JSON; whole or not at all, never a pickle.

Each file carries a SHA-256 of its content, so that a cut or altered one is found and named. A
large file may be cut into shards, ``NAME-00001-of-00002.safetensors``; whoever reads
``NAME.safetensors`` gets them joined.
"""

import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from ldatlib.errors import Unwritable, UserError, one_line
from ldatlib.files.locks import check_held

# The whole library, not this room of it.
PACKAGE = Path(__file__).resolve().parents[1]
FORMAT = "ldatlib-checkpoint-2"
_OURS = secrets.token_hex(2)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")
CHECKSUM = "sha256"
# Beyond what any file of ours has; of a header what the format allows.
_MOST_TEXT, _MOST_HEADER, _MOST_TENSORS = 2**26, 100_000_000, 50_000


def home() -> Path:
    """Where results and downloads go: the checkout that this library lies in, notebooks and all,
    or the current folder where it is installed by itself."""
    return PACKAGE.parent if (PACKAGE.parent / "runner.py").is_file() else Path.cwd()


def as_path(value: str | os.PathLike[str], what: str) -> Path:
    """A path that a caller gave as ``what``, ``~`` expanded; ``UserError`` where it is none."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text:
        raise UserError(f"{what} must be a path, as text or a Path, not {value!r}")
    return path_of(text)


def check_writable(path: Path) -> None:
    """Raises ``UserError`` where ``write_bytes`` would: a folder of that name, or a closed one."""
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder; choose another name for the file")
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def path_of(text: str | Path) -> Path:
    """A path as users write it: ``~`` is the home folder, ``~somebody`` that of another user.

    Where there is no such user it is a name like any other.
    """
    return Path(os.path.expanduser(text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; errors are those of ``replacing``."""
    with replacing(path) as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which becomes ``path`` at the end: readers see the old one or the new.

    Raises ``Busy`` where a lock of this process was taken over, ``Unwritable`` where it cannot be
    written. Whatever is raised inside, nothing is left.
    """
    temporary = _temporary(path)
    if not path.parent.is_dir():
        # One that went, unmounted perhaps, took the lock with it, and is not made anew.
        check_held()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        check_held()
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if os.path.lexists(temporary):
            temporary.unlink()


def _temporary(path: Path) -> Path:
    # Processes of two machines may have one number.
    return path.with_name(f".{path.name}.{os.getpid()}{_OURS}.tmp")


def left_behind(path: Path) -> list[Path]:
    """What processes that were killed while they wrote ``path`` have left; some may be at work."""
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))


def _unwritable(path: Path, error: OSError) -> Unwritable:
    return Unwritable(f"cannot write {path}: {error.strerror}; make room or choose another folder")


def write_json(path: Path, content: dict) -> None:
    """Atomic JSON, numbers as numbers, with a checksum; NaN and infinity are refused."""
    content = {key: value for key, value in content.items() if key != CHECKSUM}
    # Through JSON once: what is read back has strings for keys and lists for tuples.
    content = json.loads(json.dumps(content, allow_nan=False))
    text = json.dumps({**content, CHECKSUM: _json_checksum(content)}, indent=1)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict:
    """A record, whole and as it was written; ``UserError`` names one that is not."""
    try:
        content = json.loads(read_small_text(path))
        checksum = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
        found = checksum and _json_checksum(content)
    # Lists in lists in lists are a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the record {path}: {one_line(error)}; delete it") from error
    if not isinstance(content, dict):
        raise UserError(f"the record {path} is no record of ours; delete it")
    if checksum is None:
        raise UserError(f"the record {path} has no checksum: another version's; delete it")
    if checksum != found:
        raise UserError(f"the record {path} was altered: its checksum differs; delete it")
    return content


def read_json_lines(path: Path) -> list[dict]:
    """The lines of a log, each a dictionary; ``UserError`` where it is cut, or no log of ours."""
    try:
        lines = [json.loads(line) for line in read_small_text(path).splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the log {path}: {one_line(error)}; delete it") from error
    if not all(isinstance(line, dict) for line in lines):
        raise UserError(f"the log {path} is no log of ours; delete it")
    return lines


def log_checksum(lines: list[dict]) -> str:
    """SHA-256 of a log's lines but for their ``seconds``, which no two trainings share."""
    kept = [{key: line[key] for key in line if key != "seconds"} for line in lines]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_small_text(path: Path) -> str:
    """A file's text; ``ValueError`` where it is no UTF-8, or larger than any record or log."""
    with open(path, "rb") as stream:
        content = stream.read(_MOST_TEXT + 1)
    if len(content) > _MOST_TEXT:
        raise ValueError(f"it is larger than {_MOST_TEXT // 2**20} MiB, as no file of ours is")
    return content.decode()


def _json_checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save_tensors(
    path: Path,
    tensors: dict[str, Tensor],
    header: dict,
    *,
    half: bool = False,
    shard_bytes: int | None = None,
) -> None:
    """Tensors with a header of JSON values, atomically.

    ``half`` stores matrices and kernels as float16; vectors, such as batch norm's, keep float32:
    they are few, and small variances do not fit. ``shard_bytes`` cuts the file into shards of at
    most that many bytes of tensors, or of one tensor where it is larger.
    """
    plain = {}
    for name, tensor in tensors.items():
        if half and tensor.is_floating_point() and tensor.numel() > max(tensor.shape, default=1):
            tensor = tensor.half()
        plain[name] = tensor.detach().to("cpu", copy=True).contiguous()
    text = json.dumps(header, allow_nan=False)
    shards = _cut(plain, shard_bytes)
    whole = _tensor_checksum(plain, text)
    for number, names in enumerate(shards, 1):
        part = {name: plain[name] for name in names}
        metadata = {
            "format": FORMAT,
            "header": text,
            CHECKSUM: _tensor_checksum(part, text),
            "whole": whole,
        }
        target = path if len(shards) == 1 else _shard_path(path, number, len(shards))
        write_bytes(target, serialize(part, metadata))
    # What an earlier save with other shards has left would be a second answer.
    current = {path} if len(shards) == 1 else set(_shard_paths(path, len(shards)))
    for old in {path, *_shards_of(path)} - current:
        old.unlink(missing_ok=True)


def _cut(tensors: dict[str, Tensor], limit: int | None) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if limit and shards[-1] and size + bytes_ > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += bytes_
    return shards


def _shard_path(path: Path, number: int, count: int) -> Path:
    stem = path.name.removesuffix(".safetensors")
    return path.with_name(f"{stem}-{number:05}-of-{count:05}.safetensors")


def _shard_paths(path: Path, count: int) -> list[Path]:
    return [_shard_path(path, number, count) for number in range(1, count + 1)]


def _shards_of(path: Path) -> list[Path]:
    """Shards of ``NAME.safetensors`` that are there, complete or not."""
    stem = path.name.removesuffix(".safetensors")
    try:
        found = [p for p in path.parent.iterdir() if p.name.startswith(f"{stem}-")]
    except OSError:
        return []
    return sorted(p for p in found if _SHARD.fullmatch(p.name[len(stem) :]))


def pieces(path: Path) -> list[Path]:
    """The file, or its shards, as far as they are there."""
    return [path] if path.is_file() else _shards_of(path)


def exists(path: Path) -> bool:
    """Whether the file is there, whole or as shards (all of them: see ``load_tensors``)."""
    return bool(pieces(path))


def _tensor_checksum(tensors: dict[str, Tensor], header: str) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(path: Path, verify: bool = True) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of a file of ours, or of its shards.

    The tensors are mapped from the file: a page is read when it is looked at and shared with other
    processes; what is written into one goes into memory, never into the file. ``verify=False``
    leaves the checksum of a file alone, which reads all of it.

    Raises ``UserError`` where the file or one of its shards is missing, cut short, altered, not
    safetensors, or not ours.
    """
    path = Path(path)
    if path.is_file():
        tensors, metadata = _read(path, verify)
        return tensors, _header(path, metadata)
    found = _shards_of(path)
    if not found:
        raise UserError(f"no checkpoint {path}; train it first")
    counts = {int(match[2]) for match in map(_SHARD.search, (p.name for p in found)) if match}
    if len(counts) > 1:
        raise UserError(f"{path}: shards of two savings lie side by side; delete one of them")
    for wanted in _shard_paths(path, counts.pop()):
        if wanted not in found:
            raise UserError(f"the shard {wanted} is missing; bring it here or train again")
    tensors = {}
    for shard in found:
        part, metadata = _read(shard)
        tensors |= part
    if _tensor_checksum(tensors, metadata["header"]) != metadata.get("whole"):
        raise UserError(f"the shards of {path} do not belong together; bring all of one training")
    return tensors, _header(path, metadata)


def _read(path: Path, verify: bool = True) -> tuple[dict[str, Tensor], dict]:
    try:
        _check_size(path)
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            ours = metadata.get("format") == FORMAT and "header" in metadata
            tensors = {name: stream.get_tensor(name) for name in stream.keys()} if ours else {}
            checksum = ours and verify and _tensor_checksum(tensors, metadata["header"])
    except Exception as error:  # of many kinds, for bytes that somebody made to harm
        raise UserError(
            f"{path} is not a whole safetensors file ({one_line(error)}); delete it and train again"
        ) from error
    if not ours:
        raise UserError(f"{path} was not written by this ldatlib: its header lacks {FORMAT!r}")
    if verify and checksum != metadata.get(CHECKSUM):
        raise UserError(f"{path} was altered: its checksum differs; delete it and train again")
    return tensors, metadata


def _check_size(path: Path) -> None:
    """Before anything is made of a header: ``ValueError`` where it is beyond any of ours."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _MOST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        # Each tensor has two lists, its shape and its place.
        lists = stream.read(length).count(b"[")
    if lists > 2 * _MOST_TENSORS:
        raise ValueError(f"some {lists // 2} tensors")


def _header(path: Path, metadata: dict) -> dict:
    try:
        header = json.loads(metadata["header"])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} has a header that is no JSON; delete it") from error
    if not isinstance(header, dict):
        raise UserError(f"{path} has a header that is not ours; delete it")
    return header
