"""Tables of notebook 09, from records of the kinds autoattack, masking and adaptive.

Frames of numbers hold percent with both ends of the 95% Wilson interval; those for reading hold
"value ± half the interval".
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from ldatlib.defences import TITLES
from ldatlib.evaluation import detection, masking
from ldatlib.evaluation.robustness import from_bits, share
from ldatlib.report.tables import NORMS, column_title
from ldatlib.study.kinds.detector import missed

THRESHOLDS = {"paper": "0.6 (paper)", "accept_95": "95% frozen", "accept_99": "99% frozen"}


def _named(name: str, found: dict) -> dict[str, float]:
    """A share as three columns, in percent."""
    ends = {"": "value", "_low": "low", "_high": "high"}
    return {f"{name}{suffix}": round(100 * found[end], 2) for suffix, end in ends.items()}


# --- the scrutiny table -----------------------------------------------------------------------


def survivors(whitebox: dict, auto: dict, others: Sequence[dict], norm: str) -> dict[str, Tensor]:
    """Images still right, bool [N], on the first N of the test split that AutoAttack saw.

    ``whitebox``, ``auto``: records of one network; ``others``: its masking and adaptive records,
    as far as there are any. Keys: the attacks of Table 1 in this norm, ``"list"`` (all of them),
    ``"autoattack"`` and ``"worst_case"``: right under everything that was run on these images.
    An image that an attack was not shown counts as not fooled by it.
    """
    found = auto["norms"][norm]
    right = from_bits(found["right"])
    keys = [key for key in whitebox["attacks"] if key.startswith(f"{norm}_")]
    listed = {key: _first(from_bits(whitebox["attacks"][key]["right"]), right) for key in keys}
    every = [*listed.values(), right]
    for record in others:
        if norm not in record["norms"]:
            continue
        if record["kind"] == "masking":
            bits = record["norms"][norm]["right"].values()
            every += [_first(from_bits(b), right) for b in bits]
        else:
            entries = [e for scores in record["norms"][norm].values() for e in scores.values()]
            every += [_first(from_bits(entry["right"]), right) for entry in entries]
    everything = torch.stack(every).all(0)
    listed["list"] = torch.stack([listed[key] for key in keys]).all(0)
    return listed | {"autoattack": right, "worst_case": everything}


def _first(right: Tensor, like: Tensor) -> Tensor:
    """As many verdicts as ``like`` has; images that were not shown count as right."""
    result = torch.ones_like(like)
    result[: len(right)] = right[: len(like)]
    return result


def scrutiny(whitebox: Sequence[dict], auto: Sequence[dict], others: dict) -> pd.DataFrame:
    """A row a network and norm: best attack of the list, AutoAttack, worst case, gap.

    ``others``: defence -> its masking and adaptive records. The gap is the list's worst case, what
    Table 1 reports, less the worst case of everything: what the list leaves out.
    """
    rows = []
    for table1, record in zip(whitebox, auto, strict=True):
        more = others.get(record["defence"], [])
        for norm, found in record["norms"].items():
            right = survivors(table1, record, more, norm)
            keys = [key for key in right if key.startswith(f"{norm}_")]
            best = min(keys, key=lambda key: int(right[key].sum()))
            row = {"defence": record["defence"], "seed": record["seed"], "norm": norm}
            row |= {"best_attack": best, **_named("best", share(right[best]))}
            row |= _named("list_worst_case", share(right["list"]))
            row |= _named("autoattack", share(right["autoattack"]))
            row |= _named("worst_case", share(right["worst_case"]))
            row["gap"] = round(row["list_worst_case"] - row["worst_case"], 2)
            row["overstated"] = masking.below(right["worst_case"], right["list"])
            row["black_box_found"] = round(100 * found["black_box"]["found"]["value"], 2)
            row["skipped"] = ", ".join(found["skipped"])
            row["images"] = len(right["list"])
            row["ok"] = all(r["ok"] for r in (table1, record, *more))
            rows.append(row)
    return pd.DataFrame(rows)


def scrutiny_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """``scrutiny`` with titles, and shares as "value ± half the interval"."""

    def shown(row, name):
        return f"{row[name]:.1f} ± {(row[f'{name}_high'] - row[f'{name}_low']) / 2:.1f}"

    rows = {}
    for _, row in frame.iterrows():
        seed = f", seed {row.seed}" if row.seed else ""
        name = TITLES[row.defence] + seed + ("" if row.ok else " (SELF-CHECK FAILED)")
        skipped = f" (without {row.skipped})" if row.skipped else ""
        rows[name, NORMS[row.norm]] = {
            "best attack of the list": f"{shown(row, 'best')} ({column_title(row.best_attack)})",
            "worst case of the list": shown(row, "list_worst_case"),
            "AutoAttack": shown(row, "autoattack") + skipped,
            "worst case of everything": shown(row, "worst_case"),
            "gap": f"{row.gap:.1f}" + (" (more than the interval)" if row.overstated else ""),
        }
    result = pd.DataFrame.from_dict(rows, orient="index")
    result.index = pd.MultiIndex.from_tuples(result.index, names=["defence", "norm"])
    return result


# --- masking ----------------------------------------------------------------------------------


def masking_rows(records: Sequence[dict]) -> pd.DataFrame:
    """A row a network, norm and test: verdict, reason, and the share that it rests on."""
    rows = []
    for record in records:
        for norm, found in record["norms"].items():
            for test in found["tests"]:
                row = {"defence": record["defence"], "seed": record["seed"], "norm": norm}
                row |= {k: test[k] for k in ("test", "verdict", "misled", "overstated", "reason")}
                for name, value in test["numbers"].items():
                    if isinstance(value, dict) and "low" in value:
                        row |= _named(name, value)
                rows.append(row | {"images": found["images"], "ok": record["ok"]})
    return pd.DataFrame(rows)


def masking_verdicts(records: Sequence[dict], norm: str) -> pd.DataFrame:
    """Tests x networks: the verdicts in one norm, for reading."""
    columns = {}
    for record in records:
        if norm in record["norms"]:
            said = {}
            for test in record["norms"][norm]["tests"]:
                kinds = [kind for kind in ("misled", "overstated") if test[kind]]
                verdict = test["verdict"].replace("no alarm", "-").upper()
                said[test["title"]] = verdict + (f" ({', '.join(kinds)})" if kinds else "")
            columns[TITLES[record["defence"]] + ("" if record["ok"] else " (FAILED)")] = said
    return pd.DataFrame(columns).rename_axis("test")


def alarms(records: Sequence[dict]) -> pd.DataFrame:
    """A row a network and norm: the tests for masking that sound, and why."""
    rows = {}
    for record in records:
        name = TITLES[record["defence"]] + ("" if record["ok"] else " (SELF-CHECK FAILED)")
        for norm, found in record["norms"].items():
            loud = [test for test in found["tests"] if test["verdict"] == "alarm"]
            rows[name, NORMS[norm]] = {
                "alarms": ", ".join(test["title"] for test in loud) or "none",
                "why": "; ".join(test["reason"] for test in loud),
                "tests": sum(test["verdict"] != "skipped" for test in found["tests"]),
            }
    result = pd.DataFrame.from_dict(rows, orient="index")
    result.index = pd.MultiIndex.from_tuples(result.index, names=["defence", "norm"])
    return result


# --- the detector -----------------------------------------------------------------------------


def adaptive_rows(adaptive: Sequence[dict], ordinary: Sequence[dict]) -> pd.DataFrame:
    """A row a network, norm, score and threshold: ordinary attacks against the adaptive one.

    ``ordinary``: the detection records of the same networks. Shares are of all images that the
    adaptive attack saw; ``ordinary_*`` is the best single ordinary attack, ``ordinary_all`` the
    worst case of them all, ``union`` the worst case of those and the adaptive one.
    ``detection_robust``: accepted and right when clean, and not missed. ``consistent`` is False
    where that is above the accuracy of plain classification at half the budget by more than the
    intervals (Tramer 2022: a detector robust at eps gives a classifier robust at eps/2).
    """
    rows = []
    for record, seen in zip(adaptive, ordinary, strict=True):
        for norm, scores in record["norms"].items():
            half = record["half_budget"][norm]["robust_accuracy"]
            for score, entries in scores.items():
                for name, entry in entries.items():
                    row = {"defence": record["defence"], "seed": record["seed"], "norm": norm}
                    row |= {"score": score, "threshold": THRESHOLDS[name], "cut": entry["cut"]}
                    row |= _one_threshold(entry, seen, score, norm, half)
                    rows.append(row | {"images": record["images"], "ok": record["ok"]})
    return pd.DataFrame(rows)


def _one_threshold(entry: dict, seen: dict, score: str, norm: str, half: dict) -> dict:
    cut, own = entry["cut"], missed(entry, entry["cut"])
    sets, count = seen["scores"][score]["sets"], len(own)
    attacks = {n: missed(s, cut, count) for n, s in sets.items() if n.startswith(f"{norm}_")}
    best = max(attacks, key=lambda name: int(attacks[name].sum()))
    together = torch.stack(list(attacks.values())).any(0)
    clean, clean_right = (v[:count] for v in detection.scored(seen, score, "clean"))
    values = torch.tensor(entry["score"], dtype=torch.float64)
    right = from_bits(entry["right"])
    outcome = detection.summary(detection.count(values, right, cut))
    kept = (clean >= cut) & clean_right & ~own
    robust = share(kept)
    good, bad = clean[clean_right], values[clean_right & ~right]
    row = _named("clean_rejection", share(clean < cut))
    row |= {"best_ordinary": best, **_named("ordinary", share(attacks[best]))}
    row |= _named("ordinary_all", share(together)) | _named("adaptive", share(own))
    row |= _named("union", share(together | own))
    row["adaptive_auc"] = detection.roc(good, bad)["auc"]
    ordinary, verdicts = (v[:count] for v in detection.scored(seen, score, best))
    row["ordinary_auc"] = detection.roc(good, ordinary[clean_right & ~verdicts])["auc"]
    row |= _named("adaptive_defence_success", outcome["defence_success"])
    usual = detection.summary(detection.count(ordinary, verdicts, cut))
    row |= _named("ordinary_defence_success", usual["defence_success"])
    row |= _named("detection_robust", robust) | _named("half_budget", half)
    row["consistent"] = robust["low"] <= half["high"]
    return row


def adaptive_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """``adaptive_rows`` with titles: what is missed, by whom, and what is left."""
    rows = {}
    for _, row in frame.iterrows():
        name = TITLES[row.defence] + ("" if row.ok else " (SELF-CHECK FAILED)")

        def shown(column, row=row):
            half = (row[f"{column}_high"] - row[f"{column}_low"]) / 2
            return f"{row[column]:.1f} ± {half:.1f}"

        rows[name, NORMS[row.norm], row.score, row.threshold] = {
            "clean rejected": f"{row.clean_rejection:.1f}",
            "missed, best ordinary": f"{shown('ordinary')} ({column_title(row.best_ordinary)})",
            "missed, adaptive": shown("adaptive"),
            "missed, union": shown("union"),
            "AUC, ordinary": "" if pd.isna(row.ordinary_auc) else f"{row.ordinary_auc:.3f}",
            "AUC, adaptive": "" if pd.isna(row.adaptive_auc) else f"{row.adaptive_auc:.3f}",
            "defence success, ordinary": shown("ordinary_defence_success"),
            "defence success, adaptive": shown("adaptive_defence_success"),
            "robust with rejection": shown("detection_robust"),
            "classification at eps/2": shown("half_budget"),
            "consistent": "yes" if row.consistent else "NO: too good to be true",
        }
    result = pd.DataFrame.from_dict(rows, orient="index")
    result.index = pd.MultiIndex.from_tuples(
        result.index, names=["defence", "norm", "score", "threshold"]
    )
    return result
