"""Extractors, one per file, which read the short answer out of a text: rows in, answers out.

self        the normalised answer that the row already has
rules       the rules of the question's Task
classifier  two trained text classifiers, as in the released program
llm         a language model behind any OpenAI-compatible endpoint
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smolrgpt.data.io import parse_value
from smolrgpt.evaluation.extractors.base import Extractor, Row, with_answer
from smolrgpt.evaluation.extractors.rules import read_by_rules
from smolrgpt.evaluation.extractors.stored import stored_answers, stored_value

__all__ = [
    "EXTRACTORS",
    "Extractor",
    "Row",
    "extract_rows",
    "make_extractors",
    "read_by_rules",
    "stored_answers",
    "stored_value",
    "with_answer",
]


def _make_classifier(**options: Any) -> Extractor:
    from smolrgpt.evaluation.extractors.classifier import ClassifierExtractor

    return ClassifierExtractor(**options)


def _make_llm(**options: Any) -> Extractor:
    from smolrgpt.evaluation.extractors.llm import LLMExtractor

    return LLMExtractor(**options)


#: Name -> what makes the extractor from its options; torch and network clients are imported only by those that need them.
EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "self": lambda: stored_answers,
    "rules": lambda: read_by_rules,
    "classifier": _make_classifier,
    "llm": _make_llm,
}


def make_extractors(specs: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Extractor]:
    """Make extractors from their specifications.

    Args:
        specs: ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE`` each; a value is JSON where it can be, else text.
        options: Name -> default options of that extractor.

    Returns:
        Name -> extractor, in the order of ``specs``.

    Raises:
        ValueError: There is no such name or option, or a name is given twice.
    """
    made: dict[str, Extractor] = {}
    for spec in specs:
        name, _, given = spec.partition(":")
        if name not in EXTRACTORS:
            raise ValueError(f"no extractor {name!r}; expected some of {', '.join(EXTRACTORS)}, with options as NAME:OPTION=VALUE,...")
        if name in made:
            raise ValueError(f"extractor {name!r} is named twice; results are kept by name, so compare its options in two runs")
        try:
            made[name] = EXTRACTORS[name](**{**(options or {}).get(name, {}), **_parse_options(spec, given)})
        except TypeError as error:
            raise ValueError(f"extractor {spec!r}: {error}") from error
    return made


def _parse_options(spec: str, given: str) -> dict[str, Any]:
    parts = [part.partition("=") for part in given.split(",") if part]
    for option, equals, _ in parts:
        if not equals:
            raise ValueError(f"extractor {spec!r}: option {option!r} has no value; expected OPTION=VALUE")
    return {option.strip(): parse_value(value) for option, _, value in parts}


def extract_rows(extractors: Mapping[str, Extractor], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows with ``extracted`` {extractor: its answer}, and the first extractor's answer as ``normalized_answer``."""
    answers = {name: extractor(rows) for name, extractor in extractors.items()}
    by_row = [dict(zip(answers, column, strict=True)) for column in zip(*answers.values(), strict=True)]
    return [{**with_answer(row, next(iter(found.values()))), "extracted": found} for row, found in zip(rows, by_row, strict=True)]
