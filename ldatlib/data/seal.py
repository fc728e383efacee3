"""What is remembered of a file of pixels, so that not every start reads all of it.

Beside ``NAME.safetensors`` lies ``NAME.json``: the file's size and time when its SHA-256 was found
right, and the fingerprints of data sets that were made of it. A file of another size or time
(copied, written by somebody else) is read in full, and so is one whose ``NAME.json`` is deleted.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ldatlib.errors import UserError
from ldatlib.files import read_json, write_json

# Nanoseconds that a file must have been left alone before it is checked: what is written into it
# within one tick of a file system's clock has the same time.
_SETTLED = 2 * 10**9


class Seal:
    """Of one file of pixels. Where nothing can be written, nothing is remembered."""

    def __init__(self, file: Path):
        self.file, self.path = file, file.with_suffix(".json")

    def holds(self) -> bool:
        """Whether the file is the one that was checked, as far as size and time tell."""
        known = self._read()
        return known is not None and known["checked"] - known["changed"] > _SETTLED

    def renew(self) -> None:
        """The file was checked now; what was known of one of another size or time is forgotten."""
        known = self._read() or {"fingerprints": {}}
        with suppress(OSError):
            self._write({**known, **self._looks(), "checked": time.time_ns()})

    def recall(self, key: str) -> str | None:
        """The fingerprint remembered under ``key``."""
        known = self._read()
        found = known["fingerprints"].get(key) if known else None
        return found if isinstance(found, str) else None

    def remember(self, key: str, fingerprint: str) -> None:
        """Of a file that has not changed since it was checked."""
        known = self._read()
        if known is not None:
            self._write({**known, "fingerprints": {**known["fingerprints"], key: fingerprint}})

    def _read(self) -> dict[str, Any] | None:
        """What is known; None where that is of a file of another size or time."""
        with suppress(UserError, OSError):
            known = read_json(self.path)
            looks = self._looks()
            same = {name: known.get(name) for name in looks} == looks
            if same and isinstance(known.get("fingerprints"), dict):
                return known if isinstance(known.get("checked"), int) else None
        return None

    def _write(self, content: dict[str, Any]) -> None:
        with suppress(UserError):
            write_json(self.path, content)

    def _looks(self) -> dict[str, int]:
        found = os.stat(self.file)
        return {"size": found.st_size, "changed": found.st_mtime_ns}
