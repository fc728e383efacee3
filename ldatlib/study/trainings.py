"""What a run can train: every defence, surrogate and ablation as a ``Training``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ldatlib.data import Dataset
from ldatlib.defences import CHOSEN, PGD, TITLES, NoAdversary, make_defence
from ldatlib.errors import UserError
from ldatlib.models import NetworkConfig
from ldatlib.study.settings import Profile
from ldatlib.study.switches import LIKELIHOOD_SWITCHES, OTHER_SWITCHES, REPLACED_ATTACKS
from ldatlib.training.config import TrainConfig

# Far from the seeds of a run's own trainings.
SURROGATE_SEED = 1000
PLANE_DEFENCES = ("natural", "standard", "ldat")


@dataclass(frozen=True)
class Training:
    """One training of a run. ``view`` is the data it sees: ``"full"`` or ``"plane"``."""

    name: str
    config: TrainConfig
    view: str = "full"
    variant: str = ""

    @property
    def label(self) -> str:
        return "-".join(filter(None, (self.name, self.variant, f"s{self.config.seed}")))

    @property
    def title(self) -> str:
        return " ".join(filter(None, (TITLES[self.config.defence.name], self.variant)))


class Trainings:
    """The trainings of a profile on its data; ``run.Run`` computes them."""

    profile: Profile
    dataset: Dataset
    plane_dataset: Dataset

    def training(
        self,
        name: str,
        seed: int = 0,
        view: str = "full",
        variant: str = "",
        network: dict | None = None,
        ema_decay: float | None = None,
        epochs: int | None = None,
        **switches,
    ) -> Training:
        """One defence of this run with its seed; ``switches`` replace fields of the defence.

        ``variant`` tells trainings of one defence apart in file names; ``network`` replaces fields
        of the network, ``ema_decay`` and ``epochs`` the profile's.
        """
        p = self.profile
        if name == "ldat":
            own = {"beta": p.beta, "margin": p.margin, "lambda_init": p.lambda_init}
            switches = own | switches
        if name == "ldat_chosen":
            switches = {"beta": p.beta, "margin": p.margin} | switches
        budgets: dict = {"eps_linf": p.eps_linf, "eps_l2": p.eps_l2, "radius": p.radius}
        budgets["num_steps"] = switches.pop("num_steps", p.attack_steps)
        defence = make_defence(name, **budgets, **switches)
        data = self.plane_dataset if view == "plane" else self.dataset
        size = {k: getattr(p, k) for k in ("architecture", "depth", "width", "stages")}
        built = NetworkConfig(
            num_classes=data.num_classes,
            head=defence.head,
            in_channels=data.channels,
            feature_dim=2 if view == "plane" else None,
            centroid_init=defence.centroid_init,
            stem_stride=p.stem_stride,
            **(size | (network or {})),
        )
        config = TrainConfig(
            defence=defence,
            network=built,
            epochs=epochs or (p.plane_epochs if view == "plane" else p.epochs),
            seed=seed,
            batch_size=p.batch_size,
            lr=p.lr,
            momentum=p.momentum,
            weight_decay=p.weight_decay,
            padding=p.padding,
            flip=data.flip,
            ema_decay=p.ema_decay if ema_decay is None else ema_decay,
            precision=p.precision,
            val_eps=p.eps_linf,
            val_every=p.val_every,
        )
        return Training(f"plane-{name}" if view == "plane" else name, config, view, variant)

    def ablations(self) -> list[Training]:
        """Table 3 and Fig. 6; with ``ablations=switches`` every switch; with ``all`` more."""
        trainings = [*self.beta_trainings().values(), *self.attack_trainings().values()]
        if self.profile.ablations in ("switches", "all"):
            trainings += self.switch_trainings().values()
        if self.profile.ablations == "all":
            trainings += self.factorial_trainings().values()
        return trainings

    def likelihood_trainings(self) -> dict[str, Training]:
        """LDAT as written and its likelihood term changed (``docs/regularizer.md``)."""
        changed = {n: LIKELIHOOD_SWITCHES[n] for n in self.profile.likelihood_switches}
        return {"as written": self.training("ldat")} | {
            # The chosen one is a defence of its own: trained once.
            n: self.training("ldat_chosen") if s == CHOSEN else self._switched("ldat", n, s)
            for n, s in changed.items()
        }

    def switch_trainings(self) -> dict[str, Training]:
        """Those, then the profile's base and everything else of it changed (``docs/gaps.md``)."""
        base, trainings = self.profile.base, self.likelihood_trainings()
        if base != "ldat":
            trainings[TITLES[base]] = self.training(base)
        others = {n: OTHER_SWITCHES[n] for n in self.profile.other_switches}
        return trainings | {n: self._switched(base, n, s) for n, s in others.items()}

    def _switched(self, base: str, name: str, switches: dict) -> Training:
        return self.training(base, variant=name.replace(" ", "-"), **switches)

    def factorial_trainings(self) -> dict[tuple[str, str], Training]:
        """{linear, GMM head} x {Algorithm 1, PGD on the cross-entropy}, LDAT's mixture of losses.

        The attacks are those of Fig. 6, head -> attack -> training.
        """
        attacks, base = self.attack_trainings(), self.profile.base
        names = [name for name in attacks if "KL" not in name]
        trainings = {("GMM", name): attacks[name] for name in names}
        for name in names:
            attacker = attacks[name].config.defence.adversary
            variant = "-".join(filter(None, ("linear-head", attacks[name].variant)))
            trainings["linear", name] = self.training(
                base, variant=variant, head="linear", adversary=attacker
            )
        return trainings

    def trainings(self, names: Iterable[str] | None = None) -> list[Training]:
        """The defences of the profile (or ``names``), every seed of each."""
        p = self.profile
        names = tuple(names or p.defences)
        seeds = {name: p.seeds if not p.seeded or name in p.seeded else 1 for name in names}
        return [self.training(name, seed) for name in names for seed in range(seeds[name])]

    def every_training(self) -> list[Training]:
        """All that a run of this profile trains, each once."""
        trainings = [
            *self.trainings(),
            *self.plane_trainings(),
            *self.surrogates(),
            *self.ablations(),
        ]
        return list({training.label: training for training in trainings}.values())

    def find_training(self, name: str, seed: int | None = None) -> Training:
        """A training by its label, ``ldat-K-20-s0``, or the part of it before the seed.

        Raises ``UserError`` with the known names where there is none.
        """
        trainings = {training.label: training for training in self.every_training()}
        bare: dict[str, Training] = {}
        for label, training in trainings.items():
            bare.setdefault(label.rpartition("-s")[0], training)
        found = trainings.get(name) or bare.get(name)
        if found is None:
            raise UserError(f"no training {name!r} in this profile; known: {', '.join(bare)}")
        return found if seed is None else replace(found, config=replace(found.config, seed=seed))

    def plane_trainings(self) -> list[Training]:
        """Figures 1 and 2: a few classes, features of two dimensions."""
        return [self.training(name, view="plane") for name in PLANE_DEFENCES]

    def surrogates(self) -> list[Training]:
        """Tables 4 and 5: a larger undefended network, and Standard from a seed of its own."""
        p = self.profile
        network = {
            k: getattr(p, f"surrogate_{k}") for k in ("architecture", "depth", "width", "stages")
        }
        return [
            self.training("natural", SURROGATE_SEED, variant="surrogate", network=network),
            self.training("standard", SURROGATE_SEED, variant="surrogate"),
        ]

    def beta_trainings(self) -> dict[float, Training]:
        """Table 3: the base over beta; at the profile's own beta it is the base itself."""
        base = self.profile.base
        return {
            beta: self.training(base)
            if beta == self.profile.beta
            # At beta 0 the adversarial images have no weight: none are made.
            else self.training(base, variant=f"beta{beta:g}", beta=beta, adversary=NoAdversary())
            if beta == 0
            else self.training(base, variant=f"beta{beta:g}", beta=beta)
            for beta in self.profile.betas
        }

    def attack_trainings(self) -> dict[str, Training]:
        """Fig. 6: the base with Algorithm 1, and PGD in its place; ``*`` is L-inf, as there."""
        p, base = self.profile, self.profile.base
        balls = {
            "l2": ("l2", p.eps_l2, p.eps_l2 / 5),
            "linf": ("linf", p.eps_linf, p.eps_linf / 4),
            "radius": ("l2", p.radius, p.radius / 5),
        }
        trainings = {"Algorithm 1": self.training(base)}
        for name in p.replaced_attacks:
            ball, loss = REPLACED_ATTACKS[name]
            trainings[name] = self.training(
                base,
                variant=f"pgd-{loss}-{ball}",
                adversary=PGD(*balls[ball], p.attack_steps, loss),
            )
        return trainings

    def select_seed(self, trainings: Sequence[Training], seed: int = 0) -> list[Training]:
        return [training for training in trainings if training.config.seed == seed]
