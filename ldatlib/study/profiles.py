"""The profiles by name, with the reason for every value.

``demo`` needs nothing but the installed packages. ``demo-full`` is the same at more seeds and on
more images. ``folder`` is the paper's recipe on any folder of pictures.
"""

from collections.abc import Mapping
from dataclasses import replace

from ldatlib.errors import UserError
from ldatlib.files import home
from ldatlib.study import plugins
from ldatlib.study.settings import Profile, parse_value
from ldatlib.study.switches import REPLACED_ATTACKS

RESULTS = home() / "data" / "results"

_DEMO = Profile(
    name="demo",
    title="Demo on scikit-learn's digits: everything in minutes on two cores",
    dataset="digits",
    val_size=300,
    test_size=300,
    # A narrow network on 8x8 images: every defence keeps 90% of the natural images.
    depth=8,
    width=16,
    stages=3,
    # Validation accuracy is flat over the last quarter of the epochs (docs/profiles.md).
    epochs=20,
    batch_size=64,
    # A digit of 8x8 fills its frame: shifting it by a pixel cuts strokes off.
    padding=0,
    val_every=2,
    # The smallest multiples of 1/16 (one grey level of the original) and of 1/4 that leave
    # Standard between 30% and 70% under PGD on validation images: tools/choose_budgets.py.
    eps_linf=0.25,
    eps_l2=0.75,
    # Three times the L2 budget, as in the paper (1.5 to 0.5).
    radius=2.25,
    # Most pixels of a digit are exactly 0 or 1, where tanh is flat: C&W needs longer steps. The
    # strongest of four on validation images, for Standard: tools/choose_budgets.py.
    cw_step_size=0.2,
    eval_images=300,
    saved_images=300,
    sweep_images=100,
    sweep_eps=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0),
    sweep_steps=(1, 5, 10, 20, 40, 80),
    sweep_cw_steps=(5, 10, 20, 40),
    # Half of a 95% interval is at most 9.6 points; AutoAttack is most of the demo's scrutiny.
    scrutiny_images=100,
    # LDAT defends an L2 ball; L-inf beside it doubles the time. AutoAttack and the search from
    # larger balls look at both.
    scrutiny_norms=("l2",),
    masking_restarts=3,
    adaptive_steps=25,
    surrogate_depth=8,
    surrogate_width=32,
    surrogate_stages=3,
    tsne_images=300,
    plane_classes=(0, 1, 4),
    plane_images=320,
    plane_epochs=30,
)

_CIFAR10 = Profile(
    name="cifar10",
    title="The paper's settings on CIFAR-10",
    dataset="cifar10",
    val_size=1000,
    # The defaults above are the paper's: PreAct ResNet-18, 250 epochs, beta 0.5, margin 0.1,
    # radius 1.5, budgets 8/255 and 0.5.
    precision="auto",
    ablations="all",
    replaced_attacks=tuple(REPLACED_ATTACKS),
    eval_images=10_000,
    eval_batch=500,
    saved_images=1000,
    sweep_images=1000,
    surrogate_architecture="resnet",
    surrogate_depth=50,
    surrogate_width=64,
)

# A small budget for every training alike, so that all of the paper's evidence fits into hours.
_CIFAR10_SMALL = replace(
    _CIFAR10,
    name="cifar10-small",
    title="CIFAR-10 with a narrow network, for two cores",
    # The most robust of four for the same time: tools/choose_network.py.
    depth=10,
    width=16,
    stem_stride=2,
    train_size=20_000,
    # Long enough that every defence learns: in 6 epochs Eq. 12 starts at 1/6, and LDAT as written
    # collapses; the paper's 250 start it at 1/250.
    epochs=30,
    defences=(
        "natural",
        "standard",
        "l2_at",
        "trades",
        "mart",
        "lbgat",
        "ldat",
        "ldat_chosen",
    ),
    # The LDAT that validation images chose (docs/regularizer.md) is the one that is varied.
    base="ldat_chosen",
    replaced_attacks=("PGD-CE", "PGD-CE*", "PGD-CE (radius)"),
    likelihood_switches=(
        "lambda by step",
        "lambda constant",
        "lambda decaying",
        "lambda from half",
        "6 epochs",
        "lambda 0",
        "lambda 0.01",
        "lambda 0.1",
        "lambda 0.3",
        "L_lkd half",
        "L_lkd mean",
        "centroids N",
        "centroids undecayed",
    ),
    storage="half",
    # The first 500 of them are those of the scrutiny: every attack there is has seen the same ones.
    eval_images=1000,
    eval_batch=100,
    saved_images=500,
    sweep_images=200,
    surrogate_architecture="preact_resnet",
    surrogate_depth=10,
    surrogate_width=32,
    # As in the demo: less than the defaults, for the time.
    masking_restarts=3,
    adaptive_steps=25,
    plane_epochs=10,
)

PROFILES = {
    "demo": _DEMO,
    "demo-full": replace(
        _DEMO,
        name="demo-full",
        title="The demo with every ablation, three seeds and more images",
        seeds=3,
        ablations="all",
        val_every=1,
        test_size=400,
        eval_images=400,
        saved_images=400,
        sweep_images=300,
        scrutiny_images=400,
        scrutiny_norms=("linf", "l2"),
        masking_restarts=5,
        adaptive_steps=40,
    ),
    "cifar10": _CIFAR10,
    "cifar100": replace(
        _CIFAR10,
        name="cifar100",
        title="The paper's settings on CIFAR-100",
        dataset="cifar100",
        architecture="wide_resnet",
        depth=28,
        width=160,
        stages=3,
        epochs=300,
        radius=1.0,
        beta=0.3,
        margin=0.05,
        # FAB untargeted takes a gradient a class: of a hundred, the nine nearest are attacked.
        fab_targets=9,
        # The paper's "more complicated" surrogate is the defence's own architecture here.
        surrogate_architecture="wide_resnet",
        surrogate_depth=28,
        surrogate_width=160,
        surrogate_stages=3,
    ),
    "cifar10-small": _CIFAR10_SMALL,
    "cifar10-published": replace(
        _CIFAR10_SMALL,
        name="cifar10-published",
        title="What cifar10-small measured, and its networks: nothing to train or download",
        dataset="published",
        data_root=str(RESULTS / "cifar10-small"),
        # What has been trained of Table 3 and of the study; a test holds it to the records.
        betas=(0.0, 0.5, 1.0),
        likelihood_switches=("6 epochs", "lambda 0", "lambda 0.01", "lambda 0.1"),
        other_switches=(),
    ),
    "folder": Profile(
        name="folder",
        title="The paper's recipe on a folder of pictures",
        dataset="folder",
        val_size=500,
        precision="auto",
    ),
}


def load_profile(name: str, overrides: Mapping[str, object] | None = None) -> Profile:
    """A profile with fields replaced; values may be text, as a command line gives them.

    Plug-ins are loaded, and what they add is compared with the profile's defences unless
    ``defences`` says otherwise.

    Raises ``UserError`` for an unknown profile or field, a wrong type, a value out of range.
    """
    if not isinstance(name, str) or name not in PROFILES:
        raise UserError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    if not isinstance(overrides, Mapping | None):
        raise UserError(
            f'overrides must be settings by name, such as {{"epochs": 5}}, not {overrides!r}'
        )
    profile, overrides = PROFILES[name], dict(overrides or {})
    given = overrides.pop("plugins", None)
    # First, since they add to the names that the other settings may have.
    loaded = plugins.load(parse_value("plugins", given) if given else profile.plugins)
    values = {key: parse_value(key, value) for key, value in overrides.items()}
    if "defences" not in values:
        added = (name for plugin in loaded for name in plugin.defences)
        values["defences"] = (*profile.defences, *added)
    profile = replace(profile, plugins=tuple(str(plugin.path) for plugin in loaded), **values)
    # A folder of pictures may stand in for a data set of the same profile.
    if profile.dataset in ("folder", "npz", "published") and profile.data_root is None:
        raise UserError(f"profile {name} needs its data: --set data_root=PATH")
    return profile
