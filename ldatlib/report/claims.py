"""The paper's claims as rows: what each says, what this run saw of it, and a verdict.

An observation takes the run's records (``_Evidence``) and returns whether the claim was seen here
(True, False, or None: cannot tell) and the numbers as text. Comparisons of two networks use
McNemar's exact test on the same images at 5%, or the intervals of the two shares.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from ldatlib.defences import TITLES
from ldatlib.evaluation import detection
from ldatlib.evaluation.named_attacks import METHODS
from ldatlib.evaluation.robustness import share, wilson_interval
from ldatlib.files import read_json
from ldatlib.report import paper, tables_scrutiny
from ldatlib.report.tables import column_title, mcnemar, mcnemar_of, right_images
from ldatlib.study.experiments import Run


@dataclass(frozen=True)
class Claim:
    section: str
    text: str
    observe: Callable[["_Evidence"], tuple[bool | None, str]]


class _Evidence:
    """The records of one seed, by defence; ``ldat`` names the LDAT that the claims are put to."""

    def __init__(self, run: Run, ldat: str):
        self.ldat, self.title, self.classes = ldat, TITLES[ldat], run.dataset.num_classes
        trainings = run.select_seed(run.trainings())
        self.whitebox = _found(run, "whitebox", trainings)
        self.eps = _found(run, "sweep_eps", trainings)
        self.steps = _found(run, "sweep_steps", trainings)
        self.training = _found(run, "train", trainings)
        # The variations are of the profile's base; of another LDAT they say nothing.
        varied = ldat == run.profile.base
        self.betas = _named(run, run.beta_trainings()) if varied else {}
        self.attacks = _named(run, run.attack_trainings()) if varied else {}
        self.surrogates = _found(run, "transfer", run.surrogates())
        self.labels = {training.name: training.label for training in trainings}
        self.features = _found(run, "features", trainings)
        self.detection = _found(run, "detection", trainings)
        self.autoattack = _found(run, "autoattack", trainings)
        self.masking = _found(run, "masking", trainings)
        self.adaptive = _found(run, "adaptive", trainings)
        self.logs = {
            training.name: run.log(training)
            for training in trainings
            if training.name in self.training
        }
        self.rivals = [
            name for name in self.whitebox if name in ("standard", "trades", "mart", "lbgat")
        ]

    @property
    def at_chance(self) -> bool:
        """Whether LDAT's natural accuracy is that of guessing: its features have collapsed."""
        if self.ldat not in self.whitebox:
            return False
        clean = self.whitebox[self.ldat]["clean_accuracy"]
        return clean["low"] <= 1 / self.classes <= clean["high"]

    def accuracy(self, defence: str, key: str) -> float:
        """Percent right; ``key`` as for ``tables.right_images``."""
        return 100 * right_images(self.whitebox[defence], key).float().mean().item()

    def lead(self, key: str, rivals: Iterable[str] | None = None) -> "_Lead":
        """LDAT against the best rival."""
        rival = max(rivals or self.rivals, key=lambda name: self.accuracy(name, key))
        p_value = mcnemar(self.whitebox[self.ldat], self.whitebox[rival], key)[2]
        own, other = (self.accuracy(name, key) for name in (self.ldat, rival))
        return _Lead(own, other, p_value, rival, self.title)


@dataclass(frozen=True)
class _Lead:
    """Accuracies in percent, McNemar's p-value, and who the best rival is."""

    ldat: float
    rival: float
    p_value: float
    name: str
    title: str

    @property
    def ahead(self) -> bool | None:
        """Significantly ahead (True) or behind (False) at 5%; None: cannot tell."""
        return None if self.p_value >= 0.05 else self.ldat > self.rival

    def __str__(self) -> str:
        rival = f"{TITLES[self.name]} {self.rival:.1f}%"
        return f"{self.title} {self.ldat:.1f}%, best rival {rival} (p={self.p_value:.2g})"


def _named(run: Run, trainings: dict) -> dict:
    """The records of kind ``basic`` of named trainings, as far as there are any."""
    found = {name: _found(run, "basic", [training]) for name, training in trainings.items()}
    return {name: records[trainings[name].name] for name, records in found.items() if records}


def _found(run: Run, kind: str, trainings) -> dict[str, dict]:
    jobs = [(job.training.name, job.path) for job in run.jobs_of(kind, trainings)]
    return {name: read_json(path) for name, path in jobs if path.is_file()}


def _all_attacks(evidence: _Evidence):
    keys = [key for key in evidence.whitebox[evidence.ldat]["attacks"] if not key.endswith("ddn")]
    leads = {key: evidence.lead(key) for key in keys}
    ahead = sum(lead.ahead is True for lead in leads.values())
    behind = sum(lead.ahead is False for lead in leads.values())
    text = (
        f"ahead of the best rival in {ahead} of {len(keys)} columns, behind in {behind}, no "
        f"significant difference in {len(keys) - ahead - behind}; "
        f"L-inf PGD: {leads['linf_pgd']}; L2 PGD: {leads['l2_pgd']}"
    )
    return (False if behind else True if ahead == len(keys) else None), text


def _survives_everything(evidence: _Evidence):
    """The same claim under AutoAttack and all else that was run, norm by norm."""
    texts, verdicts = [], []
    for norm in evidence.autoattack[evidence.ldat]["norms"]:
        left = {}
        for name in [*evidence.rivals, evidence.ldat]:
            records = [kind[name] for kind in (evidence.masking, evidence.adaptive) if name in kind]
            white, auto = evidence.whitebox[name], evidence.autoattack[name]
            found = tables_scrutiny.survivors(white, auto, records, norm)
            left[name] = found["worst_case"]
        rival = max(evidence.rivals, key=lambda name: int(left[name].sum()))
        _, _, p_value = mcnemar_of(left[evidence.ldat], left[rival])
        own, other = (100 * left[n].double().mean().item() for n in (evidence.ldat, rival))
        lead = _Lead(own, other, p_value, rival, evidence.title)
        verdicts.append(lead.ahead)
        texts.append(f"{norm}: {lead}")
    return (False if False in verdicts else True if all(verdicts) else None), "; ".join(texts)


def _natural(evidence: _Evidence):
    lead = evidence.lead("natural")
    return lead.ahead, str(lead)


def _deepfool(evidence: _Evidence):
    leads = {key: evidence.lead(key) for key in ("linf_deepfool", "l2_deepfool")}
    verdicts = [lead.ahead for lead in leads.values()]
    text = "; ".join(f"{column_title(key)}: {lead}" for key, lead in leads.items())
    return (True if all(verdicts) else False if False in verdicts else None), text


def _l2_model(evidence: _Evidence):
    if "l2_at" not in evidence.whitebox:
        return None, "no L2-AT in this run"
    without, among = evidence.lead("l2"), evidence.lead("l2", [*evidence.rivals, "l2_at"])
    text = f"worst case of L2, the paper's rivals: {without}; with L2-AT among them: {among}"
    return among.ahead, text


def _slower_decrease(evidence: _Evidence):
    texts, holds = [], []
    for norm in ("linf", "l2"):
        kept = {}
        for name in [*evidence.rivals, evidence.ldat]:
            points = [p for p in evidence.eps[name]["points"] if p["norm"] == norm]
            budget = evidence.whitebox[name]["attacks"][f"{norm}_pgd"]["settings"]["eps"]
            at = {round(p["eps"] / budget, 6): p["robust_accuracy"]["value"] for p in points}
            if not at.get(1.0) or 1.5 not in at:
                return None, "the sweep has no points at 1 and 1.5 budgets"
            kept[name] = 100 * at[1.5] / at[1.0]
        rival = max(evidence.rivals, key=kept.get)
        holds.append(kept[evidence.ldat] > kept[rival])
        texts.append(
            f"{norm}: from 1 to 1.5 budgets {evidence.title} keeps {kept[evidence.ldat]:.0f}% of "
            f"its robust accuracy, best rival {TITLES[rival]} {kept[rival]:.0f}%"
        )
    return all(holds), "; ".join(texts)


def _iterations(evidence: _Evidence):
    texts, holds = [], []
    for method in ("pgd", "cw"):
        final = {}
        for name in [*evidence.rivals, evidence.ldat]:
            points = [p for p in evidence.steps[name]["points"] if p["method"] == method]
            final[name] = 100 * max(points, key=lambda p: p["steps"])["robust_accuracy"]["value"]
        rival = max(evidence.rivals, key=final.get)
        holds.append(final[evidence.ldat] > final[rival])
        texts.append(
            f"{METHODS[method].title} at most iterations: {evidence.title} "
            f"{final[evidence.ldat]:.0f}%, best rival {TITLES[rival]} {final[rival]:.0f}%"
        )
    return all(holds), "; ".join(texts)


def _growing_perturbation(evidence: _Evidence):
    log = evidence.logs[evidence.ldat]
    first, last = log[0]["attack_norm"], log[-1]["attack_norm"]
    return last > first, f"mean length {first:.2f} in the first epoch, {last:.2f} in the last"


def _still_classifies(evidence: _Evidence):
    log = evidence.logs[evidence.ldat]
    clean = [line["val_clean_accuracy"] for line in log if "val_clean_accuracy" in line]
    distances = [line["smallest_centroid_distance"] for line in log]
    count = evidence.training[evidence.ldat]["val_images"]
    low, _ = wilson_interval(round(max(clean) * count), count)
    text = (
        f"validation clean accuracy {max(clean):.1%} at its best, {clean[-1]:.1%} at the end; "
        f"smallest centroid distance {max(distances):.2f} at most, {distances[-1]:.2f} at the end"
    )
    return clean[-1] >= low, text


def _apgd(evidence: _Evidence):
    gaps = {
        norm: evidence.accuracy(evidence.ldat, f"{norm}_apgd")
        - evidence.accuracy(evidence.ldat, f"{norm}_pgd")
        for norm in ("linf", "l2")
    }
    text = ", ".join(f"{norm} {gap:+.1f} points" for norm, gap in gaps.items())
    return all(gap > 0 for gap in gaps.values()), f"APGD minus PGD, {evidence.title}: {text}"


def _beta_trade_off(evidence: _Evidence):
    betas = sorted(evidence.betas)
    natural = [100 * evidence.betas[b]["clean_accuracy"]["value"] for b in betas]
    robust = [_pgd(evidence.betas[b]) for b in betas]
    text = "; ".join(
        f"beta {b:g}: natural {n:.1f}%, PGD {r:.1f}%"
        for b, n, r in zip(betas, natural, robust, strict=True)
    )
    first, last = evidence.betas[betas[0]], evidence.betas[betas[-1]]
    less_natural = mcnemar(last, first, "natural")
    more_robust = mcnemar(last, first, "linf_pgd")
    if min(less_natural[2], more_robust[2]) >= 0.05:
        return None, text
    significant = less_natural[2] < 0.05 and more_robust[2] < 0.05
    return (significant and natural[-1] < natural[0] and robust[-1] > robust[0]) or None, text


def _beta_saturates(evidence: _Evidence):
    half, one = evidence.betas[0.5], evidence.betas[1.0]
    p_value = mcnemar(one, half, "linf_pgd")[2]
    text = f"PGD {_pgd(half):.1f}% at beta 0.5, {_pgd(one):.1f}% at 1 (p={p_value:.2g})"
    return p_value >= 0.05 or _pgd(one) <= _pgd(half), text


def _pgd(record: dict) -> float:
    return 100 * record["attacks"]["linf_pgd"]["robust_accuracy"]["value"]


def _transferred(evidence: _Evidence, surrogate: str, defence: str, key: str) -> dict:
    return evidence.surrogates[surrogate]["targets"][evidence.labels[defence]][key]


def _black_box(evidence: _Evidence):
    texts, verdicts = [], []
    for surrogate, name in (("natural", "undefended"), ("standard", "defended")):
        shares = {
            defence: _transferred(evidence, surrogate, defence, "linf_pgd")
            for defence in [*evidence.rivals, evidence.ldat]
        }
        rival = max(evidence.rivals, key=lambda defence: shares[defence]["value"])
        ours, theirs = shares[evidence.ldat], shares[rival]
        apart = ours["low"] > theirs["high"] or ours["high"] < theirs["low"]
        verdicts.append(ours["value"] > theirs["value"] if apart else None)
        texts.append(
            f"{name} surrogate, PGD: {evidence.title} {100 * ours['value']:.1f}%, best rival "
            f"{TITLES[rival]} {100 * theirs['value']:.1f}%"
        )
    return (False if False in verdicts else True if all(verdicts) else None), "; ".join(texts)


def _near_natural(evidence: _Evidence):
    shares = {d: _transferred(evidence, "natural", d, "linf_pgd") for d in evidence.labels}
    clean = {d: _transferred(evidence, "natural", d, "clean") for d in evidence.labels}
    shown = [*evidence.rivals, evidence.ldat]
    lost = {d: 100 * (clean[d]["value"] - shares[d]["value"]) for d in shown}
    worst = max(lost, key=lost.get)
    text = f"at most {lost[worst]:.1f} points below natural ({TITLES[worst]})"
    return all(shares[d]["high"] >= clean[d]["low"] for d in shown), text


def _defended_transfers(evidence: _Evidence):
    texts, holds = [], []
    for defence in [*evidence.rivals, evidence.ldat]:
        weak, strong = (
            _transferred(evidence, surrogate, defence, "linf_pgd")
            for surrogate in ("natural", "standard")
        )
        holds.append(strong["high"] < weak["low"])
        values = f"{100 * weak['value']:.0f}% to {100 * strong['value']:.0f}%"
        texts.append(f"{TITLES[defence]} {values}")
    text = "PGD, undefended to defended surrogate: " + ", ".join(texts)
    return True if all(holds) else (None if any(holds) else False), text


def _algorithm1_is_better(evidence: _Evidence):
    texts, verdicts = [], []
    base = evidence.attacks["Algorithm 1"]
    for key in ("linf_pgd", "l2_pgd"):
        rows = []
        for name, record in evidence.attacks.items():
            if name != "Algorithm 1":
                value = 100 * record["attacks"][key]["robust_accuracy"]["value"]
                p_value = mcnemar(base, record, key)[2]
                mine = 100 * base["attacks"][key]["robust_accuracy"]["value"]
                verdicts.append(None if p_value >= 0.05 else mine > value)
                rows.append(f"{name} {value:.1f}%")
        mine = 100 * base["attacks"][key]["robust_accuracy"]["value"]
        texts.append(f"{column_title(key)}: Algorithm 1 {mine:.1f}%, {', '.join(rows)}")
    return (False if False in verdicts else True if all(verdicts) else None), "; ".join(texts)


def _better_clustered(evidence: _Evidence):
    values = {
        name: [
            evidence.features[name]["numbers"][f"silhouette, {kind}"] for kind in _KINDS_OF_IMAGE
        ]
        for name in (evidence.ldat, "trades")
    }
    if None in values[evidence.ldat]:
        return None, _ONE_POINT
    text = "; ".join(
        f"silhouette of {TITLES[name]}: natural {v[0]:.2f}, adversarial {v[1]:.2f}"
        for name, v in values.items()
    )
    better = [a > b for a, b in zip(values[evidence.ldat], values["trades"], strict=True)]
    return (True if all(better) else False if not any(better) else None), text


_ONE_POINT = "all features lie in one point"
_KINDS_OF_IMAGE = ("natural", "adversarial")


def _same_distribution(evidence: _Evidence):
    numbers = evidence.features[evidence.ldat]["numbers"]
    if numbers["probe"] is None:
        return None, _ONE_POINT
    low, high = numbers["probe low"], numbers["probe high"]
    text = (
        f"a linear probe tells natural from adversarial features in {numbers['probe']:.1%} "
        f"[{low:.1%}, {high:.1%}] of held-out cases; chance is 50%"
    )
    # A probe that fails proves nothing: another one might succeed.
    return (False if low > 0.5 else None), text


def _natural_closer(evidence: _Evidence):
    numbers = evidence.features[evidence.ldat]["numbers"]
    if numbers["probe"] is None:
        return None, _ONE_POINT
    near, far = (numbers[f"to own centroid, {kind}"] for kind in _KINDS_OF_IMAGE)
    text = f"mean distance to the own class's mean: natural {near:.2f}, adversarial {far:.2f}"
    return near < far, text


def _scored(evidence: _Evidence, key: str):
    return detection.scored(evidence.detection[evidence.ldat], "posterior", key)


def _threshold_spares_natural(evidence: _Evidence):
    counts = detection.count(*_scored(evidence, "clean"), detection.PAPER_THRESHOLD)
    rejected = counts.rejected_right + counts.rejected_wrong
    low, high = wilson_interval(rejected, counts.total)
    text = f"0.6 rejects {rejected / counts.total:.1%} [{low:.1%}, {high:.1%}] of clean images"
    return (True if high < 0.05 else False if low > 0.05 else None), text


def _low_confidence(evidence: _Evidence):
    scores, clean_right = _scored(evidence, "clean")
    aucs = {}
    for key in ("l2_cw", "l2_fab", "linf_fab"):
        attacked, right = _scored(evidence, key)
        aucs[key] = detection.roc(scores[clean_right], attacked[clean_right & ~right])["auc"]
    if None in aucs.values():
        return None, "an attack without a success"
    text = "AUC of the posterior, clean against successful: " + ", ".join(
        f"{column_title(key)} {auc:.2f}" for key, auc in aucs.items()
    )
    return min(aucs.values()) > 0.9, text


def _threshold_helps(evidence: _Evidence):
    gains = {}
    for key in ("linf_pgd", "l2_pgd", "l2_cw", "l2_fab", "linf_fab"):
        without, with_threshold = (
            detection.count(*_scored(evidence, key), threshold).defence_success
            for threshold in (float("-inf"), detection.PAPER_THRESHOLD)
        )
        gains[key] = 100 * (with_threshold - without)
    text = "gain of 0.6 in defence success: " + ", ".join(
        f"{column_title(key)} {gain:+.1f}" for key, gain in gains.items()
    )
    strong = max(gains["linf_pgd"], gains["l2_pgd"])
    return min(gains["l2_cw"], gains["l2_fab"], gains["linf_fab"]) > max(strong, 0), text


def _threshold_helps_adaptive(evidence: _Evidence):
    """Wrong and accepted under the attack that knows 0.6, against wrong without a threshold."""
    record, seen = evidence.adaptive[evidence.ldat], evidence.detection[evidence.ldat]
    rows = tables_scrutiny.adaptive_rows([record], [seen])
    rows = rows[(rows.score == "posterior") & (rows.cut == detection.PAPER_THRESHOLD)]
    texts, verdicts = [], []
    for _, row in rows.iterrows():
        white, auto = evidence.whitebox[evidence.ldat], evidence.autoattack[evidence.ldat]
        more = [record, evidence.masking[evidence.ldat]]
        right = tables_scrutiny.survivors(white, auto, more, row.norm)["worst_case"]
        wrong = share(~right)
        low, high = 100 * wrong["low"], 100 * wrong["high"]
        helps = row.union_high < low
        verdicts.append(True if helps else False if row.union_low > high else None)
        texts.append(
            f"{row.norm}: wrong without a threshold {100 * wrong['value']:.0f}%, wrong and "
            f"accepted {row.adaptive:.0f}% (best ordinary attack {row.ordinary:.0f}%), clean "
            f"images rejected {row.clean_rejection:.0f}%"
        )
    return (False if False in verdicts else True if all(verdicts) else None), "; ".join(texts)


CLAIMS = (
    Claim("4.2.2", "the best robustness against all types of attacks", _all_attacks),
    Claim("4.2.2", "the same, AutoAttack and notebook 09 included", _survives_everything),
    Claim("4.2.2", "LDAT has the highest natural accuracy", _natural),
    Claim("4.2.2", "a significant advantage against DeepFool", _deepfool),
    Claim("4.2.2", "LDAT is more effective under the L2 threat model", _l2_model),
    Claim("4.3", "accuracy falls significantly less as the budget grows", _slower_decrease),
    Claim("4.3", "LDAT keeps its advantage as iterations grow", _iterations),
    Claim("3.2", "the perturbation grows with the model's robustness", _growing_perturbation),
    Claim("3.3", "growing lambda does not cost the ability to classify", _still_classifies),
    Claim("4.2.2", "more beta: less natural, more robust accuracy (Table 3)", _beta_trade_off),
    Claim("4.2.2", "above beta 0.5 robustness hardly improves (Table 3)", _beta_saturates),
    Claim("4.2.3", "LDAT outperforms the other baselines in the black box", _black_box),
    Claim("4.2.3", "undefended surrogate: accuracy approaches the natural one", _near_natural),
    Claim("4.2.3", "examples of a defended surrogate transfer far better", _defended_transfers),
    Claim("4.4", "with PGD instead of Algorithm 1 robustness decreases", _algorithm1_is_better),
    Claim("4.5", "LDAT's features are better clustered than TRADES's", _better_clustered),
    Claim("1, 5", "natural and adversarial features follow one distribution", _same_distribution),
    Claim("3", "natural features are closer to the centroid", _natural_closer),
    Claim(
        "4.6",
        "a threshold of 0.6 has almost no effect on natural images",
        _threshold_spares_natural,
    ),
    Claim("4.6", "successful C&W and FAB examples have low confidence", _low_confidence),
    Claim("4.6", "the threshold helps against C&W and FAB, not against PGD", _threshold_helps),
    Claim(
        "4.6",
        "the threshold helps (against an attack that knows it)",
        _threshold_helps_adaptive,
    ),
    Claim("Table 1", "(oddity) accuracy under APGD is above that under PGD", _apgd),
)


def claims(run: Run, ldat: str = "ldat") -> pd.DataFrame:
    """Each claim of the paper with what this run saw and a verdict.

    ``ldat``: the defence that the claims are put to, as written unless said.

    The paper's claims are about CIFAR; on other data the verdict is "not tested on the paper's
    data" and the observation stands beside it. With a smaller network, fewer images or epochs than
    the paper's it speaks of this scale.
    """
    evidence = _Evidence(run, ldat)
    paper_data = paper.is_papers_data(run.dataset)
    images = len(run.dataset.labels["train"])
    whole = paper.is_papers_scale(run.trainings()[0].config, images)
    scale = "" if whole else " at this scale"
    rows = []
    for claim in CLAIMS:
        try:
            holds, text = claim.observe(evidence)
        except (KeyError, ValueError, IndexError):
            holds, text = None, "needs records that this run does not have"
        if evidence.at_chance and holds:
            holds, text = None, f"{evidence.title} classifies no better than chance; {text}"
        seen = {True: "yes", False: "no", None: "cannot tell"}[holds]
        verdict = {True: "holds", False: "does not hold", None: "cannot tell"}[holds] + scale
        rows.append(
            {
                "section": claim.section,
                "the paper says": claim.text,
                "seen here": text,
                "same here?": seen,
                "verdict": verdict if paper_data else "not tested on the paper's data",
            }
        )
    return pd.DataFrame(rows)
