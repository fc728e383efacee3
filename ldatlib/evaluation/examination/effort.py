"""How hard an examination tries, and what that costs before it starts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from ldatlib.errors import UserError
from ldatlib.evaluation import cost
from ldatlib.evaluation.autoattack import FEWEST_CLASSES, STANDARD, most_targets
from ldatlib.evaluation.examination.detector import Detector
from ldatlib.evaluation.masking.bench import Effort as MaskingEffort
from ldatlib.evaluation.named_attacks import METHODS, Attack, has_room_for_square

# Beyond so many classes FAB, which asks for a gradient a class, aims at the likeliest ones.
_FAB_CLASSES, _FAB_TARGETS = 20, 9


@dataclass(frozen=True)
class Effort:
    """What is tried in each norm.

    ``methods``: Table 1's attacks, each of ``steps`` iterations, those left out that the norm does
    not have. ``search_steps`` in each of ``search_restarts`` of the search from larger balls.
    ``autoattack``: a part of AutoAttack's standard ensemble. ``masking_images``: the tests for
    masking look at so many images from all over the data, with the effort ``masking``.
    ``detector_*``: each search of the attack on a detector.
    """

    methods: tuple[str, ...]
    steps: int
    search_steps: int
    search_restarts: int
    autoattack: tuple[str, ...]
    masking_images: int
    masking: MaskingEffort
    detector_steps: int = 40
    detector_restarts: int = 1
    detector_queries: int = 1000

    def attacks(self, norm: str, eps: float, classes: int) -> tuple[Attack, ...]:
        """Table 1's attacks of this norm."""
        targets = _FAB_TARGETS if classes > _FAB_CLASSES else 0
        return tuple(
            Attack(method, norm, eps, self.steps, targets=targets if method == "fab" else 0)
            for method in self.methods
            if norm in METHODS[method].norms
        )

    def search(self, norm: str, eps: float) -> Attack:
        """The search from larger balls."""
        return Attack("margin", norm, eps, self.search_steps, restarts=self.search_restarts)

    def ensemble(self, norm: str, shape: tuple[int, ...]) -> tuple[str, ...]:
        """AutoAttack's attacks that these images [channels, height, width] have room for."""
        room = has_room_for_square(shape, norm)
        return tuple(name for name in self.autoattack if room or name != "square")

    def tests(self, batch_size: int, seed: int) -> MaskingEffort:
        """The effort of the tests for masking, in these batches."""
        return replace(self.masking, batch_size=batch_size, seed=seed)

    def as_dict(self) -> dict:
        """Its settings, for JSON."""
        own = asdict(self)
        for name in ("batch_size", "seed"):  # the examination's
            del own["masking"][name]
        return own | {"methods": list(self.methods), "autoattack": list(self.autoattack)}


EFFORTS = {
    "quick": Effort(
        methods=("pgd", "apgd"),
        steps=20,
        search_steps=25,
        search_restarts=5,
        autoattack=(),
        masking_images=100,
        masking=MaskingEffort(steps=10, restarts=2, queries=300),
        detector_steps=20,
        detector_queries=300,
    ),
    # C&W costs as much as the search and reaches less (docs/evaluation.md, Figure 5).
    "standard": Effort(
        methods=("pgd", "apgd", "fab", "deepfool", "ddn"),
        steps=40,
        search_steps=25,
        search_restarts=13,
        autoattack=STANDARD,
        masking_images=100,
        masking=MaskingEffort(steps=25, restarts=3, queries=1000),
    ),
    "thorough": Effort(
        methods=("pgd", "apgd", "fab", "deepfool", "cw", "ddn"),
        steps=100,
        search_steps=50,
        search_restarts=25,
        autoattack=STANDARD,
        masking_images=500,
        masking=MaskingEffort(steps=40, restarts=5, queries=5000),
        detector_steps=100,
        detector_restarts=3,
        detector_queries=5000,
    ),
}


def effort_of(name: object) -> Effort:
    """The effort of that name; ``UserError`` names those that are known."""
    if not isinstance(name, str) or name not in EFFORTS:
        raise UserError(f"unknown effort {name!r}; known: {', '.join(EFFORTS)}")
    return EFFORTS[name]


@dataclass(frozen=True)
class Planned:
    """One part of an examination on ``images``: forward passes by the name of each attack."""

    norm: str
    part: str
    images: int
    attacks: dict[str, int]

    @property
    def passes(self) -> int:
        """Of one image, by all attacks of this part."""
        return sum(self.attacks.values())

    @property
    def total(self) -> int:
        return self.images * self.passes


def plan(
    effort: Effort,
    eps: Mapping[str, float],
    *,
    images: int,
    shape: tuple[int, ...],
    classes: int,
    eot: int | None = None,
    detector: Detector | None = None,
    siblings: int = 0,
) -> list[Planned]:
    """The parts in their order, and what each costs in forward passes, as if no image fell.

    ``images`` that are right without an attack, [channels, height, width] ``shape`` each; as a
    ``detector`` the model is attacked on the rows of that one; ``siblings`` are networks that
    images are carried over from.
    """
    parts = []
    for norm, budget in eps.items():
        table1 = effort.attacks(norm, budget, classes)
        named = {attack.key: cost.forward_equivalents(attack, classes) for attack in table1}
        search = effort.search(norm, budget)
        names = [
            name for name in effort.ensemble(norm, shape) if classes >= FEWEST_CLASSES.get(name, 2)
        ]
        targets = most_targets(classes)
        ensemble = {name: cost.of_autoattack([name], targets) for name in names}
        parts.append(Planned(norm, "attacks", images, named))
        searching = {search.key: cost.forward_equivalents(search, classes)}
        parts.append(Planned(norm, "search", images, searching))
        if names:
            parts.append(Planned(norm, "autoattack", images, ensemble))
        if has_room_for_square(shape, norm):
            tests = {"masking": cost.of_masking(effort.masking, classes, siblings)}
            parts.append(Planned(norm, "masking", min(images, effort.masking_images), tests))
        if detector is not None:
            steps, restarts = effort.detector_steps, effort.detector_restarts
            queries = None if detector.steep else effort.detector_queries
            passes = cost.of_detector(detector.score, 1, classes, steps, restarts, queries)
            parts.append(Planned(norm, "detector", len(detector.rows), {"detector": passes}))
    return [replace(p, attacks={k: v * (eot or 1) for k, v in p.attacks.items()}) for p in parts]
