"""What a score is made of: intervals, groups, confusions, calibration, chance, and the worst answers; plain numbers, no drawing. No torch.

Legend: I images, C categories, B bootstrap resamples.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smolrgpt.evaluation.score import CATEGORIES, score, score_row
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import OFFICIAL, task_named
from smolrgpt.tasks.templates import template

#: Resamples of the bootstrap, and the shares between which its 95 % interval lies.
NUM_RESAMPLES = 1000
INTERVAL = (0.025, 0.975)
#: Groups by number of regions, both ends included; the data set asks about 2 to 15.
REGION_GROUPS = ((0, 1), (2, 2), (3, 5), (6, 9), (10, 15))
#: Upper ends of the groups by true distance in metres, and by the smallest region's share of the picture.
DISTANCE_GROUPS_M = (1.0, 2.0, 4.0, 8.0, 16.0)
AREA_GROUPS = (0.0025, 0.01, 0.04)
NUM_CONFIDENCE_BINS = 10
COVERAGES = tuple(share / 20 for share in range(1, 21))
NUM_WORST = 20


@dataclass(frozen=True)
class Scored:
    """A question with its answer. truth, value: as scored (value None: unreadable or missing); confidence: 0 to 1, None where not given."""

    sample: Sample
    text: str
    truth: Any
    value: Any
    right: bool
    confidence: float | None


def score_samples(samples: Iterable[Sample], predictions: Iterable[Mapping[str, Any]]) -> list[Scored]:
    """The samples that have a truth and a scored category, in order, each with its prediction."""
    rows = {str(row["id"]): row for row in predictions}
    return [
        _scored(sample, rows.get(sample.id, {}))
        for sample in samples
        if sample.normalized_answer is not None and sample.category in CATEGORIES
    ]


def _scored(sample: Sample, row: Mapping[str, Any]) -> Scored:
    assert sample.category is not None
    given, truth = row.get("normalized_answer"), sample.normalized_answer
    value = task_named(sample.category).parse_or_none(given)
    right = score_row(sample.category, truth, given)
    return Scored(sample, row.get("answer") or "", task_named(sample.category).parse(truth), value, right, row.get("confidence"))


def summarise(samples: Sequence[Sample], predictions: Sequence[Mapping[str, Any]], strict: bool = False) -> dict[str, Any]:
    """The result of ``score``, and what this file adds to it; see the functions below for each part."""
    truth = [truth_row(sample) for sample in samples if sample.normalized_answer is not None]
    scored = score_samples(samples, predictions)
    seconds = [row["seconds"] for row in predictions if "seconds" in row and "error" not in row]
    return {
        **score(truth, predictions, strict),
        "interval": intervals(scored),
        "chance": chance(scored),
        "by_template": by_template(scored),
        "by_layout": grouped(scored, lambda one: one.sample.metadata.get("layout")),
        "by_wording": grouped(scored, lambda one: one.sample.metadata.get("wording")),
        "by_num_regions": grouped(scored, lambda one: _range(len(one.sample.regions)), [_name(*ends) for ends in REGION_GROUPS]),
        "by_region_size": grouped(scored, _size, _bin_names(AREA_GROUPS, "{:.2%}")),
        "by_distance": grouped(scored, _distance, ["0 m", *_bin_names(DISTANCE_GROUPS_M, "{:g} m")]),
        "confusion": {category: confusion(scored, category) for category in ("count", "mcq")},
        "calibration": calibration(scored),
        "worst": [_worst_row(one) for one in worst(scored)],
        "seconds_per_question": sum(seconds) / len(seconds) if seconds else None,
    }


def truth_row(sample: Sample) -> dict[str, Any]:
    """What ``score`` wants of a truth."""
    return {"id": sample.id, "category": sample.category, "normalized_answer": sample.normalized_answer}


# ----------------------------------------------------------------------------------------------------------- S1 and its uncertainty
def accuracies(scored: Iterable[Scored]) -> dict[str, Any]:
    """{S1, accuracy {category: %}, num_questions}; S1 is the mean over the categories present, None of nothing."""
    right: dict[str, list[bool]] = defaultdict(list)
    for one in scored:
        right[str(one.sample.category)].append(one.right)
    accuracy = {category: 100.0 * float(np.mean(right[category])) for category in CATEGORIES if category in right}
    mean = sum(accuracy.values()) / len(accuracy) if accuracy else None
    return {"S1": mean, "accuracy": accuracy, "num_questions": sum(map(len, right.values()))}


def intervals(scored: Sequence[Scored], seed: int = 0) -> dict[str, Any]:
    """95 % bootstrap intervals in percent: {S1: [low, high], accuracy: {category: [low, high]}}.

    Whole images are drawn anew, with all of their questions: questions about one picture fail together.
    """
    present, percent = _resampled(scored, seed)
    ends = np.nanquantile(np.column_stack([np.nanmean(percent, axis=1), percent]), INTERVAL, axis=0).T.tolist()  # (1 + C, 2)
    return {"S1": ends[0], "accuracy": dict(zip(present, ends[1:], strict=True))}


def difference(scored: Sequence[Scored], other: Sequence[Scored], seed: int = 0) -> list[float]:
    """95 % interval of how much more S1 ``other`` has, from the same images drawn for both; both hold the same questions."""
    (_, mine), (_, theirs) = _resampled(scored, seed), _resampled(other, seed)
    return np.nanquantile(np.nanmean(theirs, axis=1) - np.nanmean(mine, axis=1), INTERVAL).tolist()


def _resampled(scored: Sequence[Scored], seed: int) -> tuple[list[str], np.ndarray]:
    """The categories there are, and (B, C) their accuracies in percent in every resample."""
    present = [category for category in CATEGORIES if any(one.sample.category == category for one in scored)]
    images = {key: i for i, key in enumerate(dict.fromkeys(one.sample.image_key for one in scored))}
    asked, right = np.zeros((2, len(images), len(present)))  # (I, C) each
    for one in scored:
        place = images[one.sample.image_key], present.index(str(one.sample.category))
        asked[place] += 1
        right[place] += one.right
    times = np.random.default_rng(seed).multinomial(len(images), np.full(len(images), 1 / len(images)), size=NUM_RESAMPLES)  # (B, I)
    with np.errstate(invalid="ignore"):  # a category may be missing from a resample
        return present, 100.0 * (times @ right) / (times @ asked)


def chance(scored: Sequence[Scored]) -> dict[str, Any]:
    """Return what guessing with knowledge of this data's answers reaches: {S1, accuracy}, in percent; see ``Task.chance``."""
    accuracy = {}
    for task in OFFICIAL:
        asked = [one for one in scored if one.sample.category == task.name]
        if asked:
            accuracy[task.name] = 100.0 * task.chance([one.truth for one in asked], [len(one.sample.regions) for one in asked])
    return {"S1": sum(accuracy.values()) / len(accuracy) if accuracy else None, "accuracy": accuracy}


# ------------------------------------------------------------------------------------------------------------------------- groups
def grouped(scored: Iterable[Scored], name: Callable[[Scored], str | None], order: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Group name -> ``accuracies``, in ``order`` (others behind, by name); questions without a name are left out."""
    members: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        if (group := name(one)) is not None:
            members[str(group)].append(one)
    place = {group: i for i, group in enumerate(order)}
    return {group: accuracies(members[group]) for group in sorted(members, key=lambda group: (place.get(group, len(place)), group))}


def by_template(scored: Iterable[Scored]) -> list[dict[str, Any]]:
    """Wordings with their category, number of questions and accuracy in percent, the most frequent first."""
    members: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for one in scored:
        members[template(one.sample.question), str(one.sample.category)].append(one.right)
    rows = [
        {"template": text, "category": category, "num_questions": len(right), "accuracy": 100.0 * sum(right) / len(right)}
        for (text, category), right in members.items()
    ]
    return sorted(rows, key=lambda row: (-row["num_questions"], row["template"]))


def _range(number: int) -> str:
    for first, last in REGION_GROUPS:
        if first <= number <= last:
            return _name(first, last)
    return f"{REGION_GROUPS[-1][1] + 1} or more"


def _name(first: int, last: int) -> str:
    return str(last) if first == last else f"{first} to {last}"


def _bin_names(ends: Sequence[float], form: str) -> list[str]:
    shown = [form.format(end) for end in ends]
    return [f"up to {shown[0]}", *(f"{a} to {b}" for a, b in zip(shown, shown[1:], strict=False)), f"above {shown[-1]}"]


def _size(one: Scored) -> str | None:
    """By the share of the picture that the smallest region of the question covers; None without regions, or with one that is corrupt."""
    try:
        shares = [region.area / (region.size[0] * region.size[1]) for region in one.sample.regions]
    except DataError:  # the prediction has failed for the same reason, and is counted there
        return None
    return _bin_names(AREA_GROUPS, "{:.2%}")[int(np.searchsorted(AREA_GROUPS, min(shares)))] if shares else None


def _distance(one: Scored) -> str | None:
    if one.sample.category != "distance":
        return None
    return "0 m" if one.truth == 0 else _bin_names(DISTANCE_GROUPS_M, "{:g} m")[int(np.searchsorted(DISTANCE_GROUPS_M, one.truth))]


# ------------------------------------------------------------------------------------------------------- confusion and calibration
def confusion(scored: Iterable[Scored], category: str) -> list[dict[str, Any]]:
    """[{truth, answer, number}] of a category, by truth and answer; an unreadable answer is None."""
    pairs = Counter((int(one.truth), None if one.value is None else int(one.value)) for one in scored if one.sample.category == category)
    return [
        {"truth": truth, "answer": answer, "number": pairs[truth, answer]}
        for truth, answer in sorted(pairs, key=lambda pair: (pair[0], pair[1] is None, pair[1] or 0))
    ]


def calibration(scored: Iterable[Scored]) -> dict[str, Any] | None:
    """How far confidence can be believed; None where no prediction carries one.

    bins: [{confidence, accuracy, num_questions}] of ten equal ranges, means in 0..1, empty ones left out; ece: expected calibration error,
    0..1; auroc: probability that a right answer has more confidence than a wrong one, None when all are right or all wrong;
    coverage: [{coverage, S1}], S1 in percent of this share of each category's questions, the most confident.
    """
    known = [one for one in scored if one.confidence is not None]
    if not known:
        return None
    confidence, right = np.array([one.confidence for one in known], float), np.array([one.right for one in known], float)
    place = np.minimum((confidence * NUM_CONFIDENCE_BINS).astype(int), NUM_CONFIDENCE_BINS - 1)
    bins = [
        {"confidence": float(confidence[here].mean()), "accuracy": float(right[here].mean()), "num_questions": int(here.sum())}
        for here in (place == i for i in range(NUM_CONFIDENCE_BINS))
        if here.any()
    ]
    gap = sum(row["num_questions"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / len(known)
    return {"num_questions": len(known), "bins": bins, "ece": gap, "auroc": _auroc(confidence, right > 0), "coverage": _coverage(known)}


def _auroc(confidence: np.ndarray, right: np.ndarray) -> float | None:
    """Mann-Whitney: ranks, ties shared."""
    if right.all() or not right.any():
        return None
    values, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(right.sum())
    return float((ranks[right].sum() - positives * (positives + 1) / 2) / (positives * (len(right) - positives)))


def _coverage(scored: Sequence[Scored]) -> list[dict[str, float | None]]:
    ordered = {
        category: sorted((one for one in scored if one.sample.category == category), key=lambda one: -float(one.confidence or 0))
        for category in CATEGORIES
    }
    return [
        {"coverage": share, "S1": accuracies(one for ones in ordered.values() for one in ones[: math.ceil(share * len(ones))])["S1"]}
        for share in COVERAGES
    ]


# -------------------------------------------------------------------------------------------------------------------------- worst
def worst(scored: Iterable[Scored]) -> list[Scored]:
    """The wrong answers furthest from the truth; of those equally far (all of left_right and mcq are), the most confident."""
    return sorted((one for one in scored if not one.right), key=lambda one: (-_severity(one), -(one.confidence or 0.0)))[:NUM_WORST]


def _severity(one: Scored) -> float:
    """The relative error of a number, at most 1; 1 of anything else."""
    if one.sample.category not in ("count", "distance") or one.value is None:
        return 1.0
    return min(1.0, abs(one.value - one.truth) / max(one.truth, 1e-9))


def _worst_row(one: Scored) -> dict[str, Any]:
    return {
        "id": one.sample.id,
        "category": one.sample.category,
        "question": one.sample.question,
        "truth": one.sample.normalized_answer,
        "answer": one.value,
        "text": one.text,
        "confidence": one.confidence,
    }
