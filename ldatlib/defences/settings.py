"""Settings that are checked when they are made: the base of defences and adversaries."""

import math
from collections.abc import Hashable, Iterable
from dataclasses import asdict
from typing import Any

import torch

from ldatlib.errors import UserError

# What networks compute in knows no larger number.
_LARGEST = torch.finfo(torch.float32).max


class Settings:
    """A frozen dataclass of values that JSON knows; its ``__post_init__`` calls the checks below.

    Each check raises ``UserError`` with the field, the range and the value; ``owner`` comes first.
    """

    @property
    def owner(self) -> str:
        """Whose settings they are, for errors; empty where another one says it."""
        return ""

    def check_choice(self, field: str, known: Iterable[Any]) -> None:
        known, value = tuple(known), getattr(self, field)
        # An array would compare element by element.
        if not isinstance(value, Hashable) or value not in known:
            raise self.error(f"{field} {value!r} is not one of {', '.join(map(str, known))}")

    def check_truth(self, field: str) -> None:
        """``True`` or ``False``, no number that is equal to one of them."""
        if not isinstance(value := getattr(self, field), bool):
            raise self.error(f"{field} must be True or False, not {value!r}")

    def check_number(
        self, field: str, low: float = 0.0, high: float = math.inf, *, open: bool = False
    ) -> None:
        """A number of float32 from ``low`` to ``high``, the ends excluded where ``open``."""
        value = getattr(self, field)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        finite = number and value <= _LARGEST
        if finite and (low < value < high if open else low <= value <= high):
            return
        if high == math.inf:
            wanted = f"be a number {'above' if open else 'of at least'} {low:g}"
        else:
            wanted = f"lie between {low:g} and {high:g}{', both excluded' if open else ''}"
        raise self.error(f"{field} must {wanted}, not {value!r}")

    def check_count(self, field: str, least: int = 1) -> None:
        value = getattr(self, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(f"{field} must be a whole number of at least {least}, not {value!r}")

    def error(self, text: str) -> UserError:
        return UserError(f"{self.owner}: {text}" if self.owner else text)

    def as_dict(self) -> dict[str, Any]:
        """Every setting by name, ready for JSON."""
        return asdict(self)  # type: ignore[call-overload]
