"""The warehouse score (AI City Challenge 2025, Track 3): four accuracies in percent and their mean, S1. Needs no torch.

Scores as the official script does wherever that script gives a score. Where it refuses or crashes (ids that differ, an answer that is
not a number), the row counts as wrong and is reported; ``strict`` raises instead.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from smolrgpt.data.io import read_rows
from smolrgpt.schema import DataError

CATEGORIES = ("left_right", "count", "mcq", "distance")
#: A distance is right between these multiples of the truth, both ends included (official rule); a truth of 0 needs exactly 0.
DISTANCE_FACTORS = (0.90, 1.10)
#: The detail metric a1 asks for max(p / g, g / p) below this (official detail metrics).
A1_RATIO = 1.10
#: The official relative distance error divides by g + this, so it is meaningless on rows whose truth is 0.
ERROR_EPSILON = 1e-8
#: At most this many problems are listed one by one; ``problem_counts`` always counts all of them.
MAX_PROBLEMS = 50

_SIDES = {spelling.format(side): side for side in ("left", "right") for spelling in ("{}", "{} side", "{}-hand", "{} hand")}
_SIDES |= {"l": "left", "r": "right"}
#: Replaced one after the other as substrings, so "none" reads "n1": a quirk of the official script, kept to score as it does.
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = re.compile(r"\d+")


def parse_side(value: Any) -> str:
    """'left' or 'right' for the accepted spellings; any other text lower-cased and trimmed (equal to no side)."""
    text = str(value).lower().strip()
    return _SIDES.get(text, text)


def parse_choice(value: Any) -> str:
    """The first run of digits after number words became digits. Raises ValueError when there is none."""
    text = str(value).lower()
    if text.isascii() and text.isdigit():
        return text
    for number, word in enumerate(_NUMBER_WORDS):
        text = text.replace(word, str(number))
    found = _DIGITS.search(text)
    if found is None:
        raise ValueError("no region number")
    return found.group()


def parse_count(value: Any) -> int:
    """``int(float(value))``: "3.7" is 3. Raises ValueError for what is no finite number."""
    return int(parse_distance(value))


def parse_distance(value: Any) -> float:
    """Metres as a float. Raises ValueError for what is no finite number."""
    try:
        number = float(value)
    except (TypeError, OverflowError):
        raise ValueError("not a number") from None
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "left_right": parse_side,
    "count": parse_count,
    "mcq": parse_choice,
    "distance": parse_distance,
}


def _equal(truth: Any, prediction: Any) -> bool:
    return bool(truth == prediction)


def _near(truth: float, prediction: float) -> bool:
    return DISTANCE_FACTORS[0] * truth <= prediction <= DISTANCE_FACTORS[1] * truth


_RULES: dict[str, Callable[[Any, Any], bool]] = {"left_right": _equal, "count": _equal, "mcq": _equal, "distance": _near}


def parse_answer(category: str, value: Any) -> Any:
    """A normalised answer of one of ``CATEGORIES`` as it is compared; None when it is no answer of that category."""
    try:
        parsed = None if value is None else _PARSERS[category](value)
    except ValueError:
        return None
    return None if category == "left_right" and parsed not in ("left", "right") else parsed


def score_row(category: str, truth: Any, pred: Any) -> bool:
    """Whether one normalised answer is right. An unreadable prediction is wrong; an unreadable truth or category raises ValueError."""
    if category not in _PARSERS:
        raise ValueError(f"category is {category!r}; expected one of {', '.join(CATEGORIES)}")
    expected = _PARSERS[category](truth)
    try:
        return pred is not None and _RULES[category](expected, _PARSERS[category](pred))
    except ValueError:
        return False


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
    numbers: dict[str, list[tuple[float, float]]] = {"count": [], "distance": []}
    for row_id, row in known.items():
        category = row.get("category")
        if not isinstance(category, str) or category not in _PARSERS:
            problems.add("unscored_category", row_id, f"category {category!r} is not scored: left out")
            continue
        expected = _parse_truth(row_id, category, row.get("normalized_answer"))
        totals[category] += 1
        parsed = _parse_prediction(row_id, category, given.get(row_id), problems)
        if parsed is None:
            continue
        correct[category] += _RULES[category](expected, parsed)
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
        "error_rates": {
            "count": mean([abs(p - g) / max(1, g) for g, p in numbers["count"]]),
            "distance": mean([abs(p - g) / (g + ERROR_EPSILON) for g, p in numbers["distance"]]),
        },
        "distance": {
            "including_zero_truth": distance_details(numbers["distance"]),
            "excluding_zero_truth": distance_details([(g, p) for g, p in numbers["distance"] if g > 0]),
        },
        "problem_counts": dict(problems.counts),
        "problems": problems.listed,
    }


def distance_details(pairs: list[tuple[float, float]]) -> dict[str, float | int | None]:
    """abs_rel, rmse in metres and a1 in percent over (truth, prediction) pairs in metres; None where there is no pair."""
    rmse = mean([(p - g) * (p - g) for g, p in pairs])
    a1 = mean([float(_ratio(g, p) < A1_RATIO) for g, p in pairs])
    return {
        "num_rows": len(pairs),
        "abs_rel": mean([abs(p - g) / (g + ERROR_EPSILON) for g, p in pairs]),
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
        return _PARSERS[category](value)
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
    parsed = parse_answer(category, value)
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
