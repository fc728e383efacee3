"""Fig. 6: another attack in the place of Algorithm 1."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.report.escape import in_figure
from ldatlib.report.figures.look import colour, finished, panels
from ldatlib.report.words import NORMS_IN_FIGURES, column_title
from ldatlib.study.records import Basic, Share

# Trained against the paper's own attack, and against another one: one hue.
_OWN, _OTHER = colour("ldat"), "#e9a3a3"


def replaced_attack(records: Mapping[str, Basic]) -> Figure:
    """Fig. 6: LDAT with each training attack (name -> record): natural, PGD L-inf and L2.

    Rows are grouped by the norm of the attack in training, which a name says no more than by the
    paper's asterisk.
    """
    titles = {"natural": "natural images"} | {
        key: f"{METHODS[key.partition('_')[2]].title}, {NORMS_IN_FIGURES[key.partition('_')[0]]}"
        for key in next(iter(records.values())).attacks
    }
    ordered = sorted(records, key=lambda name: _norm(records[name]) != "l2")
    places, labels, place, before = [], [], 0.0, None
    heads = []
    for name in ordered:
        norm = _norm(records[name])
        if norm != before:
            heads.append((place, f"trained in {NORMS_IN_FIGURES[norm]}"))
            place, before = place + 0.9, norm
        places.append(place)
        labels.append(in_figure(name.rstrip("*")))
        place += 1
    figure, axes = panels(1, len(titles), 11, 0.34 * place + 1.1, sharey=True)
    said = []
    for axis, (key, title) in zip(axes[0], titles.items(), strict=True):
        shares = [_share(records[name], key) for name in ordered]
        for name, at, share in zip(ordered, places, shares, strict=True):
            value, shade = 100 * share.value, _OTHER if "PGD" in name else _OWN
            error = [[value - 100 * share.low], [100 * share.high - value]]
            axis.errorbar([value], [at], xerr=error, fmt="o", ms=7, capsize=2, color=shade)
            right = value < 80
            ends = 100 * (share.high if right else share.low) + (2 if right else -2)
            axis.text(ends, at, f"{value:.0f}", va="center", ha="left" if right else "right")
        axis.set(title=title, xlim=(0, 102), ylim=(place - 0.4, -0.5), xlabel="accuracy (%)")
        axis.grid(axis="x", color="0.9")
        axis.tick_params(axis="y", length=0)
        of = [f"{name} {share.value:.0%}" for name, share in zip(ordered, shares, strict=True)]
        said.append(f"{column_title(key)}: {', '.join(of)}")
    axes[0][0].set_yticks(places + [at for at, _ in heads], labels + [text for _, text in heads])
    for text in axes[0][0].get_yticklabels()[len(places) :]:
        text.set(color="0.4", style="italic", fontsize=9)
    text = "LDAT trained with each attack, * in L-inf; 95% intervals. "
    return finished(figure, f"{text}{'; '.join(said)}.")


def _share(record: Basic, key: str) -> Share:
    return record.clean_accuracy if key == "natural" else record.attacks[key].robust_accuracy


def _norm(record: Basic) -> str:
    """Of the attack in training; Algorithm 1's is L2."""
    return str(record.config["defence"]["adversary"].get("norm", "l2"))
