"""The closing report: what there is, what the paper claims, and what this run saw.

Reads records, figures and tables of a run; computes nothing that takes time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ldatlib.checkpoint import read_json
from ldatlib.defences import TITLES
from ldatlib.experiments import Run
from ldatlib.robustness import METHODS, wilson_interval
from ldatlib.tables import column_title, mcnemar, right_images

# Item, its file (None: needs CIFAR-100), the notebook that makes it, what it shows.
_ITEMS = (
    ("Table 1", "tables/table1.csv", "03", "white-box robustness"),
    ("Table 2", None, "03", "white-box robustness on CIFAR-100"),
    ("Table 3", "tables/table3.csv", "05", "sensitivity to beta"),
    ("Table 4", "tables/table4.csv", "04", "black-box robustness"),
    ("Table 5", None, "04", "black-box robustness on CIFAR-100"),
    ("Figure 1", "figures/fig1.png", "01", "decision boundaries, measured in two dimensions"),
    ("Figure 2", "figures/fig2.png", "01", "feature clouds, measured in two dimensions"),
    ("Figure 3", "figures/fig3.png", "01", "attacks on a linear classifier"),
    ("Figure 4", "figures/fig4.png", "03", "accuracy against the budget"),
    ("Figure 5", "figures/fig5.png", "03", "accuracy against iterations"),
    ("Figure 6", "figures/fig6.png", "05", "Algorithm 1 replaced by PGD"),
    ("Figure 7", "figures/fig7.png", "06", "t-SNE of the features"),
    ("Figure 8", "figures/fig8.png", "07", "likelihood histograms"),
    ("Figure 9", "figures/fig9.png", "08", "defence success with a threshold"),
)


def inventory(run: Run, notebooks: Iterable[str]) -> pd.DataFrame:
    """Every table and figure of the paper: made in this run, or why not."""
    present = set(notebooks)
    rows = []
    for item, path, notebook, what in _ITEMS:
        if path is None:
            status = "not run in this profile: needs CIFAR-100 and WRN-28-10"
        elif (run.root / path).is_file():
            status = path
        elif notebook in present:
            status = f"not made yet: runner.py --only {notebook}"
        else:
            status = "not part of this version of the companion"
        rows.append({"item": item, "what": what, "in this run": status})
    return pd.DataFrame(rows).set_index("item")


def facts(run: Run, record: dict) -> pd.DataFrame:
    """Data, network, recipe, machine and versions of a run, one a row."""
    p, source = run.profile, record["provenance"]
    data = run.dataset
    sizes = ", ".join(f"{len(data.labels[s])} {s}" for s in ("train", "val", "test"))
    side = data.images["train"].shape[-1]
    rows = {
        "profile": f"{p.name}: {p.title}",
        "data": f"{data.title}, {data.num_classes} classes, {side}x{side}, {sizes}",
        "data fingerprint": data.fingerprint[:16],
        "network": f"PreAct ResNet, depth {p.depth}, width {p.width}, {p.stages} stages",
        "recipe": f"{p.epochs} epochs, batch {p.batch_size}, SGD {p.lr:g}, cosine to 0, "
        f"{p.seeds} seed(s)",
        "budgets": f"L-inf {p.eps_linf:g}, L2 {p.eps_l2:g}, radius of LDAT {p.radius:g} "
        "(pixels in [0,1])",
        "device": f"{source['device']}, {source['threads']} thread(s) a process",
        "versions": ", ".join(f"{k} {v}" for k, v in source["libraries"].items()),
        "source revision": source["revision"] or "not a git checkout",
    }
    return pd.DataFrame(rows.items(), columns=["", "this run"]).set_index("")


@dataclass(frozen=True)
class _Claim:
    section: str
    text: str
    observe: Callable[["_Evidence"], tuple[bool | None, str]]


class _Evidence:
    """The records of one seed, by defence."""

    def __init__(self, run: Run):
        arms = run.select_seed(run.arms())
        self.whitebox = _found(run, "whitebox", arms)
        self.eps = _found(run, "sweep_eps", arms)
        self.steps = _found(run, "sweep_steps", arms)
        self.training = _found(run, "train", arms)
        self.logs = {arm.name: run.log(arm) for arm in arms if arm.name in self.training}
        self.rivals = [
            name for name in self.whitebox if name in ("standard", "trades", "mart", "lbgat")
        ]

    def accuracy(self, defence: str, key: str) -> float:
        """Percent right; ``key`` as for ``tables.right_images``."""
        return 100 * right_images(self.whitebox[defence], key).float().mean().item()

    def lead(self, key: str, rivals: Iterable[str] | None = None) -> "_Lead":
        """LDAT against the best rival."""
        rival = max(rivals or self.rivals, key=lambda name: self.accuracy(name, key))
        p_value = mcnemar(self.whitebox["ldat"], self.whitebox[rival], key)[2]
        return _Lead(self.accuracy("ldat", key), self.accuracy(rival, key), p_value, rival)


@dataclass(frozen=True)
class _Lead:
    """Accuracies in percent, McNemar's p-value, and who the best rival is."""

    ldat: float
    rival: float
    p_value: float
    name: str

    @property
    def ahead(self) -> bool | None:
        """Significantly ahead (True) or behind (False) at 5%; None: cannot tell."""
        return None if self.p_value >= 0.05 else self.ldat > self.rival

    def __str__(self) -> str:
        rival = f"{TITLES[self.name]} {self.rival:.1f}%"
        return f"LDAT {self.ldat:.1f}%, best rival {rival} (p={self.p_value:.2g})"


def _found(run: Run, kind: str, arms) -> dict[str, dict]:
    jobs = [(job.arm.name, job.path) for job in run.jobs_of(kind, arms)]
    return {name: read_json(path) for name, path in jobs if path.is_file()}


def _all_attacks(evidence: _Evidence):
    keys = [key for key in evidence.whitebox["ldat"]["attacks"] if not key.endswith("ddn")]
    leads = {key: evidence.lead(key) for key in keys}
    ahead = sum(lead.ahead is True for lead in leads.values())
    behind = sum(lead.ahead is False for lead in leads.values())
    text = (
        f"ahead of the best rival in {ahead} of {len(keys)} columns, behind in {behind}, no "
        f"significant difference in {len(keys) - ahead - behind}; "
        f"L-inf PGD: {leads['linf_pgd']}; L2 PGD: {leads['l2_pgd']}"
    )
    return (False if behind else True if ahead == len(keys) else None), text


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
        for name in [*evidence.rivals, "ldat"]:
            points = [p for p in evidence.eps[name]["points"] if p["norm"] == norm]
            budget = evidence.whitebox[name]["attacks"][f"{norm}_pgd"]["settings"]["eps"]
            at = {round(p["eps"] / budget, 6): p["robust_accuracy"]["value"] for p in points}
            if not at.get(1.0) or 1.5 not in at:
                return None, "the sweep has no points at 1 and 1.5 budgets"
            kept[name] = 100 * at[1.5] / at[1.0]
        rival = max(evidence.rivals, key=kept.get)
        holds.append(kept["ldat"] > kept[rival])
        texts.append(
            f"{norm}: from 1 to 1.5 budgets LDAT keeps {kept['ldat']:.0f}% of its robust accuracy, "
            f"best rival {TITLES[rival]} {kept[rival]:.0f}%"
        )
    return all(holds), "; ".join(texts)


def _iterations(evidence: _Evidence):
    texts, holds = [], []
    for method in ("pgd", "cw"):
        final = {}
        for name in [*evidence.rivals, "ldat"]:
            points = [p for p in evidence.steps[name]["points"] if p["method"] == method]
            final[name] = 100 * max(points, key=lambda p: p["steps"])["robust_accuracy"]["value"]
        rival = max(evidence.rivals, key=final.get)
        holds.append(final["ldat"] > final[rival])
        texts.append(
            f"{METHODS[method].title} at most iterations: LDAT {final['ldat']:.0f}%, "
            f"best rival {TITLES[rival]} {final[rival]:.0f}%"
        )
    return all(holds), "; ".join(texts)


def _growing_perturbation(evidence: _Evidence):
    log = evidence.logs["ldat"]
    first, last = log[0]["attack_norm"], log[-1]["attack_norm"]
    return last > first, f"mean length {first:.2f} in the first epoch, {last:.2f} in the last"


def _still_classifies(evidence: _Evidence):
    log = evidence.logs["ldat"]
    clean = [line["val_clean_accuracy"] for line in log if "val_clean_accuracy" in line]
    distances = [line["smallest_centroid_distance"] for line in log]
    count = evidence.training["ldat"]["val_images"]
    low, _ = wilson_interval(round(max(clean) * count), count)
    text = (
        f"validation clean accuracy {max(clean):.1%} at its best, {clean[-1]:.1%} at the end; "
        f"smallest centroid distance {max(distances):.2f} at most, {distances[-1]:.2f} at the end"
    )
    return clean[-1] >= low, text


def _apgd(evidence: _Evidence):
    gaps = {
        norm: evidence.accuracy("ldat", f"{norm}_apgd") - evidence.accuracy("ldat", f"{norm}_pgd")
        for norm in ("linf", "l2")
    }
    text = ", ".join(f"{norm} {gap:+.1f} points" for norm, gap in gaps.items())
    return all(gap > 0 for gap in gaps.values()), f"APGD minus PGD, LDAT: {text}"


CLAIMS = (
    _Claim("4.2.2", "the best robustness against all types of attacks", _all_attacks),
    _Claim("4.2.2", "LDAT has the highest natural accuracy", _natural),
    _Claim("4.2.2", "a significant advantage against DeepFool", _deepfool),
    _Claim("4.2.2", "LDAT is more effective under the L2 threat model", _l2_model),
    _Claim("4.3", "accuracy falls significantly less as the budget grows", _slower_decrease),
    _Claim("4.3", "LDAT keeps its advantage as iterations grow", _iterations),
    _Claim("3.2", "the perturbation grows with the model's robustness", _growing_perturbation),
    _Claim("3.3", "growing lambda does not cost the ability to classify", _still_classifies),
    _Claim("Table 1", "(oddity) accuracy under APGD is above that under PGD", _apgd),
)


def claims(run: Run) -> pd.DataFrame:
    """Each claim of the paper with what this run saw and a verdict.

    The paper's claims are about CIFAR; on other data the verdict is "not tested on the paper's
    data" and the observation stands beside it.
    """
    evidence = _Evidence(run)
    paper_data = run.profile.dataset in ("cifar10", "cifar100")
    rows = []
    for claim in CLAIMS:
        try:
            holds, text = claim.observe(evidence)
        except (KeyError, ValueError):
            holds, text = None, "needs records that this run does not have"
        seen = {True: "yes", False: "no", None: "cannot tell"}[holds]
        verdict = {True: "holds", False: "does not hold", None: "cannot tell"}[holds]
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


def self_checks(run: Run) -> pd.DataFrame:
    """Failed self-checks over all records of the run's folder; empty when all passed."""
    rows = []
    for path in sorted((run.root / "records").glob("*.json")):
        record = read_json(path)
        for check in record.get("self_checks", []):
            if not check["passed"]:
                rows.append({"record": path.name, "check": check["name"], "value": check["value"]})
    return pd.DataFrame(rows, columns=["record", "check", "value"])


def figures(run: Run) -> list[tuple[str, Path]]:
    """Titles and files of the paper's figures that this run has made."""
    rows = [(f"{i}: {what}", run.root / path) for i, path, _, what in _ITEMS if path]
    return [(title, path) for title, path in rows if path.suffix == ".png" and path.is_file()]
