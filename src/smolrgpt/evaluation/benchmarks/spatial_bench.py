"""SpatialRGPT-Bench: success rates of lengths and directions, accuracies of comparisons, by the paper's groups. Needs no torch.

The published marks of the qualitative questions come from a language-model judge; here rules read the answers (``spatial_answers``), so
that a score is the same tomorrow. An answer no rule reads is wrong and listed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolrgpt.data.io import iter_rows
from smolrgpt.evaluation.benchmarks.spatial_answers import RELATIONS, parse_choice, parse_clock, parse_length, parse_predicate
from smolrgpt.evaluation.score import Problems, mean, rows_by_id
from smolrgpt.schema import DataError, Sample

#: A length is right between these multiples of the truth, both ends included (official rule).
LENGTH_FACTORS = (0.75, 1.25)
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
QUANTITATIVE: dict[str, tuple[str, ...]] = {**LENGTHS, "direction": ("direction",)}
GROUPS = {**QUALITATIVE, **QUANTITATIVE}
#: Published (qualitative, quantitative) averages in percent. The blind model saw no picture: what the wording gives away.
PUBLISHED: dict[str, tuple[float, float]] = {
    "N3D-VLM-7B": (95.7, 78.0),
    "SpatialReasoner-R1-8B": (95.6, 77.3),
    "SpatialRGPT-8B": (92.7, 61.4),
    "blind model trained on OSD": (86.9, 27.2),
    "GPT-4V (quantitative: about)": (58.1, 38.0),
}
_GROUP_OF = {category: group for group, categories in GROUPS.items() for category in categories}

Value = float | bool | int


@dataclass(frozen=True)
class Kind:
    """What a question asks for. category: qa_info's; group: the paper's; form: length, clock, predicate or choice.

    asked: the comparison, a key of ``RELATIONS``, of predicates and choices.
    """

    category: str
    group: str
    form: str
    asked: str | None = None

    def parse(self, answer: str) -> Value | None:
        """Metres, hours, whether it is so, or the region's number; None when no rule reads the answer."""
        return _PARSERS[self.form](answer, self.asked or "") if len(answer) <= MAX_CHARS else None

    def right(self, truth: Value, prediction: Value) -> bool:
        """Whether a parsed answer counts as right."""
        return _RULES[self.form](truth, prediction)


def question_kind(qa_info: Mapping[str, Any] | str) -> Kind:
    """The kind of a question from its row's qa_info {type, category}, as an object, as its JSON, or the bare category.

    Raises ValueError for a category the benchmark does not have.
    """
    if isinstance(qa_info, str) and qa_info.lstrip().startswith("{"):
        qa_info = json.loads(qa_info)
    category = qa_info.get("category") if isinstance(qa_info, Mapping) else qa_info
    if not isinstance(category, str) or category not in _GROUP_OF:
        raise ValueError(f"category is {category!r}; expected one of {', '.join(_GROUP_OF)}")
    group, (asked, _, form) = _GROUP_OF[category], category.partition("_")
    if asked in RELATIONS:
        return Kind(category, group, form, asked)
    return Kind(category, group, "clock" if category == "direction" else "length")


def hours_off(truth: float, prediction: float) -> float:
    """The smaller angle between two clock directions, in hours 0..6."""
    off = abs(prediction - truth) % 12
    return min(off, 12 - off)


def is_near(truth: float, prediction: float) -> bool:
    """Whether a length in metres is right."""
    return LENGTH_FACTORS[0] * truth <= prediction <= LENGTH_FACTORS[1] * truth


_PARSERS: dict[str, Callable[[str, str], Value | None]] = {
    "length": lambda answer, _: parse_length(answer),
    "clock": lambda answer, _: parse_clock(answer),
    "predicate": parse_predicate,
    "choice": parse_choice,
}
_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "length": is_near,
    "clock": lambda truth, prediction: hours_off(truth, prediction) <= MAX_HOURS_OFF,
    "predicate": lambda truth, prediction: bool(truth == prediction),
    "choice": lambda truth, prediction: bool(truth == prediction),
}


# -------------------------------------------------------------------------------------------------------------------------- scoring
@dataclass(frozen=True)
class Asked:
    """A question of the benchmark with the answer somebody gave: both texts, and the truth as ``Kind.parse`` reads it."""

    id: str
    kind: Kind
    question: str
    truth_text: str
    truth: Value
    answer: str


@dataclass(frozen=True)
class Reading:
    """What an answer says, as ``Kind.parse`` would give it; None and the reason where it cannot be told."""

    value: Value | None
    reason: str = ""


Reader = Callable[[Sequence[Asked]], list[Reading]]


def read_by_rules(asked: Sequence[Asked]) -> list[Reading]:
    """Every answer as the rules of ``spatial_answers`` read it."""
    return [_by_rules(one) for one in asked]


def _by_rules(one: Asked) -> Reading:
    value = one.kind.parse(one.answer)
    return Reading(value, "" if value is not None else f"no {one.kind.form} in {' '.join(one.answer.split())[:80]!r}")


def score(
    truth: Iterable[Mapping[str, Any]],
    predictions: Iterable[Mapping[str, Any]],
    strict: bool = False,
    read: Reader = read_by_rules,
) -> dict[str, Any]:
    """Score predictions {id, answer} against truth {id, category, answer}; both answers are free text, read by ``read`` and by the rules.

    Returns percentages 0..100: ``accuracy`` {group: %}, ``qualitative`` and ``quantitative`` (means over their groups that are present,
    else None); ``num_questions`` and ``num_correct``; ``by_category`` {group: {num_questions, num_correct, num_read}}; ``abs_rel``
    {group of lengths: mean of |p-g| / (g + 1e-4) over the answers read} and ``angle_error_deg`` (mean over the directions read), None
    where none was; ``lengths`` {group: [truth, answer] in metres of each that was read}; ``problem_counts`` and ``problems`` as in the
    warehouse score. A problem row counts as wrong.

    Raises DataError when the truth is unusable, and under ``strict`` on missing, extra or repeated ids and unreadable answers.
    """
    problems = Problems()
    totals, asked = _asked(truth, predictions, problems)
    correct: Counter[str] = Counter()
    pairs: dict[str, list[tuple[Any, Any]]] = {group: [] for group in GROUPS}
    for one, reading in zip(asked, read(asked), strict=True):
        if reading.value is None:
            problems.add("unparsable", one.id, f"{one.kind.category}: {reading.reason}")
            continue
        correct[one.kind.group] += one.kind.right(one.truth, reading.value)
        pairs[one.kind.group].append((one.truth, reading.value))
    problems.refuse(strict)
    accuracy = {group: 100.0 * correct[group] / totals[group] for group in GROUPS if totals[group]}
    return {
        "qualitative": mean([accuracy[group] for group in QUALITATIVE if group in accuracy]),
        "quantitative": mean([accuracy[group] for group in QUANTITATIVE if group in accuracy]),
        "accuracy": accuracy,
        "num_questions": sum(totals.values()),
        "num_correct": sum(correct.values()),
        "by_category": {
            group: {"num_questions": totals[group], "num_correct": correct[group], "num_read": len(pairs[group])} for group in accuracy
        },
        "abs_rel": {group: mean([abs(p - g) / (g + ERROR_EPSILON) for g, p in pairs[group]]) for group in LENGTHS if group in accuracy},
        "lengths": {group: [[round(value, 4) for value in pair] for pair in pairs[group]] for group in LENGTHS if pairs[group]},
        "angle_error_deg": mean([DEGREES_PER_HOUR * hours_off(g, p) for g, p in pairs["direction"]]),
        "problem_counts": dict(problems.counts),
        "problems": problems.listed,
    }


def summarise(samples: Sequence[Sample], predictions: Iterable[Mapping[str, Any]], strict: bool = False) -> dict[str, Any]:
    """``score`` of the samples that have an answer."""
    truth = [
        {"id": one.id, "category": one.category, "question": one.metadata.get("text_q") or one.question, "answer": one.answer}
        for one in samples
        if one.answer is not None
    ]
    return score(truth, predictions, strict)


def _asked(
    truth: Iterable[Mapping[str, Any]], predictions: Iterable[Mapping[str, Any]], problems: Problems
) -> tuple[Counter[str], list[Asked]]:
    """Questions by group, and those that have an answer to read; notes what is wrong with the others."""
    known = rows_by_id(truth, "truth", problems)
    given = rows_by_id(predictions, "predictions", problems)
    for row_id in given:
        if row_id not in known:
            problems.add("extra", row_id, "predicted, but not in the truth: ignored")
    totals: Counter[str] = Counter()
    asked = []
    for row_id, row in known.items():
        try:
            kind = question_kind(row.get("category") or "")
        except ValueError:
            problems.add("unscored_category", row_id, f"category {row.get('category')!r} is not scored: left out")
            continue
        expected = _parse_truth(row_id, kind, row.get("answer"))
        totals[kind.group] += 1
        prediction = given.get(row_id)
        answer = None if prediction is None else prediction.get("answer")
        if prediction is None:
            problems.add("missing", row_id, "not predicted: counted as wrong")
        elif not isinstance(answer, str) or prediction.get("error"):
            problems.add("unparsable", row_id, f"{kind.category}: {prediction.get('error') or f'answer is {answer!r}, expected a text'}")
        else:
            question = str(row.get("question") or prediction.get("question") or "")
            asked.append(Asked(row_id, kind, question, str(row["answer"]), expected, answer))
    if not totals:
        raise DataError(f"the truth holds no question of SpatialRGPT-Bench; expected rows of the categories {', '.join(_GROUP_OF)}")
    return totals, asked


def _parse_truth(row_id: str, kind: Kind, answer: Any) -> Value:
    parsed = kind.parse(answer) if isinstance(answer, str) else None
    if parsed is None:
        hint = "a split without answers cannot be scored" if answer is None else "correct the truth file"
        raise DataError(f"truth of {row_id}: {str(answer)[:80]!r} is no {kind.form} as {kind.category} asks for; {hint}")
    return parsed


# ---------------------------------------------------------------------------------------------------------------------------- files
def read_truth(path: str | Path) -> list[dict[str, Any]]:
    """Truth rows {id, category, question, answer} of a JSON list, JSON lines or parquet.

    Understands the published rows (qa_info and conversations, perhaps as JSON strings) and flat ones: qa_category or category, and
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
        said = [turn.get("value") for turn in turns if turn.get("from") == "gpt"]
        question = row.get("text_q") if len(said) == 1 else None  # names the regions, where the conversation has placeholders
        category = field(field(row, "qa_info", dict), "category", str)
        for turn, answer in enumerate(said or [None]):  # one id a turn, as the reader of the data set gives them
            yield {"id": f"{row.get('id')}-{turn}" if turn else row.get("id"), "category": category, "question": question, "answer": answer}

    return [made for row in _numbered(path, truth) for made in row]


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """Prediction rows {id, answer} of a JSON list, JSON lines or parquet; the text may also be called prediction or pred."""

    def prediction(row: dict[str, Any]) -> dict[str, Any]:
        answer = next((row[name] for name in ("answer", "prediction", "pred") if row.get(name) is not None), None)
        return {**row, "answer": answer}

    return list(_numbered(path, prediction))


def _numbered(path: str | Path, make: Callable[[dict[str, Any]], Any]) -> Iterable[Any]:
    """``make`` of every row of a file; errors name the row."""
    index = -1
    for index, row in enumerate(iter_rows(path)):
        try:
            if not isinstance(row, dict) or row.get("id") is None:
                raise DataError(f"found {str(row)[:60]!r}; expected an object with an 'id'")
            made = make(row)
            yield list(made) if not isinstance(made, dict) else made
        except DataError as error:
            raise DataError(f"{path} row {index}: {error}") from None
    if index < 0:
        raise DataError(f"{path}: found an empty file; expected a JSON list of objects, one JSON object a line, or parquet")
