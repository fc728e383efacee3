"""How far an examination is: after every attack, and what is at most to go."""

from collections.abc import Callable
from dataclasses import dataclass

from ldatlib.evaluation.examination.effort import Planned

# Parts that meet only the images still right.
_ON_WHAT_IS_LEFT = ("attacks", "search", "autoattack")

# (norm, part, name, images still right or None)
Tell = Callable[[str, str, str, int | None], None]


@dataclass(frozen=True)
class Progress:
    """An attack is done: its norm and name, and how many images are still right.

    ``passes``: what it cost at most; ``passes_left``: what is to go at most; ``coming``: norm and
    part of what comes next.
    """

    norm: str
    name: str
    left: int | None
    passes: int
    passes_left: int
    coming: tuple[str, str] | None


def teller(planned: list[Planned], on_progress: Callable[[Progress], None] | None) -> Tell:
    """Announces attacks; those to come in a norm meet only what is right in it by then."""
    going = [(part, dict(part.attacks)) for part in planned]
    right = {part.norm: part.images for part in planned if part.part in _ON_WHAT_IS_LEFT}

    def met(part: Planned) -> int:
        return right[part.norm] if part.part in _ON_WHAT_IS_LEFT else part.images

    def tell(norm: str, part: str, name: str, left: int | None) -> None:
        # Parts before this one are done, also those that were found again.
        while going and (going[0][0].norm, going[0][0].part) != (norm, part):
            going.pop(0)
        passes = 0
        if going:
            current, attacks = going[0]
            passes = attacks.pop(name, 0) * met(current)
            if not attacks:
                going.pop(0)
        if left is not None and norm in right:
            right[norm] = min(right[norm], left)
        if on_progress:
            to_go = sum(met(planned) * sum(attacks.values()) for planned, attacks in going)
            coming = (going[0][0].norm, going[0][0].part) if going else None
            on_progress(Progress(norm, name, left, passes, to_go, coming))

    return tell
