"""The warehouse score (AI City Challenge 2025, Track 3): four accuracies in percent and their mean, S1. Needs no torch.

Scores as the official script does wherever that script gives a score. Where it refuses or crashes (ids that differ, an answer that is
not a number), the row counts as wrong and is reported; ``strict`` raises instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smolrgpt.data.io import read_rows
from smolrgpt.schema import DataError
from smolrgpt.tasks import OFFICIAL, Task
from smolrgpt.tasks.distance import DISTANCE

#: The categories that S1 averages, in the order of reports.
CATEGORIES = tuple(task.name for task in OFFICIAL)
#: The detail metric a1 asks for max(p / g, g / p) below this (official detail metrics).
A1_RATIO = 1.10
#: At most this many problems are listed one by one; ``problem_counts`` always counts all of them.
MAX_PROBLEMS = 50

_TASKS: Mapping[str, Task] = {task.name: task for task in OFFICIAL}


def score_row(category: str, truth: Any, pred: Any) -> bool:
    """Return whether one normalised answer is right.

    An unreadable prediction is wrong. Raises ValueError for an unreadable truth and for a category that S1 does not average.
    """
    if category not in _TASKS:
        raise ValueError(f"category is {category!r}; expected one of {', '.join(CATEGORIES)}")
    task = _TASKS[category]
    expected, parsed = task.parse(truth), task.parse_or_none(pred)
    return parsed is not None and task.is_correct(expected, parsed)


def score(truth: Iterable[Mapping[str, Any]], predictions: Iterable[Mapping[str, Any]], strict: bool = False) -> dict[str, Any]:
    """Score predictions {id, normalized_answer} against truth {id, category, normalized_answer}.

    Returns percentages 0..100: ``S1`` (mean over the categories present), ``accuracy`` {category: %}; totals ``num_questions`` and
    ``num_correct``; ``by_category`` {category: {num_questions, num_correct}}; ``error_rates`` (mean relative errors of count and distance,
    official definition); ``distance`` (metres: abs_rel, rmse, a1 in %, with the rows whose truth is 0 and without); ``problem_counts``
    {kind: n} and ``problems``, the first of them as {kind, id, reason}. A problem row counts as wrong.

    Raises DataError when the truth is unusable, and under ``strict`` on any of these: missing, extra or repeated ids, unreadable answers.
    """
    problems = Problems()
    known = rows_by_id(truth, "truth", problems)
    given = rows_by_id(predictions, "predictions", problems)
    for row_id in given:
        if row_id not in known:
            problems.add("extra", row_id, "predicted, but not in the truth: ignored")
    totals: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    numbers: dict[str, list[tuple[float, float]]] = {task.name: [] for task in OFFICIAL if task.relative_error(1, 1) is not None}
    for row_id, row in known.items():
        category = row.get("category")
        if not isinstance(category, str) or category not in _TASKS:
            problems.add("unscored_category", row_id, f"category {category!r} is not scored: left out")
            continue
        expected = _parse_truth(row_id, category, row.get("normalized_answer"))
        totals[category] += 1
        parsed = _parse_prediction(row_id, category, given.get(row_id), problems)
        if parsed is None:
            continue
        correct[category] += _TASKS[category].is_correct(expected, parsed)
        if category in numbers:
            numbers[category].append((expected, parsed))
    if not totals:
        raise DataError(f"the truth holds no row of {', '.join(CATEGORIES)}; expected rows with id, category and normalized_answer")
    problems.refuse(strict)
    return _result(totals, correct, numbers, problems)


def _result(
    totals: Counter[str], correct: Counter[str], numbers: dict[str, list[tuple[float, float]]], problems: Problems
) -> dict[str, Any]:
    present = [category for category in CATEGORIES if totals[category]]
    accuracy = {category: 100.0 * correct[category] / totals[category] for category in present}
    return {
        "S1": sum(accuracy.values()) / len(accuracy),
        "accuracy": accuracy,
        "num_questions": sum(totals.values()),
        "num_correct": sum(correct.values()),
        "by_category": {name: {"num_questions": totals[name], "num_correct": correct[name]} for name in present},
        "error_rates": {name: mean([_error(name, *pair) for pair in pairs]) for name, pairs in numbers.items()},
        DISTANCE.name: {
            "including_zero_truth": distance_details(numbers[DISTANCE.name]),
            "excluding_zero_truth": distance_details([(g, p) for g, p in numbers[DISTANCE.name] if g > 0]),
        },
        "problem_counts": dict(problems.counts),
        "problems": problems.listed,
    }


def _error(category: str, truth: float, prediction: float) -> float:
    error = _TASKS[category].relative_error(truth, prediction)
    assert error is not None
    return error


def distance_details(pairs: list[tuple[float, float]]) -> dict[str, float | int | None]:
    """abs_rel, rmse in metres and a1 in percent over (truth, prediction) pairs in metres; None where there is no pair."""
    rmse = mean([(p - g) * (p - g) for g, p in pairs])
    a1 = mean([float(_ratio(g, p) < A1_RATIO) for g, p in pairs])
    return {
        "num_rows": len(pairs),
        "abs_rel": mean([DISTANCE.relative_error(g, p) for g, p in pairs]),
        "rmse": None if rmse is None else math.sqrt(rmse),
        "a1": None if a1 is None else 100.0 * a1,
    }


def _ratio(truth: float, prediction: float) -> float:
    if truth == prediction:
        return 1.0
    if truth <= 0 or prediction <= 0:
        return math.inf
    return max(prediction / truth, truth / prediction)


def mean(values: list[float]) -> float | None:
    """None of no values, and where an absurd answer (1e200 metres) makes it infinite, which JSON cannot hold."""
    found = sum(values) / len(values) if values else math.inf
    return found if math.isfinite(found) else None


class Problems:
    """Counts every problem and keeps the first few."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.listed: list[dict[str, str]] = []

    def add(self, kind: str, row_id: str, reason: str) -> None:
        self.counts[kind] += 1
        if len(self.listed) < MAX_PROBLEMS:
            self.listed.append({"kind": kind, "id": row_id, "reason": reason})

    def summary(self) -> str:
        return ", ".join(f"{number} {kind}" for kind, number in sorted(self.counts.items()))

    def refuse(self, strict: bool) -> None:
        """Raises DataError under ``strict`` when there is any problem."""
        if strict and self.counts:
            first = self.listed[0]
            raise DataError(f"{self.summary()}; first: {first['id']}: {first['reason']}. Without --strict such rows count as wrong")


def rows_by_id(rows: Iterable[Mapping[str, Any]], name: str, problems: Problems) -> dict[str, Mapping[str, Any]]:
    """Rows by id; of rows with the same id the last one counts, as in the official script."""
    table: dict[str, Mapping[str, Any]] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or row.get("id") is None:
            raise DataError(f"{name}, row {index}: found {str(row)[:60]!r}; expected an object with an 'id'")
        row_id = str(row["id"])
        if row_id in table:
            problems.add("duplicate", row_id, f"repeated in the {name}: the last one counts")
        table[row_id] = row
    return table


def _parse_truth(row_id: str, category: str, value: Any) -> Any:
    try:
        if value is None:
            raise ValueError("there is none")
        return _TASKS[category].parse(value)
    except ValueError as error:
        hint = "a test split without answers cannot be scored" if value is None else "correct the truth file"
        raise DataError(f"truth of {row_id}: normalized_answer {value!r} is no answer of {category} ({error}); {hint}") from None


def _parse_prediction(row_id: str, category: str, row: Mapping[str, Any] | None, problems: Problems) -> Any:
    """The readable answer, or None after noting what is wrong with it."""
    if row is None:
        problems.add("missing", row_id, "not predicted: counted as wrong")
        return None
    value = row.get("normalized_answer")
    if value is None:
        reason = row.get("error") or f"no normalized_answer from {str(row.get('answer', ''))[:80]!r}"
        problems.add("unparsable", row_id, f"{category}: {reason}")
        return None
    parsed = _TASKS[category].parse_or_none(value)
    if parsed is None:
        problems.add("unparsable", row_id, f"{category}: {str(value)[:80]!r} is no answer of this category")
    return parsed


def score_files(truth_path: str | Path, predictions_path: str | Path, strict: bool = False) -> dict[str, Any]:
    """:func:`score` on two files, each a JSON list or JSON lines. Raises DataError naming the file (and line) that cannot be read."""
    return score(read_rows(truth_path), read_rows(predictions_path), strict)


def format_result(result: Mapping[str, Any]) -> str:
    """Format a result of ``score`` or ``spatial_bench.score`` as a few lines of text."""
    width = max(map(len, result["accuracy"]))
    rows = [
        f"  {name:<{width}} {accuracy:6.2f} %   {counts['num_correct']} of {counts['num_questions']}"
        for name, accuracy in result["accuracy"].items()
        for counts in [result["by_category"][name]]
    ]
    means = [f"{name} {result[name]:.2f}" for name in ("S1", "qualitative", "quantitative") if result.get(name) is not None]
    extractors = [
        f"  read by {name}: S1 {found['S1']:.2f}, {found['num_unreadable']} unreadable"
        for name, found in result.get("extractors", {}).items()
    ]
    if "judge" in result:
        judged = [f"{name} {result['judge'][name]:.2f}" for name in ("qualitative", "quantitative") if result["judge"][name] is not None]
        without = f"{result['judge']['problem_counts'].get('unparsable', 0)} without a verdict"
        extractors.append(f"  judged by {result['judge']['model']}: {', '.join([*judged, without])}")
    return "\n".join([f"{', '.join(means)} on {result['num_questions']} questions", *rows, *extractors])
