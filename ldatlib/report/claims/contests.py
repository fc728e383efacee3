"""LDAT against everybody else, and the verdict on several such contests at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ldatlib.report import glossary, paired
from ldatlib.report.claims import rules
from ldatlib.report.claims.rules import Seen, Support

# The paper's own.
RIVALS = ("standard", "trades", "mart", "lbgat")
# What the paper leaves out, and without which its claims under L2 cannot be judged.
BESIDE = "l2_at"
AMONG_ITS_OWN = "among the paper's rivals alone"


@dataclass(frozen=True)
class Contest:
    """Accuracies in percent of LDAT and of each other, and what their comparison says."""

    what: str
    ours: float
    theirs: Mapping[str, float]
    supports: Mapping[str, Support]

    @property
    def best_rival(self) -> str:
        """The paper's rival with the highest accuracy."""
        return max((n for n in self.theirs if n != BESIDE), key=self.theirs.__getitem__)

    def ahead(self, corrected: Mapping[str, float]) -> int:
        """1: ahead of everybody, -1: behind somebody, 0: neither; by corrected p-values."""
        sides = {
            name: 0 if p >= paired.ALPHA else 1 if self.ours > self.theirs[name] else -1
            for name, p in corrected.items()
        }
        return -1 if -1 in sides.values() else int(all(sides.values()))


def corrected(contests: Sequence[Contest]) -> list[dict[str, float]]:
    """The p-values of each contest by name, after Holm's correction over all of them."""
    supports = [support for contest in contests for support in contest.supports.values()]
    adjusted = iter(rules.doubts(supports))
    return [{name: next(adjusted) for name in contest.supports} for contest in contests]


def describe(title: str, contest: Contest, p_values: Mapping[str, float]) -> str:
    """ "L2 PGD: LDAT 62.3%, best of 4 rivals MART 61.0% (p=1); L2-AT, left out there, ..."."""

    def of(name: str) -> str:
        doubt = "collapsed" if contest.supports[name] is rules.NONE else f"p={p_values[name]:.2g}"
        return f"{glossary.defence(name)} {contest.theirs[name]:.1f}% ({doubt})"

    count = sum(name != BESIDE for name in contest.theirs)
    best = f"best of the paper's {count} rivals " if count > 1 else ""
    text = f"{title} {contest.ours:.1f}%, {best}{of(contest.best_rival)}"
    if BESIDE in contest.theirs:
        text += f", beside them {of(BESIDE)}"
    return f"{contest.what}: {text}" if contest.what else text


def settle(
    title: str,
    contests: Sequence[Contest],
    *,
    everybody: bool = False,
    shown: Iterable[str] | None = None,
    scope: str = "",
    of: str = "this network",
) -> Seen:
    """Is LDAT ahead of the paper's rivals, of every one in every contest?

    ``everybody``: of L2-AT, too, and where that alone decides the text says so; otherwise a verdict
    that L2-AT would change says so in its scope.
    ``shown``: the contests (by ``what``) that the text describes, all unless said.
    """
    both = [[s for name, s in c.supports.items() if name != BESIDE] for c in contests]
    among = rules.verdict([support for supports in both for support in supports])
    every = rules.verdict([s for contest in contests for s in contest.supports.values()])
    chosen = None if shown is None else set(shown)
    text = "; ".join(
        describe(title, contest, p_values)
        for contest, p_values in zip(contests, corrected(contests), strict=True)
        if chosen is None or contest.what in chosen
    )
    if everybody:
        decided = f"{_beside_decides(every)}; " if among and not every else ""
        return Seen(every, f"{decided}{text}", scope, of)
    narrowed = AMONG_ITS_OWN if among and not every else ""
    return Seen(among, text, ", ".join(filter(None, (scope, narrowed))), of)


def _beside_decides(every: bool | None) -> str:
    """Ahead of the paper's rivals, and not of everybody: because of whom."""
    side = "behind" if every is False else "not told apart from"
    return f"ahead of the paper's rivals, {side} {glossary.defence(BESIDE)}, which decides"
