"""The detector: what a threshold does to each attack, and to one that knows it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from ldatlib.evaluation import detection
from ldatlib.report import detector, glossary, words
from ldatlib.report.comparisons import share
from ldatlib.report.detector import missed
from ldatlib.report.words import (
    NO_THRESHOLD,
    NORMS,
    NOT_FROZEN,
    THRESHOLDS,
    column_title,
    set_title,
)
from ldatlib.study.records import Adaptive, Detection, Share
from ldatlib.study.records.scrutiny import Accepted, Highest

COUNTS = ("accepted_right", "accepted_wrong", "rejected_right", "rejected_wrong")
WORST_CASES = {f"{norm}_worst_case": column_title(norm) for norm in NORMS}


def thresholds(records: Mapping[str, Detection]) -> pd.DataFrame:
    """A row a network, score and threshold: what it does to natural images.

    Where no threshold could be frozen a row without numbers says so.
    """
    rows = []
    for name, record in records.items():
        for score in record.scores:
            for title, cut in detector.thresholds(record, score).items():
                clean = detector.outcomes(record, score, cut)["clean"]
                rows.append(
                    {
                        "defence": glossary.defence(name),
                        "score": score,
                        "threshold": title,
                        "value": cut,
                        f"{glossary.title('clean_rejection')} %": 100 * clean.rejection.value,
                        "rejected though right": clean.counts.rejected_right,
                        "accepted though wrong": clean.counts.accepted_wrong,
                    }
                )
            if detector.frozen_threshold(record, score) is None:
                reason = {"threshold": f"frozen: {NOT_FROZEN}"}
                rows.append({"defence": glossary.defence(name), "score": score, **reason})
    frame = pd.DataFrame(rows)
    frame = frame[frame.threshold != NO_THRESHOLD]
    whole = ["rejected though right", "accepted though wrong"]
    frame = frame.astype(dict.fromkeys(whole, "Int64"))
    return frame.set_index(["defence", "score", "threshold"])


def scores_by_attack(record: Detection) -> pd.DataFrame:
    """A row a set of images: share wrong, and the middle score of right and of wrong ones."""
    rows = []
    for name in detector.attacked_sets(record):
        row: dict[str, Any] = {"images": set_title(name)}
        for score in record.scores:
            values, right = detector.scored(record, score, name)
            row["wrong %"] = round(100 * (~right).double().mean().item(), 1)
            short = score.replace("_", "-")
            for word, kept in (("right", right), ("wrong", ~right)):
                middle = values[kept].median().item() if kept.any() else float("nan")
                row[f"{short}, median of {word}"] = round(middle, 3)
            if score == "posterior" and (~right).any():
                over = (values[~right] >= detection.PAPER_THRESHOLD).double().mean().item()
                row["wrong ones at 0.6 or more %"] = round(100 * over, 1)
        rows.append(row)
    return pd.DataFrame(rows).set_index("images")


def outcome_rows(record: Detection, score: str) -> list[dict[str, Any]]:
    """Outcomes at each of the thresholds as flat rows for a table; shares in percent.

    After the sets of each threshold, a row a norm: the worst case of its attacks.
    """
    rows = []
    for title, cut in detector.thresholds(record, score).items():
        first: dict[str, Any] = {
            "defence": record.defence,
            "score": score,
            "threshold": title,
            "cut": cut,
        }
        for name, found in detector.outcomes(record, score, cut).items():
            row = first | {"set": name}
            row |= {kind: getattr(found.counts, kind) for kind in COUNTS}
            row |= words.columns("defence_success", found.defence_success)
            row |= words.columns("robust_error_under_rejection", found.robust_error_under_rejection)
            row |= words.columns("rejection", found.rejection)
            rows.append(row | {"auc": found.auc})
        for norm, missed_at_worst in detector.missed_at_worst(record, score, cut).items():
            row = first | {"set": f"{norm}_worst_case"}
            rows.append(row | words.columns("robust_error_under_rejection", missed_at_worst))
    return rows


def outcomes_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``outcome_rows`` of one network and score with titles, empty where not defined."""

    def percent(name: str) -> list[str]:
        pairs = ((words.from_columns(row, name), row[name]) for _, row in frame.iterrows())
        return ["" if pd.isna(value) else text for text, value in pairs]

    table = frame[list(COUNTS)].astype("Int64").rename(columns=lambda n: n.replace("_", ", "))
    for name in ("defence_success", "robust_error_under_rejection"):
        table[f"{glossary.title(name)} %"] = percent(name)
    table["rejected of all %"] = percent("rejection")
    # All of them may be missing, which pandas would not take for numbers.
    table[glossary.title("auc")] = frame.auc.astype(float).round(3)
    table.index = pd.MultiIndex.from_arrays(
        [frame.threshold, [WORST_CASES.get(n) or set_title(n) for n in frame["set"]]],
        names=["threshold", "images"],
    )
    return table.astype(object).where(table.notna(), "")


def areas(records: Mapping[str, Detection]) -> pd.DataFrame:
    """AUC: a row a network and score, a column a set of images; NaN where nobody was fooled."""
    rows = {}
    for name, record in records.items():
        for score in record.scores:
            found = detector.outcomes(record, score, None)
            rows[glossary.defence(name), score] = {set_title(n): o.auc for n, o in found.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    return table.rename_axis(["defence", "score"])


def adaptive_at_frozen(adaptive: Sequence[Adaptive], ordinary: Sequence[Detection]) -> pd.DataFrame:
    """``adaptive_rows`` at the threshold that accepts 95%; at the paper's where none was frozen."""
    frame = adaptive_rows(adaptive, ordinary)
    frozen = frame[frame.threshold == THRESHOLDS["accept_95"]]
    keys = ["defence", "seed", "norm", "score"]
    known = set(frozen[keys].itertuples(index=False, name=None))
    others = frame[frame.threshold == THRESHOLDS["paper"]]
    others = others[[key not in known for key in others[keys].itertuples(index=False, name=None)]]
    others = others.assign(threshold=f"{THRESHOLDS['paper']}; frozen: {NOT_FROZEN}")
    return pd.concat([frozen, others]).sort_index()


def adaptive_rows(adaptive: Sequence[Adaptive], ordinary: Sequence[Detection]) -> pd.DataFrame:
    """A row a network, norm, score and threshold: ordinary attacks against the adaptive one.

    ``ordinary``: the detection records of the same networks. Shares are of all images that the
    adaptive attack saw; ``ordinary_*`` is the strongest single ordinary attack, ``ordinary_all``
    the worst case of them all, ``union`` that of those and the adaptive one: what counts.
    ``converged``: whether the last restart found nothing new. ``adaptive_auc``: against wrong
    images of the highest score that an attack gave them. ``detection_robust``: accepted and right
    when clean, and not missed. ``consistent`` is False where that is above the accuracy of plain
    classification at half the budget, of the *best* network here, by more than the intervals: a
    hint that the attack is weak (Tramer 2022: a detector robust at eps gives a classifier robust
    at eps/2, though another one, and not in reasonable time).
    """
    best: dict[str, Share] = {}
    for record in adaptive:
        for norm, half in record.half_budget.items():
            if norm not in best or half.robust_accuracy.value > best[norm].value:
                best[norm] = half.robust_accuracy
    rows = []
    for record, seen in zip(adaptive, ordinary, strict=True):
        for norm, scores in record.norms.items():
            for score, entries in scores.items():
                highest = (record.highest or {}).get(norm, {}).get(score)
                for name, entry in entries.items():
                    row = {"defence": record.defence, "seed": record.seed, "norm": norm}
                    row |= {"score": score, "threshold": THRESHOLDS[name], "cut": entry.cut}
                    row |= _one_threshold(entry, highest, seen, score, norm)
                    own = record.half_budget[norm].robust_accuracy
                    row |= words.columns("half_budget", own)
                    row["consistent"] = row["detection_robust_low"] <= 100 * best[norm].high
                    rows.append(row | {"images": record.images, "ok": record.ok})
    return pd.DataFrame(rows)


def _one_threshold(
    entry: Accepted, highest: Highest | None, seen: Detection, score: str, norm: str
) -> dict[str, Any]:
    cut, own = entry.cut, missed(entry, entry.cut)
    if highest is not None:
        own = own | missed(highest, cut)
    sets, count = seen.scores[score].sets, len(own)
    attacks = {n: missed(s, cut, count) for n, s in sets.items() if n.startswith(f"{norm}_")}
    strongest = max(attacks, key=lambda name: int(attacks[name].sum()))
    together = torch.stack(list(attacks.values())).any(0)
    clean, clean_right = (v[:count] for v in detector.scored(seen, score, "clean"))
    usual, verdicts = (v[:count] for v in detector.scored(seen, score, strongest))
    union = together | own
    good = clean[clean_right]
    row: dict[str, Any] = words.columns("clean_rejection", share(clean < cut))
    row |= {"strongest_ordinary": strongest, **words.columns("ordinary", share(attacks[strongest]))}
    row |= words.columns("ordinary_all", share(together)) | words.columns("adaptive", share(own))
    row |= words.columns("union", share(union))
    row["converged"] = entry.converged
    row["adaptive_auc"] = None if highest is None else highest.auc
    row["ordinary_auc"] = detection.roc(good, usual[clean_right & ~verdicts])["auc"]
    for name, scored in (("adaptive", detector.values(entry)), ("ordinary", (usual, verdicts))):
        success = detector.defence_success(*scored, cut)
        row |= words.columns(f"{name}_defence_success", success)
    return row | words.columns("detection_robust", share((clean >= cut) & clean_right & ~union))


def adaptive_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """``adaptive_rows`` with titles: what is missed, by whom, and what is left."""
    rows = {}
    success = glossary.title("defence_success")
    for _, row in frame.iterrows():

        def shown(column: str, row: Any = row) -> str:
            return words.from_columns(row, column)

        def auc(value: float) -> str:
            return "" if pd.isna(value) else f"{value:.3f}"

        ordinary = f"{shown('ordinary')} ({column_title(row.strongest_ordinary)})"
        restless = "" if pd.isna(row.converged) or row.converged else " (not converged)"
        rows[words.network(row.defence, row.ok), NORMS[row.norm], row.score, row.threshold] = {
            "clean rejected": f"{row.clean_rejection:.1f}",
            "missed, strongest ordinary": ordinary,
            "missed, all ordinary": shown("ordinary_all"),
            "missed, adaptive": shown("union") + restless,
            "AUC, ordinary": auc(row.ordinary_auc),
            "AUC, adaptive": auc(row.adaptive_auc),
            f"{success}, ordinary": shown("ordinary_defence_success"),
            f"{success}, adaptive": shown("adaptive_defence_success"),
            glossary.title("detection_robust"): shown("detection_robust"),
            glossary.title("half_budget"): shown("half_budget"),
            "hint": "" if row.consistent else "above the best network at eps/2",
        }
    result = pd.DataFrame.from_dict(rows, orient="index")
    result.index = pd.MultiIndex.from_tuples(
        result.index, names=["defence", "norm", "score", "threshold"]
    )
    return result
