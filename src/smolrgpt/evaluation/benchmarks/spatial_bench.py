"""SpatialRGPT-Bench: success rates of lengths and directions, accuracies of comparisons, by the groups of the paper. Needs no torch.

The published scores of the qualitative questions come from a language-model judge; here rules read the answers (``spatial_answers``), so
that a score can be repeated. An answer that no rule reads is wrong and listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolrgpt.data.io import iter_rows
from smolrgpt.data.sources import read_source
from smolrgpt.data.sources.warehouse import DepthChoice
from smolrgpt.evaluation.benchmarks.spatial_answers import RELATIONS, parse_choice, parse_clock, parse_length, parse_predicate
from smolrgpt.evaluation.predict import Row
from smolrgpt.evaluation.report.document import Report
from smolrgpt.evaluation.report.spatial import spatial_report
from smolrgpt.evaluation.score import Problems, finite_mean, match_rows
from smolrgpt.schema import DataError, Sample

#: A length is right between these multiples of the truth, both ends included (official rule).
LENGTH_TOLERANCE = (0.75, 1.25)
#: The official relative error of a length divides by g + this, in metres.
ERROR_EPSILON = 1e-4
#: A direction is right when it is at most this many hours off (official rule); an hour is 30 degrees.
MAX_HOURS_OFF = 1
DEGREES_PER_HOUR = 30
#: A longer text is no answer (real ones have some hundred characters), and some rules take time quadratic in it.
MAX_CHARS = 10_000

#: Group of the paper's tables -> the categories of qa_info in it.
QUALITATIVE: dict[str, tuple[str, ...]] = {
    f"{first}/{second}": tuple(f"{word}_{form}" for word in (first, second) for form in ("predicate", "choice"))
    for first, second in (("below", "above"), ("left", "right"), ("big", "small"), ("tall", "short"), ("wide", "thin"), ("behind", "front"))
}
LENGTHS: dict[str, tuple[str, ...]] = {
    "direct distance": ("distance_data",),
    "horizontal distance": ("horizontal_distance_data",),
    "vertical distance": ("vertical_distance_data",),
    "width": ("width_data",),
    "height": ("height_data",),
}
_DIRECTION = "direction"
QUANTITATIVE: dict[str, tuple[str, ...]] = {**LENGTHS, _DIRECTION: ("direction",)}
GROUPS = {**QUALITATIVE, **QUANTITATIVE}
_GROUP_OF = {category: group for group, categories in GROUPS.items() for category in categories}

#: A parsed answer: metres or hours, whether a predicate holds, or a region index.
Value = float | bool | int


@dataclass(frozen=True)
class Kind:
    """The kind of a question of the benchmark.

    Attributes:
        category: The category in the row's qa_info.
        group: The group of the paper's tables that it belongs to.
        form: "length", "clock", "predicate" or "choice".
        relation: The comparison that a predicate or choice asks about, a key of ``RELATIONS``; "" for lengths and directions.
    """

    category: str
    group: str
    form: str
    relation: str = ""

    def parse(self, answer: str) -> Value | None:
        """Return metres, hours, whether the predicate holds, or the region index; None when no rule reads the answer."""
        return _PARSERS[self.form](answer, self.relation) if len(answer) <= MAX_CHARS else None

    def is_correct(self, truth: Value, prediction: Value) -> bool:
        """Compare two parsed answers by the official rule."""
        return _RULES[self.form](truth, prediction)


def question_kind(category: Any) -> Kind:
    """Return the kind of a question from the category in its qa_info. Raises ValueError for one that the benchmark does not have."""
    if not isinstance(category, str) or category not in _GROUP_OF:
        raise ValueError(f"category is {category!r}; expected one of {', '.join(_GROUP_OF)}")
    group, (relation, _, form) = _GROUP_OF[category], category.partition("_")
    if relation in RELATIONS:
        return Kind(category, group, form, relation)
    return Kind(category, group, "clock" if group == _DIRECTION else "length")


def clock_difference_h(truth: float, prediction: float) -> float:
    """Return the smaller angle between two clock directions, in hours from 0 to 6."""
    off = abs(prediction - truth) % 12
    return min(off, 12 - off)


def is_near(truth: float, prediction: float) -> bool:
    """Return whether a length in metres is within the official tolerance of the truth."""
    return LENGTH_TOLERANCE[0] * truth <= prediction <= LENGTH_TOLERANCE[1] * truth


_PARSERS: dict[str, Callable[[str, str], Value | None]] = {
    "length": lambda answer, _: parse_length(answer),
    "clock": lambda answer, _: parse_clock(answer),
    "predicate": parse_predicate,
    "choice": parse_choice,
}
_RULES: dict[str, Callable[[Value, Value], bool]] = {
    "length": is_near,
    "clock": lambda truth, prediction: clock_difference_h(truth, prediction) <= MAX_HOURS_OFF,
    "predicate": lambda truth, prediction: truth == prediction,
    "choice": lambda truth, prediction: truth == prediction,
}


# -------------------------------------------------------------------------------------------------------------------------- scoring
@dataclass(frozen=True)
class AnsweredQuestion:
    """A question of the benchmark with the answer to it: both texts, and the truth as ``Kind.parse`` reads it."""

    id: str
    kind: Kind
    question: str
    truth_text: str
    truth: Value
    answer: str


@dataclass(frozen=True)
class Reading:
    """The content of an answer, as ``Kind.parse`` would return it; None, and the reason, where it cannot be read."""

    value: Value | None
    reason: str = ""


Reader = Callable[[Sequence[AnsweredQuestion]], list[Reading]]


def read_by_rules(questions: Sequence[AnsweredQuestion]) -> list[Reading]:
    """Read every answer by the rules of ``spatial_answers``."""
    return [_read_by_rules(question) for question in questions]


def _read_by_rules(question: AnsweredQuestion) -> Reading:
    value = question.kind.parse(question.answer)
    return Reading(value, "" if value is not None else f"no {question.kind.form} in {' '.join(question.answer.split())[:80]!r}")


def score(
    truth: Iterable[Mapping[str, Any]],
    predictions: Iterable[Mapping[str, Any]],
    strict: bool = False,
    read: Reader = read_by_rules,
) -> dict[str, Any]:
    """Score predictions {id, answer} against truth {id, category, answer}, where both answers are free text.

    Args:
        truth: The questions with their true answers, which the rules read.
        predictions: The answers.
        strict: Whether a problem raises DataError.
        read: What reads the answers.

    Returns:
        Percentages: ``accuracy`` {group: %}, ``qualitative`` and ``quantitative`` (means over their groups that are present, else None);
        ``num_questions`` and ``num_correct``; ``by_category`` {group: {num_questions, num_correct, num_read}}; ``abs_rel`` {group of
        lengths: mean of |p - g| / (g + 1e-4) over the answers read} and ``angle_error_deg`` (mean over the directions read), None where
        none was; ``lengths`` {group: [truth, answer] in metres of each that was read}; ``problem_counts`` and ``problems`` as in the
        warehouse score. A missing or unreadable answer counts as wrong.

    Raises:
        DataError: The truth is unusable; under ``strict``, there are missing, extra or repeated ids or unreadable answers.
    """
    problems = Problems()
    totals, questions = _answered_questions(truth, predictions, problems)
    correct: Counter[str] = Counter()
    pairs: dict[str, list[tuple[float, float]]] = {group: [] for group in GROUPS}
    for question, reading in zip(questions, read(questions), strict=True):
        kind = question.kind
        if reading.value is None:
            problems.add("unparsable", question.id, f"{kind.category}: {reading.reason}")
            continue
        correct[kind.group] += kind.is_correct(question.truth, reading.value)
        pairs[kind.group].append((question.truth, reading.value))
    problems.raise_if_strict(strict)
    accuracy = {group: 100.0 * correct[group] / totals[group] for group in GROUPS if totals[group]}
    return {
        "qualitative": finite_mean([accuracy[group] for group in QUALITATIVE if group in accuracy]),
        "quantitative": finite_mean([accuracy[group] for group in QUANTITATIVE if group in accuracy]),
        "accuracy": accuracy,
        "num_questions": totals.total(),
        "num_correct": correct.total(),
        "by_category": {
            group: {"num_questions": totals[group], "num_correct": correct[group], "num_read": len(pairs[group])} for group in accuracy
        },
        "abs_rel": {group: finite_mean([_relative_error(*pair) for pair in pairs[group]]) for group in LENGTHS if group in accuracy},
        "lengths": {group: [[round(value, 4) for value in pair] for pair in pairs[group]] for group in LENGTHS if pairs[group]},
        "angle_error_deg": finite_mean([DEGREES_PER_HOUR * clock_difference_h(*pair) for pair in pairs[_DIRECTION]]),
        **problems.as_dict(),
    }


def _relative_error(truth: float, prediction: float) -> float:
    return abs(prediction - truth) / (truth + ERROR_EPSILON)


def _answered_questions(
    truth: Iterable[Mapping[str, Any]], predictions: Iterable[Mapping[str, Any]], problems: Problems
) -> tuple[Counter[str], list[AnsweredQuestion]]:
    """Return the number of questions by group, and the questions with an answer to read; note the problems of the others."""
    totals: Counter[str] = Counter()
    questions = []
    for row_id, row, prediction in match_rows(truth, predictions, problems):
        try:
            kind = question_kind(row.get("category"))
        except ValueError:
            problems.add("unscored_category", row_id, f"category {row.get('category')!r} is not scored: left out")
            continue
        expected = _parse_truth(row_id, kind, row.get("answer"))
        totals[kind.group] += 1
        if prediction is None:
            problems.add("missing", row_id, "not predicted: counted as wrong")
            continue
        answer = prediction.get("answer")
        if not isinstance(answer, str) or prediction.get("error"):
            reason = prediction.get("error") or f"answer is {answer!r}, expected a text"
            problems.add("unparsable", row_id, f"{kind.category}: {reason}")
            continue
        text = str(row.get("question") or prediction.get("question") or "")
        questions.append(AnsweredQuestion(row_id, kind, text, str(row["answer"]), expected, answer))
    if not totals:
        raise DataError(f"the truth holds no question of SpatialRGPT-Bench; expected rows of the categories {', '.join(_GROUP_OF)}")
    return totals, questions


def _parse_truth(row_id: str, kind: Kind, answer: Any) -> Value:
    parsed = kind.parse(answer) if isinstance(answer, str) else None
    if parsed is None:
        hint = "a split without answers cannot be scored" if answer is None else "correct the truth file"
        raise DataError(f"truth of {row_id}: {str(answer)[:80]!r} is no {kind.form} as {kind.category} asks for; {hint}")
    return parsed


class SpatialBenchmark:
    """SpatialRGPT-Bench, read by rules."""

    name = "spatial"
    description = "SpatialRGPT-Bench, by its groups"

    def load(self, root: Path, split: str | None, depth: DepthChoice) -> list[Sample]:
        """Return the questions of a split, by default ``val``; ``depth`` "none" leaves the depth maps out."""
        return read_source("spatial_bench", root, split or "val", **({"depths": None} if depth == "none" else {}))

    def can_score(self, sample: Sample) -> bool:
        """Return whether the sample has an answer."""
        return sample.answer is not None

    def score(self, samples: Sequence[Sample], predictions: Sequence[Row]) -> dict[str, Any]:
        """Return ``score`` of the samples that have an answer."""
        truth = [
            {"id": sample.id, "category": sample.category, "question": sample.text_question or sample.question, "answer": sample.answer}
            for sample in filter(self.can_score, samples)
        ]
        return score(truth, predictions)

    def report(self, result: Mapping[str, Any], samples: Sequence[Sample], predictions: Sequence[Row]) -> Report:
        """Return the report with a plot for each group of lengths."""
        return spatial_report(result, LENGTH_TOLERANCE, is_near)


# ---------------------------------------------------------------------------------------------------------------------------- files
def read_truth(path: str | Path) -> list[dict[str, Any]]:
    """Read truth rows {id, category, question, answer} of a JSON list, JSON lines or parquet.

    Rows may be the published ones (qa_info and conversations, perhaps as JSON strings) or flat: qa_category or category, and
    ground_truth or answer. Raises DataError naming file and row.
    """
    from smolrgpt.data.sources.rows import field

    def truth(row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        if row.get("conversations") is None:
            category = next((row[name] for name in ("qa_category", "category") if row.get(name)), None)
            answer = next((row[name] for name in ("ground_truth", "answer") if row.get(name) is not None), None)
            yield {"id": row.get("id"), "category": category, "question": row.get("question"), "answer": answer}
            return
        turns = [turn for turn in field(row, "conversations", list) if isinstance(turn, dict)]
        answers = [turn.get("value") for turn in turns if turn.get("from") == "gpt"]
        question = row.get("text_q") if len(answers) == 1 else None  # names the regions, where the conversation has placeholders
        category = field(field(row, "qa_info", dict), "category", str)
        for turn, answer in enumerate(answers or [None]):  # one id a turn, as the reader of the data set gives them
            yield {"id": f"{row.get('id')}-{turn}" if turn else row.get("id"), "category": category, "question": question, "answer": answer}

    return list(_converted_rows(path, truth))


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """Read prediction rows {id, answer} of a JSON list, JSON lines or parquet; the text may also be called prediction or pred."""

    def prediction(row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        answer = next((row[name] for name in ("answer", "prediction", "pred") if row.get(name) is not None), None)
        yield {**row, "answer": answer}

    return list(_converted_rows(path, prediction))


def _converted_rows(path: str | Path, convert: Callable[[dict[str, Any]], Iterable[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield what ``convert`` makes of every row of a file; errors name the row."""
    index = -1
    for index, row in enumerate(iter_rows(path)):
        try:
            if not isinstance(row, dict) or row.get("id") is None:
                raise DataError(f"found {str(row)[:60]!r}; expected an object with an 'id'")
            yield from convert(row)
        except DataError as error:
            raise DataError(f"{path} row {index}: {error}") from None
    if index < 0:
        raise DataError(f"{path}: found an empty file; expected a JSON list of objects, one JSON object a line, or parquet")
