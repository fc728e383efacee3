"""What is known by name and can be added to: defences, networks.

A plug-in is a Python file that registers what it defines when it is loaded. Loading the same file
twice is harmless; a name that something else has is refused.
"""

import functools
import hashlib
import inspect
import linecache
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from ldatlib.errors import UserError

Entry = TypeVar("Entry")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Registry(Mapping[str, Entry]):
    """Entries by name, in the order of their first registration."""

    def __init__(self, what: str):
        self.what = what
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, object] = {}

    def check(self, name: str, origin: object) -> None:
        """Raise ``UserError`` where the name cannot be in a file name, or is taken."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(
                f"{name!r} is no {self.what} name: it goes into file names and has up to 40 "
                "lower-case letters, digits and underscores, the first one a letter"
            )
        if self._origins.get(name, origin) != origin:
            raise UserError(f"there is another {self.what} {name!r}; choose another name")

    def add(self, name: str, entry: Entry, origin: object) -> None:
        """Make an entry known; of the same origin (``origin_of``) it replaces an earlier one."""
        self.check(name, origin)
        self._entries[name], self._origins[name] = entry, origin

    def remove(self, name: str) -> None:
        """Forget an entry; for tests, and to register a changed definition in a notebook."""
        self.find(name)
        del self._entries[name], self._origins[name]

    def find(self, name: str) -> Entry:
        """The entry of a name; ``UserError`` lists the known ones where there is none."""
        if name not in self._entries:
            raise UserError(f"unknown {self.what} {name!r}; known: {', '.join(self)}")
        return self._entries[name]

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def origin_of(definition: Callable[..., Any]) -> object:
    """Equal for a function or class that was defined twice by the same text at the same place.

    The text is that of the whole file, so that two versions of a plug-in differ.
    """
    while isinstance(definition, functools.partial):
        definition = definition.func
    function = definition.__init__ if inspect.isclass(definition) else definition
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return object()
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename))
    # Without a text nothing tells two definitions apart, and nothing is taken for the same.
    if not text:
        return object()
    return hashlib.sha256(text.encode()).hexdigest(), code.co_qualname, code.co_firstlineno
