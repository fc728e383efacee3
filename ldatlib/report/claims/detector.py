"""Section 4.6: rejecting what the network is unsure of.

"Helps" is judged by *robust accuracy with rejection*: right and accepted when clean, and not wrong
and accepted under attack; against robust accuracy without a threshold, on the same images and
under the same attacks. It is judged where 95% of the clean validation images that are right are
accepted: a threshold that rejects everything misses nothing.
"""

import torch
from torch import Tensor

from ldatlib.evaluation import detection
from ldatlib.report import detector, paired
from ldatlib.report.claims import rules
from ldatlib.report.claims.evidence import Evidence, NoRecord, stacked
from ldatlib.report.claims.rules import Seen
from ldatlib.report.claims.white_box import only
from ldatlib.report.comparisons import share
from ldatlib.report.paired import MARGIN, Pair
from ldatlib.report.words import NORMS, NOT_FROZEN, column_title
from ldatlib.study.records import Scored

SCORE, ACCEPTANCE = "posterior", "accept_95"
STOP_AT_THE_BOUNDARY = ("l2_cw", "l2_fab", "linf_fab")
WALK_ON = ("linf_pgd", "l2_pgd")


def _scored(evidence: Evidence, key: str) -> tuple[Tensor, Tensor]:
    return detector.scored(evidence.detection[evidence.ldat], SCORE, key)


def _cut(evidence: Evidence) -> float:
    cut = detector.frozen_threshold(evidence.detection[evidence.ldat], SCORE)
    if cut is None:
        raise NoRecord(f"a frozen threshold ({NOT_FROZEN})")
    return cut


def _rejected(evidence: Evidence, cut: float) -> float:
    """Percent of the clean test images."""
    return 100 * (_scored(evidence, "clean")[0] < cut).double().mean().item()


def _price(evidence: Evidence) -> str:
    """What the threshold of the verdict, and the paper's, cost on clean images."""
    cut, paper = _cut(evidence), detection.PAPER_THRESHOLD
    return (
        f"threshold {cut:.2f}, at which 95% of the right validation images are accepted and "
        f"{_rejected(evidence, cut):.0f}% of the clean test images rejected (0.6: "
        f"{_rejected(evidence, paper):.0f}%)"
    )


def spares_natural_images(evidence: Evidence) -> Seen:
    scores, _ = _scored(evidence, "clean")
    found = share(scores < detection.PAPER_THRESHOLD)
    rejected = Pair(round(found.value * found.count), 0, found.count)
    text = (
        f"0.6 rejects {found.value:.1%} [{found.low:.1%}, {found.high:.1%}] of clean images; "
        f"margin {100 * MARGIN:g}%"
    )
    return Seen(rules.verdict([rules.at_most(rejected)]), text)


def successes_have_low_confidence(evidence: Evidence) -> Seen:
    """Low: below 95% of the clean validation images that are right. Tend to: more than half."""
    cut, texts, supports = _cut(evidence), [], []
    clean_right = _scored(evidence, "clean")[1]
    for key in STOP_AT_THE_BOUNDARY:
        scores, right = _scored(evidence, key)
        success = clean_right & ~right
        low, count = int((scores[success] < cut).sum()), int(success.sum())
        supports.append(rules.most(low, count))
        texts.append(f"{column_title(key)} {low} of {count}")
    text = f"successful images of a posterior below {cut:.2f}: " + ", ".join(texts)
    return Seen(rules.verdict(supports), text)


def _with_rejection(clean: Tensor, clean_right: Tensor, missed: Tensor, cut: float) -> Tensor:
    """Images robust with rejection, bool [N]: right and accepted when clean, and not missed."""
    return clean_right & (clean >= cut) & ~missed


def helps_against_the_near(evidence: Evidence) -> Seen:
    """Attacks that stop behind the boundary, against those that walk on."""
    cut = _cut(evidence)
    clean, clean_right = _scored(evidence, "clean")
    texts, supports = [], []
    for key in (*STOP_AT_THE_BOUNDARY, *WALK_ON):
        scores, right = _scored(evidence, key)
        robust = _with_rejection(clean, clean_right, (scores >= cut) & ~right, cut)
        found = paired.pair(robust, right & clean_right)
        near = key in STOP_AT_THE_BOUNDARY
        supports.append(rules.ahead(found) if near else rules.at_most(found))
        texts.append(f"{column_title(key)} {100 * found.difference:+.1f}")
    doubts = rules.doubts(supports)
    said = [
        f"{rules.margin_p() if key in WALK_ON else 'p'}={p:.2g}"
        for key, p in zip((*STOP_AT_THE_BOUNDARY, *WALK_ON), doubts, strict=True)
    ]
    told = [f"{text} ({doubt})" for text, doubt in zip(texts, said, strict=True)]
    text = (
        f"{_price(evidence)}; gain in robust accuracy by rejecting, in points: "
        f"{', '.join(told)}; not against PGD: at most {100 * MARGIN:g} points"
    )
    return Seen(rules.verdict(supports), text)


def helps_against_the_adaptive(evidence: Evidence) -> Seen:
    """Under all of Table 1's attacks and one that knows the threshold, image by image."""
    record = evidence.adaptive[evidence.ldat]
    _cut(evidence)  # none was attacked where none is frozen
    seen = evidence.detection[evidence.ldat].scores[SCORE].sets
    count = record.images
    clean, clean_right = (values[:count] for values in _scored(evidence, "clean"))
    texts, supports = [], []
    norms = [norm for norm in NORMS if norm in record.norms]
    for norm in norms:
        aimed = record.norms[norm][SCORE]
        cut = aimed[ACCEPTANCE].cut
        ordinary = [found for name, found in seen.items() if name.startswith(f"{norm}_")]
        every: list[Scored] = [*ordinary, *aimed.values()]
        if record.highest is not None:
            every.append(record.highest[norm][SCORE])
        missed = torch.stack([detector.missed(found, cut, count) for found in every]).any(0)
        robust = _with_rejection(clean, clean_right, missed, cut)
        plain = clean_right & stacked([found.right for found in every], count)
        supports.append(rules.ahead(paired.pair(robust, plain)))
        shares = [100 * images.double().mean().item() for images in (robust, plain)]
        texts.append(f"{NORMS[norm]}: with rejection {shares[0]:.1f}%, without {shares[1]:.1f}%")
    told = [f"{t} (p={p:.2g})" for t, p in zip(texts, rules.doubts(supports), strict=True)]
    text = f"{_price(evidence)}; robust accuracy, of {count} images, {'; '.join(told)}"
    return Seen(rules.verdict(supports), text, only(norms))
