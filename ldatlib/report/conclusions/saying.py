"""How several comparisons are put into one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ldatlib.report.claims import rules
from ldatlib.report.claims.rules import Support
from ldatlib.report.paired import ALPHA

T = TypeVar("T")


@dataclass(frozen=True)
class Sides(Generic[T]):
    """Titles, or what else names them, by what their comparisons say: for, against, or neither."""

    favour: list[T]
    against: list[T]
    neither: list[T]

    def sentence(
        self: "Sides[str]", favour: str, against: str, neither: str = "not told apart from"
    ) -> str:
        """``"ahead of A, B; behind C; not told apart from D."``"""
        parts = ((favour, self.favour), (against, self.against), (neither, self.neither))
        said = [f"{words} {listed(titles)}" for words, titles in parts if titles]
        return ("; ".join(said) or "compared with nobody") + "."


def told_apart(titles: Sequence[T], supports: Sequence[Support]) -> Sides[T]:
    """Each comparison at 5%, corrected for their number."""
    sides: Sides[T] = Sides([], [], [])
    doubts = rules.doubts(supports)
    for title, support, doubt in zip(titles, supports, doubts, strict=True):
        side = sides.favour if support.favour < support.against else sides.against
        (side if doubt < ALPHA else sides.neither).append(title)
    return sides


def listed(titles: Sequence[str]) -> str:
    """``"A, B and C"``."""
    *most, last = titles
    return f"{', '.join(most)} and {last}" if most else last
