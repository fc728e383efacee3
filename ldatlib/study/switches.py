"""What the ablations change, by name: LDAT's likelihood term, its attack, everything else."""

from ldatlib.defences import CHOSEN

# The likelihood term and what it pulls together, one thing changed at a time from LDAT as written.
LIKELIHOOD_SWITCHES: dict[str, dict] = {
    "lambda by step": {"lambda_schedule": "grow_by_step"},
    "lambda constant": {"lambda_schedule": "constant"},
    "lambda decaying": {"lambda_schedule": "decay"},
    "lambda from half": {"lambda_schedule": "grow_from_half"},
    # What a squeezed schedule does: Eq. 12 then begins at 1/6.
    "6 epochs": {"epochs": 6},
    "lambda 0": {"lambda_init": 0.0},
    "lambda 0.01": {"lambda_init": 0.01},
    "lambda 0.1": {"lambda_init": 0.1},
    "lambda 0.3": {"lambda_init": 0.3},
    "L_lkd half": {"regularizer_scale": "half"},
    "L_lkd mean": {"regularizer_scale": "mean"},
    "centroids N": {"centroid_init": "normal"},
    "centroids undecayed": {"centroid_weight_decay": False},
}
# The one of them that is the default of ``ldat_chosen``.
CHOSEN_SWITCH = next(name for name, value in LIKELIHOOD_SWITCHES.items() if value == CHOSEN)
# Everything else, from the profile's base.
OTHER_SWITCHES: dict[str, dict] = {
    "Adam in Algorithm 1": {"optimizer": "adam"},
    "K 20": {"num_steps": 20},
    "margin 0": {"margin": 0.0},
    "margin 0.5": {"margin": 0.5},
    "weight averaging": {"ema_decay": 0.9995},
}
# Fig. 6: what stands in the place of Algorithm 1, its norm and loss; ``*`` is L-inf, as there.
# The radius is the L2 ball that LDAT's own examples are cut to, where PGD's are "too strong".
REPLACED_ATTACKS: dict[str, tuple[str, str]] = {
    "PGD-CE": ("l2", "ce"),
    "PGD-KL": ("l2", "kl"),
    "PGD-CE*": ("linf", "ce"),
    "PGD-KL*": ("linf", "kl"),
    "PGD-CE (radius)": ("radius", "ce"),
}
