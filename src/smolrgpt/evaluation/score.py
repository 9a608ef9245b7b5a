"""The warehouse score (AI City Challenge 2025, Track 3): four accuracies in percent and their mean, S1. Needs no torch.

The score is that of the official script wherever that script gives a score. Where it refuses or crashes (ids that differ, an answer that
is not a number), the row counts as wrong and is reported; ``strict`` raises instead. How an answer is parsed and compared with the truth
is the matter of its ``Task``; this module adds up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from smolrgpt.evaluation.extractors import stored_value
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import OFFICIAL, Task, task_named
from smolrgpt.tasks.base import NormalizedAnswer
from smolrgpt.tasks.distance import DISTANCE

#: The categories that S1 averages, in the order of reports.
CATEGORIES = tuple(task.name for task in OFFICIAL)
#: The detail metric a1 asks for max(p / g, g / p) below this (official detail metrics).
A1_RATIO = 1.10
#: At most this many problems are listed one by one; ``problem_counts`` always counts all of them.
MAX_PROBLEMS = 50

_TASKS: Mapping[str, Task] = {task.name: task for task in OFFICIAL}


# --------------------------------------------------------------------------------------------------------------------- one answer
@dataclass(frozen=True)
class AnswerScore:
    """The score of one answer.

    Attributes:
        is_correct: Whether the answer is correct.
        truth: The true answer as its Task parses it.
        answer: The answer as its Task parses it, None where it is missing or unreadable.
        explanation: Why the answer is wrong; empty for a correct one.
        problem: "missing", "refused" or "unparsable" where there is no answer to compare; otherwise empty.
    """

    is_correct: bool
    truth: Any
    answer: Any
    explanation: str = ""
    problem: str = ""


def score_answer(category: str, truth: Any, value: Any) -> AnswerScore:
    """Score a normalised answer against the true one; an answer that cannot be parsed is wrong.

    Raises ValueError for a truth that cannot be parsed and for a category that S1 does not average.
    """
    if category not in _TASKS:
        raise ValueError(f"category is {category!r}; expected one of {', '.join(CATEGORIES)}")
    task = _TASKS[category]
    expected, answer = task.parse(truth), task.parse_or_none(value)
    if answer is None:
        return AnswerScore(False, expected, None, f"{category}: {str(value)[:80]!r} is no answer of this category", "unparsable")
    is_correct = task.is_correct(expected, answer)
    explanation = "" if is_correct else f"{category}: {task.format_answer(answer)}, the truth is {task.format_answer(expected)}"
    return AnswerScore(is_correct, expected, answer, explanation)


def true_answer(sample: Sample) -> NormalizedAnswer:
    """Return a sample's normalised answer as predictions give it: a region by the index that the caller passed."""
    return task_named(sample.category).renumber(sample.normalized_answer, sample.region_indices)


def score_prediction(category: str, truth: Any, row: Mapping[str, Any] | None) -> AnswerScore:
    """Score the ``normalized_answer`` of a prediction row, None where the question was not predicted; see ``score_answer``."""
    if row is None:
        return replace(score_answer(category, truth, None), explanation="not predicted: counted as wrong", problem="missing")
    value = stored_value(row, task_named(category))
    scored = score_answer(category, truth, value)
    if value is not None:
        return scored
    if row.get("reason"):
        return replace(scored, explanation=f"{category}: refused: {row['reason']}", problem="refused")
    reason = row.get("error") or f"no normalized_answer from {str(row.get('answer', ''))[:80]!r}"
    return replace(scored, explanation=f"{category}: {reason}")


# ----------------------------------------------------------------------------------------------------------------------------- S1
class Accuracies(TypedDict):
    """S1 and the accuracies by category, in percent; S1 is None where there is no question."""

    S1: float | None
    accuracy: dict[str, float]
    num_questions: int


def s1(accuracy: Mapping[str, float]) -> float | None:
    """Return the mean of the accuracies of the categories that are present, None where none is."""
    return sum(accuracy.values()) / len(accuracy) if accuracy else None


@dataclass
class Tally:
    """The number of questions and of correct answers in each category of ``CATEGORIES``."""

    num_questions: Counter[str] = field(default_factory=Counter)
    num_correct: Counter[str] = field(default_factory=Counter)

    def add(self, category: str, is_correct: bool) -> None:
        """Count one answer."""
        self.num_questions[category] += 1
        self.num_correct[category] += is_correct

    def accuracies(self) -> Accuracies:
        """Return S1 and the accuracies of the categories that are present."""
        present = [category for category in CATEGORIES if self.num_questions[category]]
        accuracy = {category: 100.0 * self.num_correct[category] / self.num_questions[category] for category in present}
        return {"S1": s1(accuracy), "accuracy": accuracy, "num_questions": self.num_questions.total()}


# ------------------------------------------------------------------------------------------------------------------------- scoring
def score(truth: Iterable[Mapping[str, Any]], predictions: Iterable[Mapping[str, Any]], strict: bool = False) -> dict[str, Any]:
    """Score predictions {id, normalized_answer, unit?} against truth {id, category, normalized_answer}.

    Returns:
        ``S1``, ``accuracy`` and ``num_questions`` as in ``Accuracies``; ``num_correct``; ``by_category`` {category: {num_questions,
        num_correct}}; ``error_rates`` (mean relative errors of counts and distances, official definition); ``distance`` (metres: abs_rel,
        rmse, a1 in %, with the rows whose truth is 0 and without); ``problem_counts`` {kind: n}, and ``problems``, the first of them as
        {kind, id, reason}. A missing, refused or unreadable answer counts as wrong.

    Raises:
        DataError: The truth is unusable; under ``strict``, there are missing, extra or repeated ids, refusals or unreadable answers.
    """
    problems, tally = Problems(), Tally()
    pairs: dict[str, list[tuple[Any, Any]]] = {category: [] for category in CATEGORIES}
    for row_id, row, prediction in match_rows(truth, predictions, problems):
        category = row.get("category")
        if not isinstance(category, str) or category not in _TASKS:
            problems.add("unscored_category", row_id, f"category {category!r} is not scored: left out")
            continue
        scored = _score_row(row_id, category, row.get("normalized_answer"), prediction)
        tally.add(category, scored.is_correct)
        if scored.problem:
            problems.add(scored.problem, row_id, scored.explanation)
        else:
            pairs[category].append((scored.truth, scored.answer))
    if not tally.num_questions:
        raise DataError(f"the truth holds no row of {', '.join(CATEGORIES)}; expected rows with id, category and normalized_answer")
    problems.raise_if_strict(strict)
    return {
        **tally.accuracies(),
        "num_correct": tally.num_correct.total(),
        "by_category": {
            category: {"num_questions": tally.num_questions[category], "num_correct": tally.num_correct[category]}
            for category in CATEGORIES
            if tally.num_questions[category]
        },
        "error_rates": _error_rates(pairs),
        DISTANCE.name: {
            "including_zero_truth": distance_details(pairs[DISTANCE.name]),
            "excluding_zero_truth": distance_details([(truth, answer) for truth, answer in pairs[DISTANCE.name] if truth > 0]),
        },
        **problems.as_dict(),
    }


def _score_row(row_id: str, category: str, truth: Any, prediction: Mapping[str, Any] | None) -> AnswerScore:
    if truth is None:
        raise _unusable_truth(row_id, category, truth, "there is none", "a test split without answers cannot be scored")
    try:
        return score_prediction(category, truth, prediction)
    except ValueError as error:
        raise _unusable_truth(row_id, category, truth, str(error), "correct the truth file") from None


def _unusable_truth(row_id: str, category: str, truth: Any, reason: str, hint: str) -> DataError:
    return DataError(f"truth of {row_id}: normalized_answer {truth!r} is no answer of {category} ({reason}); {hint}")


def _error_rates(pairs: Mapping[str, list[tuple[Any, Any]]]) -> dict[str, float | None]:
    """Return the mean relative error of each category whose answers are numbers."""
    numeric = [task for task in OFFICIAL if task.relative_error(1, 1) is not None]
    return {task.name: finite_mean([task.relative_error(*pair) or 0.0 for pair in pairs[task.name]]) for task in numeric}


def distance_details(pairs: list[tuple[float, float]]) -> dict[str, float | int | None]:
    """Return abs_rel, rmse in metres and a1 in percent over (truth, prediction) pairs in metres; None where there is no pair."""
    rmse = finite_mean([(prediction - truth) * (prediction - truth) for truth, prediction in pairs])
    a1 = finite_mean([float(_ratio(truth, prediction) < A1_RATIO) for truth, prediction in pairs])
    return {
        "num_rows": len(pairs),
        "abs_rel": finite_mean([DISTANCE.relative_error(truth, prediction) for truth, prediction in pairs]),
        "rmse": None if rmse is None else math.sqrt(rmse),
        "a1": None if a1 is None else 100.0 * a1,
    }


def _ratio(truth: float, prediction: float) -> float:
    if truth == prediction:
        return 1.0
    if truth <= 0 or prediction <= 0:
        return math.inf
    return max(prediction / truth, truth / prediction)


def finite_mean(values: list[float]) -> float | None:
    """Return the mean; None of no values, and where an absurd answer (1e200 metres) makes it infinite, which JSON cannot hold."""
    mean = sum(values) / len(values) if values else math.inf
    return mean if math.isfinite(mean) else None


# ------------------------------------------------------------------------------------------------------------------------ problems
class Problem(TypedDict):
    """A row that could not be scored as it is: the kind of problem, the id of the row, and a description."""

    kind: str
    id: str
    reason: str


class Problems:
    """Counts every problem by kind and keeps the first ``MAX_PROBLEMS`` of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.listed: list[Problem] = []

    def add(self, kind: str, row_id: str, reason: str) -> None:
        """Count a problem, and list it while there are few."""
        self.counts[kind] += 1
        if len(self.listed) < MAX_PROBLEMS:
            self.listed.append({"kind": kind, "id": row_id, "reason": reason})

    def raise_if_strict(self, strict: bool) -> None:
        """Raise DataError under ``strict`` when there is any problem."""
        if strict and self.counts:
            counts = ", ".join(f"{number} {kind}" for kind, number in sorted(self.counts.items()))
            first = self.listed[0]
            raise DataError(f"{counts}; first: {first['id']}: {first['reason']}. Without --strict such rows count as wrong")

    def as_dict(self) -> dict[str, Any]:
        """Return ``problem_counts`` and ``problems`` as results hold them."""
        return {"problem_counts": dict(self.counts), "problems": self.listed}


def match_rows(
    truth: Iterable[Mapping[str, Any]], predictions: Iterable[Mapping[str, Any]], problems: Problems
) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any] | None]]:
    """Return (id, truth row, prediction row or None) in the order of the truth, and note repeated ids and extra predictions.

    Raises DataError for a row that is not an object with an id.
    """
    known = _rows_by_id(truth, "truth", problems)
    given = _rows_by_id(predictions, "predictions", problems)
    for row_id in given:
        if row_id not in known:
            problems.add("extra", row_id, "predicted, but not in the truth: ignored")
    return [(row_id, row, given.get(row_id)) for row_id, row in known.items()]


def _rows_by_id(rows: Iterable[Mapping[str, Any]], name: str, problems: Problems) -> dict[str, Mapping[str, Any]]:
    """Return rows by id; of rows with the same id the last one counts, as in the official script."""
    table: dict[str, Mapping[str, Any]] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or row.get("id") is None:
            raise DataError(f"{name}, row {index}: found {str(row)[:60]!r}; expected an object with an 'id'")
        row_id = str(row["id"])
        if row_id in table:
            problems.add("duplicate", row_id, f"repeated in the {name}: the last one counts")
        table[row_id] = row
    return table
