"""The parts of a score: intervals, groups, confusions, calibration, chance and the worst answers, as plain numbers. Needs no torch.

Legend: I images, C categories, B bootstrap resamples.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from smolrgpt.evaluation.score import CATEGORIES, Accuracies, AnswerScore, Tally, s1, score, score_prediction, true_answer
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import OFFICIAL, Task, task_named
from smolrgpt.tasks.templates import question_template

#: Resamples of the bootstrap, and the quantiles between which its 95 % interval lies.
NUM_RESAMPLES = 1000
INTERVAL = (0.025, 0.975)
#: Groups by number of regions, both ends included; the data set asks about 2 to 15.
REGION_GROUPS = ((0, 1), (2, 2), (3, 5), (6, 9), (10, 15))
#: Upper ends of the groups by true distance in metres, and by the smallest region's share of the image.
DISTANCE_GROUPS_M = (1.0, 2.0, 4.0, 8.0, 16.0)
AREA_GROUPS = (0.0025, 0.01, 0.04)
NUM_CONFIDENCE_BINS = 10
COVERAGES = tuple(share / 20 for share in range(1, 21))
NUM_WORST = 20
_NO_DISTANCE = "0 m"


@dataclass(frozen=True)
class ScoredSample:
    """A question with its prediction and the score of its answer; confidence: 0 to 1, None where the prediction has none."""

    sample: Sample
    text: str
    score: AnswerScore
    confidence: float | None

    @property
    def task(self) -> Task:
        """The kind of the question."""
        return task_named(self.sample.category)


class Intervals(TypedDict):
    """95 % intervals [low, high] in percent of S1 and of each accuracy."""

    S1: list[float]
    accuracy: dict[str, list[float]]


class WordingAccuracy(TypedDict):
    """The number of questions with a wording, and the share of correct answers in percent."""

    template: str
    category: str
    num_questions: int
    accuracy: float


class ConfidenceBin(TypedDict):
    """Means over the questions whose confidence falls into one range, 0 to 1."""

    confidence: float
    accuracy: float
    num_questions: int


class Calibration(TypedDict):
    """The degree to which confidence predicts correctness; see ``calibration``."""

    num_questions: int
    bins: list[ConfidenceBin]
    ece: float
    auroc: float | None
    coverage: list[dict[str, float | None]]


def score_samples(samples: Iterable[Sample], predictions: Iterable[Mapping[str, Any]]) -> list[ScoredSample]:
    """Score the samples that have a true answer and an official category, in order; a later row with the same id counts."""
    rows = {str(row["id"]): row for row in predictions}
    return [
        _scored(sample, rows.get(sample.id)) for sample in samples if sample.normalized_answer is not None and sample.category in CATEGORIES
    ]


def _scored(sample: Sample, row: Mapping[str, Any] | None) -> ScoredSample:
    found = score_prediction(str(sample.category), true_answer(sample), row)
    row = row or {}
    return ScoredSample(sample, row.get("answer") or "", found, row.get("confidence"))


def summarise(samples: Sequence[Sample], predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the result of ``score`` together with what the functions of this module compute."""
    truth = [truth_row(sample) for sample in samples if sample.normalized_answer is not None]
    scored = score_samples(samples, predictions)
    seconds = [row["seconds"] for row in predictions if "seconds" in row and "error" not in row]
    return {
        **score(truth, predictions),
        "interval": intervals(scored),
        "chance": chance_level(scored),
        "by_template": by_template(scored),
        "by_layout": group_accuracies(scored, lambda row: row.sample.metadata.get("layout")),
        "by_wording": group_accuracies(scored, lambda row: row.sample.wording),
        "by_num_regions": group_accuracies(scored, _region_group, [_range_name(*ends) for ends in REGION_GROUPS]),
        "by_region_size": group_accuracies(scored, _area_group, _bin_names(AREA_GROUPS, "{:.2%}")),
        "by_distance": group_accuracies(scored, _distance_group, [_NO_DISTANCE, *_bin_names(DISTANCE_GROUPS_M, "{:g} m")]),
        "confusion": {task.name: confusion(scored, task) for task in OFFICIAL if not task.is_length},
        "calibration": calibration(scored),
        "worst": [_worst_row(row) for row in worst_answers(scored)],
        "seconds_per_question": sum(seconds) / len(seconds) if seconds else None,
    }


def truth_row(sample: Sample) -> dict[str, Any]:
    """Return the truth of a sample as ``score`` takes it."""
    return {"id": sample.id, "category": sample.category, "normalized_answer": true_answer(sample)}


# ----------------------------------------------------------------------------------------------------------- S1 and its uncertainty
def accuracies(scored: Iterable[ScoredSample]) -> Accuracies:
    """Return S1 and the accuracies over the categories that are present."""
    tally = Tally()
    for row in scored:
        tally.add(row.task.name, row.score.is_correct)
    return tally.accuracies()


def intervals(scored: Sequence[ScoredSample]) -> Intervals:
    """Return 95 % bootstrap intervals in percent.

    Whole images are resampled, with all of their questions: questions about one image fail together.
    """
    present, percent = _resample(scored)
    ends = np.nanquantile(np.column_stack([_s1_of_rows(present, percent), percent]), INTERVAL, axis=0).T.tolist()  # (1 + C, 2)
    return {"S1": ends[0], "accuracy": dict(zip(present, ends[1:], strict=True))}


def s1_difference(scored: Sequence[ScoredSample], other: Sequence[ScoredSample]) -> list[float]:
    """Return the 95 % interval of the S1 of ``other`` minus that of ``scored``, on the same questions and the same resampled images."""
    ours, theirs = (_s1_of_rows(*_resample(rows)) for rows in (scored, other))
    low, high = np.nanquantile(theirs - ours, INTERVAL)
    return [float(low), float(high)]


def _resample(scored: Sequence[ScoredSample]) -> tuple[list[str], np.ndarray]:
    """Return the categories that are present, and their accuracies in percent in every resample, (B, C); NaN where one is missing."""
    present = [category for category in CATEGORIES if any(row.sample.category == category for row in scored)]
    images = {key: index for index, key in enumerate(dict.fromkeys(row.sample.image_key for row in scored))}
    num_questions, num_correct = np.zeros((2, len(images), len(present)))  # (I, C) each
    for row in scored:
        cell = images[row.sample.image_key], present.index(row.task.name)
        num_questions[cell] += 1
        num_correct[cell] += row.score.is_correct
    uniform = np.full(len(images), 1 / len(images))
    times = np.random.default_rng(0).multinomial(len(images), uniform, size=NUM_RESAMPLES)  # (B, I)
    with np.errstate(invalid="ignore"):  # a category may be missing from a resample
        return present, 100.0 * (times @ num_correct) / (times @ num_questions)


def _s1_of_rows(categories: Sequence[str], percent: np.ndarray) -> np.ndarray:
    """Return S1 of every row of accuracies: (B, C) -> (B,)."""
    rows = ({name: value for name, value in zip(categories, row, strict=True) if not math.isnan(value)} for row in percent.tolist())
    return np.array([s1(row) for row in rows], dtype=float)


def chance_level(scored: Sequence[ScoredSample]) -> dict[str, Any]:
    """Return {S1, accuracy} in percent that guessing with knowledge of the true answers reaches; see ``Task.chance``."""
    accuracy = {}
    for task in OFFICIAL:
        asked = [row for row in scored if row.task is task]
        if asked:
            accuracy[task.name] = 100.0 * task.chance([row.score.truth for row in asked], [len(row.sample.regions) for row in asked])
    return {"S1": s1(accuracy), "accuracy": accuracy}


# ------------------------------------------------------------------------------------------------------------------------- groups
def group_accuracies(
    scored: Iterable[ScoredSample], name: Callable[[ScoredSample], str | None], order: Sequence[str] = ()
) -> dict[str, Accuracies]:
    """Return ``accuracies`` by group, in ``order`` and other groups after those by name; questions without a group are left out."""
    members: dict[str, list[ScoredSample]] = defaultdict(list)
    for row in scored:
        if (group := name(row)) is not None:
            members[str(group)].append(row)
    ranks = {group: rank for rank, group in enumerate(order)}
    return {group: accuracies(members[group]) for group in sorted(members, key=lambda group: (ranks.get(group, len(ranks)), group))}


def by_template(
    scored: Iterable[ScoredSample], name: Callable[[Sample], str] = lambda sample: question_template(sample.question)
) -> list[WordingAccuracy]:
    """Return the accuracy on each wording, the most frequent first; ``name`` returns the wording of a question."""
    members: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in scored:
        members[name(row.sample), row.task.name].append(row.score.is_correct)
    rows: list[WordingAccuracy] = [
        {"template": text, "category": category, "num_questions": len(correct), "accuracy": 100.0 * sum(correct) / len(correct)}
        for (text, category), correct in members.items()
    ]
    return sorted(rows, key=lambda row: (-row["num_questions"], row["template"]))


def _region_group(row: ScoredSample) -> str:
    number = len(row.sample.regions)
    for first, last in REGION_GROUPS:
        if first <= number <= last:
            return _range_name(first, last)
    return f"{REGION_GROUPS[-1][1] + 1} or more"


def _range_name(first: int, last: int) -> str:
    return str(last) if first == last else f"{first} to {last}"


def _bin_names(ends: Sequence[float], form: str) -> list[str]:
    shown = [form.format(end) for end in ends]
    return [f"up to {shown[0]}", *(f"{low} to {high}" for low, high in itertools.pairwise(shown)), f"above {shown[-1]}"]


def _area_group(row: ScoredSample) -> str | None:
    """Return the group of the smallest region's share of the image; None without regions, or with one that is corrupt."""
    try:
        shares = [region.area / (region.size[0] * region.size[1]) for region in row.sample.regions]
    except DataError:  # the prediction has failed for the same reason, and is counted there
        return None
    return _bin_names(AREA_GROUPS, "{:.2%}")[int(np.searchsorted(AREA_GROUPS, min(shares)))] if shares else None


def _distance_group(row: ScoredSample) -> str | None:
    if not row.task.is_length:
        return None
    metres = row.score.truth
    return _NO_DISTANCE if metres == 0 else _bin_names(DISTANCE_GROUPS_M, "{:g} m")[int(np.searchsorted(DISTANCE_GROUPS_M, metres))]


# ------------------------------------------------------------------------------------------------------- confusion and calibration
def confusion(scored: Iterable[ScoredSample], task: Task) -> list[dict[str, Any]]:
    """Return [{truth, answer, number}] of a kind of question, by truth and answer; an unreadable answer is None."""
    pairs = Counter((_ordinal(row.score.truth), _ordinal(row.score.answer)) for row in scored if row.task is task)
    return [
        {"truth": truth, "answer": answer, "number": pairs[truth, answer]}
        for truth, answer in sorted(pairs, key=lambda pair: (pair[0], pair[1] is None, pair[1] if pair[1] is not None else pair[0]))
    ]


def _ordinal(value: Any) -> Any:
    """Return digits as an int, so that 10 comes after 9, and any other value unchanged."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def calibration(scored: Iterable[ScoredSample]) -> Calibration | None:
    """Return how far confidence predicts correctness; None where no prediction has a confidence.

    Returns:
        ``bins``: ten equal ranges of confidence, empty ones left out; ``ece``: expected calibration error, 0 to 1; ``auroc``: probability
        that a correct answer has more confidence than a wrong one, None when all are correct or all are wrong; ``coverage``: [{coverage,
        S1}], S1 in percent on this share of each category's questions, the most confident ones.
    """
    known = [row for row in scored if row.confidence is not None]
    if not known:
        return None
    confidence = np.array([row.confidence for row in known], dtype=float)
    is_correct = np.array([row.score.is_correct for row in known])
    positions = np.minimum((confidence * NUM_CONFIDENCE_BINS).astype(int), NUM_CONFIDENCE_BINS - 1)
    masks = [positions == position for position in range(NUM_CONFIDENCE_BINS)]
    bins = [_confidence_bin(confidence[mask], is_correct[mask]) for mask in masks if mask.any()]
    gap = sum(row["num_questions"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / len(known)
    return {
        "num_questions": len(known),
        "bins": bins,
        "ece": gap,
        "auroc": _auroc(confidence, is_correct),
        "coverage": _coverage(known),
    }


def _confidence_bin(confidence: np.ndarray, is_correct: np.ndarray) -> ConfidenceBin:
    return {"confidence": float(confidence.mean()), "accuracy": float(is_correct.mean()), "num_questions": len(confidence)}


def _auroc(confidence: np.ndarray, is_correct: np.ndarray) -> float | None:
    """Return the area under the ROC curve by the Mann-Whitney statistic: ties share their mean rank."""
    if is_correct.all() or not is_correct.any():
        return None
    _, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    num_correct = int(is_correct.sum())
    statistic = float(ranks[is_correct].sum()) - num_correct * (num_correct + 1) / 2
    return statistic / (num_correct * (len(is_correct) - num_correct))


def _coverage(scored: Sequence[ScoredSample]) -> list[dict[str, float | None]]:
    ordered = [sorted((row for row in scored if row.task is task), key=lambda row: -float(row.confidence or 0)) for task in OFFICIAL]
    return [
        {"coverage": share, "S1": accuracies(row for rows in ordered for row in rows[: math.ceil(share * len(rows))])["S1"]}
        for share in COVERAGES
    ]


# -------------------------------------------------------------------------------------------------------------------------- worst
def worst_answers(scored: Iterable[ScoredSample]) -> list[ScoredSample]:
    """Return the wrong answers furthest from the truth; of equally wrong ones (all sides and choices are), the most confident."""
    wrong = [row for row in scored if not row.score.is_correct]
    return sorted(wrong, key=lambda row: (-_severity(row), -(row.confidence or 0.0)))[:NUM_WORST]


def _severity(row: ScoredSample) -> float:
    """Return the relative error of a number, at most 1; 1 of any other answer."""
    error = None if row.score.answer is None else row.task.relative_error(row.score.truth, row.score.answer)
    return 1.0 if error is None else min(1.0, error)


def _worst_row(row: ScoredSample) -> dict[str, Any]:
    return {
        "id": row.sample.id,
        "category": row.sample.category,
        "question": row.sample.question,
        "truth": true_answer(row.sample),
        "answer": row.score.answer,
        "explanation": row.score.explanation,
        "text": row.text,
        "confidence": row.confidence,
    }
