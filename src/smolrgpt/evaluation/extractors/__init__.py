"""Back ends that read the short answer out of what a model wrote, all called alike: rows in, answers out, a row never an exception.

self        what the model itself put into its answer field; what the rows carry
rules       ``evaluation/extract.py``, from the text alone
classifier  two trained text classifiers, ``evaluation/router.py``
llm         any OpenAI-compatible endpoint, ``evaluation/llm.py``
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from smolrgpt.tasks import NormalizedAnswer as Answer
from smolrgpt.tasks import Task, read_answer, task_named

Row = Mapping[str, Any]

#: A short answer is a word or a number; a longer text is none, nor is a number larger than this or not finite.
MAX_ANSWER_CHARS = 100
MAX_NUMBER = 1e9


class Extractor(Protocol):
    """Rows {question, category, answer, normalized_answer} -> as many answers, in order; None where there is nothing to read."""

    def __call__(self, rows: Sequence[Row]) -> list[Answer]: ...


def by_itself(rows: Sequence[Row]) -> list[Answer]:
    """The rows' own ``normalized_answer``, where it is a short text or a finite number."""
    return [_short_answer(row.get("normalized_answer")) for row in rows]


def by_rules(rows: Sequence[Row]) -> list[Answer]:
    """``extract`` on every text; the question tells the category where the row does not."""
    return [read_answer(text_of(row, "question"), text_of(row, "answer"), task_of(row)) for row in rows]


def text_of(row: Row, name: str) -> str:
    """A text of the row; "" where there is none. Half a surrogate pair, which JSON can hold and tokenizers refuse, becomes "?"."""
    value = row.get(name)
    return value.encode("utf-8", errors="replace").decode("utf-8") if isinstance(value, str) else ""


def task_of(row: Row) -> Task | None:
    """Return the kind of question that the row's category names, None where it gives none."""
    name = text_of(row, "category")
    return task_named(name) if name else None


def _short_answer(value: Any) -> Answer:
    if isinstance(value, str):
        return value if len(value) <= MAX_ANSWER_CHARS else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) <= MAX_NUMBER else None


def _by_classifier(**options: Any) -> Extractor:
    from smolrgpt.evaluation.extractors.classifier import ClassifierExtractor

    return ClassifierExtractor(**options)


def _by_llm(**options: Any) -> Extractor:
    from smolrgpt.evaluation.extractors.llm import LLMExtractor

    return LLMExtractor(**options)


#: Name -> what makes the back end of its options; torch and network clients are imported only by those that need them.
EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "self": lambda: by_itself,
    "rules": lambda: by_rules,
    "classifier": _by_classifier,
    "llm": _by_llm,
}


def make_extractors(specs: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Extractor]:
    """Name -> back end, of ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE`` (a value is JSON where it can be, else text).

    options: name -> more arguments of that one. Raises ValueError for a name or an option that there is not, and a name given twice.
    """
    made: dict[str, Extractor] = {}
    for spec in specs:
        name, _, given = spec.partition(":")
        if name not in EXTRACTORS:
            raise ValueError(f"no extractor {name!r}; expected some of {', '.join(EXTRACTORS)}, with options as NAME:OPTION=VALUE,...")
        if name in made:
            raise ValueError(f"extractor {name!r} is named twice; results are kept by name, so compare its options in two runs")
        try:
            made[name] = EXTRACTORS[name](**{**(options or {}).get(name, {}), **_options(spec, given)})
        except TypeError as error:
            raise ValueError(f"extractor {spec!r}: {error}") from error
    return made


def _options(spec: str, given: str) -> dict[str, Any]:
    parts = [part.partition("=") for part in given.split(",") if part]
    for option, equals, _ in parts:
        if not equals:
            raise ValueError(f"extractor {spec!r}: option {option!r} has no value; expected OPTION=VALUE")
    return {option.strip(): _value(value) for option, _, value in parts}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def read(extractors: Mapping[str, Extractor], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with ``extracted`` {extractor: its answer}; ``normalized_answer`` becomes that of the first one."""
    answers = {name: extractor(rows) for name, extractor in extractors.items()}
    tables = [dict(zip(answers, column, strict=True)) for column in zip(*answers.values(), strict=True)]
    return [{**row, "normalized_answer": next(iter(table.values())), "extracted": table} for row, table in zip(rows, tables, strict=True)]
