"""Fig. 6: another attack in the place of Algorithm 1."""

from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report.figures.look import panels
from ldatlib.report.words import NORMS_IN_FIGURES
from ldatlib.study.records import Basic


def replaced_attack(records: Mapping[str, Basic]) -> Figure:
    """Fig. 6: LDAT with each training attack (name -> record): natural, PGD L-inf and L2."""
    titles = {"natural": "natural"} | {
        key: f"{METHODS[key.partition('_')[2]].title}, {NORMS_IN_FIGURES[key.partition('_')[0]]}"
        for key in next(iter(records.values())).attacks
    }
    figure, axes = panels(1, len(titles), 3.4 * len(titles), 3.2, sharey=True)
    colours = sns.color_palette("colorblind", len(records))
    for axis, (key, title) in zip(axes[0], titles.items(), strict=True):
        for index, record in enumerate(records.values()):
            natural = key == "natural"
            share = record.clean_accuracy if natural else record.attacks[key].robust_accuracy
            value = 100 * share.value
            error = [[value - 100 * share.low], [100 * share.high - value]]
            axis.bar(index, value, yerr=error, color=colours[index], capsize=3)
            axis.annotate(f"{value:.0f}", (index, 2), ha="center", color="white", fontsize=8)
        axis.set_xticks(range(len(records)), list(records), rotation=30, ha="right")
        axis.set(title=title, ylim=(0, 102))
    axes[0][0].set_ylabel("accuracy (%), 95% interval")
    return figure
