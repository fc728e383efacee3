"""Which files of a folder are pictures of a class: ``train/CLASS/*`` and ``test/CLASS/*``.

Whatever else lies there is passed over, counted and said in one line. What must not be guessed is
an error that names it: a class that only one split has, a link to nothing, a name of unknown
encoding. For users: ``docs/data.md``.
"""

import functools
import logging
import multiprocessing
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ldatlib.data.names import shown
from ldatlib.data.paths import Files
from ldatlib.errors import UserError

ENDINGS = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .bmp .gif .webp .tif .tiff .pbm .pgm .ppm .pnm".split()
)
# So many kinds of files that were passed over are named; the others are counted together.
_NAMED = 6
LOGGER = logging.getLogger(__name__)

Classes = dict[str, Files]


def list_pictures(root: Path) -> dict[str, Classes]:
    """The pictures of each class in ``train`` and ``test``, sorted by name.

    Raises ``UserError`` for a folder that is not there or has no pictures, for fewer than two
    classes or others in ``test``, for links to nothing and for names that cannot be told apart.
    """
    seen = _Seen()
    listing = {split: _list_split(root / split, seen) for split in ("train", "test")}
    _compare(listing["train"], listing["test"], root)
    _say_seen(root, seen)
    return listing


def list_test_pictures(root: Path) -> dict[str, Classes]:
    """The pictures of each class in ``test``, and in ``train`` where there is one.

    For a network that is trained already. A ``train`` must have the same classes: those of the
    training decide which class has which number. Raises ``UserError`` as ``list_pictures``.
    """
    if (root / "train").is_dir():
        return list_pictures(root)
    seen = _Seen()
    classes = _list_split(root / "test", seen)
    if len(classes) < 2:
        only = next(iter(classes))
        raise UserError(f"{shown(root / 'test')} has one class, {only!r}; at least 2 needed")
    _say_seen(root, seen)
    return {"test": classes}


def _say_seen(root: Path, seen: "_Seen") -> None:
    if seen.passed_over:
        say(f"passed over in {shown(root)}: {_summary(seen.passed_over)}")
    if seen.alike:
        pair = " and ".join(seen.alike[0])
        more = f" ({len(seen.alike)} such pairs)" if len(seen.alike) > 1 else ""
        say(
            f"{shown(root)}: {pair} differ only in case or in how accents are encoded{more}; "
            "all are read here, but some systems keep only one of them"
        )


@functools.cache
def say(text: str) -> None:
    """A line for the user; once in a process, and not again from the processes it starts."""
    if multiprocessing.parent_process() is None:
        LOGGER.warning(text)


@dataclass
class _Seen:
    """What is said of a folder beside its pictures: other entries by kind, and similar names."""

    passed_over: Counter[str] = field(default_factory=Counter)
    alike: list[tuple[str, str]] = field(default_factory=list)


def _summary(passed_over: Counter[str]) -> str:
    """Such as ``3 (.txt 2, hidden 1)``."""
    kinds = passed_over.most_common()
    parts = [f"{what} {count}" for what, count in kinds[:_NAMED]]
    if others := sum(count for _, count in kinds[_NAMED:]):
        parts.append(f"others {others}")
    return f"{passed_over.total()} ({', '.join(parts)})"


def _list_split(folder: Path, seen: _Seen) -> Classes:
    if not folder.is_dir():
        raise UserError(
            f"no folder {shown(folder)}: expected {folder.name}/CLASS/IMAGE files under it"
        )
    names = []
    for entry in _entries(folder, seen.passed_over):
        if _is_dangling(entry):
            raise _dangling([entry])
        if entry.is_dir():
            names.append(entry.name)
        else:
            seen.passed_over["beside the class folders"] += 1
    if not names:
        raise UserError(f"no images in {shown(folder)}: expected {folder.name}/CLASS/IMAGE files")
    for name in names:
        if name != shown(name):
            raise UserError(
                f"the class folder {shown(folder / name)} has a name that is no UTF-8 or has "
                "control characters in it; rename it"
            )
    for first, second in _alike(names):
        if _composed(first) == _composed(second):
            raise UserError(
                f"the class folders {ascii(first)} and {ascii(second)} in {shown(folder)} differ "
                "only in how accents are encoded; put their pictures into one"
            )
        seen.alike.append((f"the classes {first}", second))
    return {name: _list_class(folder / name, seen) for name in sorted(names)}


def _list_class(folder: Path, seen: _Seen) -> Files:
    passed_over: Counter[str] = Counter()
    names, dangling = [], []
    for entry in _entries(folder, passed_over):
        ending = os.path.splitext(entry.name)[1].lower()
        if ending in ENDINGS and _is_dangling(entry):
            dangling.append(entry)
        elif ending in ENDINGS and entry.is_file():
            names.append(entry.name)
        else:
            passed_over[_kind(entry, ending)] += 1
    if dangling:
        raise _dangling(dangling)
    if not names:
        others = f", only others: {_summary(passed_over)}" if passed_over else ""
        raise UserError(f"no images in {shown(folder)}{others}; add some or remove the folder")
    seen.passed_over += passed_over
    seen.alike += [(ascii(str(folder / a)), ascii(b)) for a, b in _alike(names)]
    names.sort()
    return Files(folder, names)


def _entries(folder: Path, passed_over: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, but for hidden entries, which are counted."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    passed_over["hidden"] += 1
                else:
                    yield entry
    except OSError as error:
        raise UserError(
            f"cannot list {shown(folder)}: {error.strerror}; change its permissions"
        ) from error


def _kind(entry: os.DirEntry[str], ending: str) -> str:
    """The words by which what is no picture is counted."""
    if os.path.isdir(entry.path):
        return "folders inside class folders"
    if ending in ENDINGS:
        return "devices or pipes"
    if not ending:
        return "without an ending"
    return ending if ending[1:].isalnum() and len(ending) <= 8 else "of odd endings"


def _is_dangling(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _dangling(entries: Sequence[os.DirEntry[str]]) -> UserError:
    first = min(entries, key=lambda entry: entry.name)
    more = f" (and {len(entries) - 1} more there)" if len(entries) > 1 else ""
    return UserError(
        f"{shown(first.path)} is a link to nothing, {shown(os.readlink(first.path))}{more}; bring "
        "what it links to, or remove it"
    )


def _composed(name: str) -> str:
    """A name with one encoding of each accent, whichever the system that wrote it has."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    """The same for names that differ only in such encodings, or in case."""
    return name.lower() if name.isascii() else _composed(_composed(name).casefold())


def _alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that some systems take for one."""
    if len(set(map(_folded, names))) == len(names):
        return []
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_folded(name), []).append(name)
    return [(first, other) for first, *others in groups.values() for other in others]


def _compare(train: Classes, test: Classes, root: Path) -> None:
    """The same classes in both splits, at least two."""
    differing = sorted(set(train) ^ set(test))
    if differing:
        name = differing[0]
        here, there, other = ("train", "test", test) if name in train else ("test", "train", train)
        twin = next((n for n in sorted(other) if _folded(n) == _folded(name)), None)
        what = f"{name!r} is in {here} alone"
        if twin is not None:
            what = f"{ascii(name)} of {here} is {ascii(twin)} in {there}; give both one name"
        elif len(differing) > 1:
            what += f", one of {len(differing)} such classes"
        raise UserError(f"classes differ between train and test under {shown(root)}: {what}")
    if len(train) < 2:
        only = next(iter(train))
        raise UserError(f"{shown(root / 'train')} has one class, {only!r}; at least 2 needed")
