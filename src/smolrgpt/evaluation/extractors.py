"""Back ends that read the short answer out of what a model wrote, all called alike: rows in, answers out, a row never an exception.

self        what the model itself put into its answer field (``decoding.AnswerField``); what the rows carry
rules       ``evaluation/extract.py``, from the text alone
llm         any OpenAI-compatible endpoint, ``evaluation/llm.py``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from smolrgpt.evaluation.extract import Answer, extract

Row = Mapping[str, Any]


class Extractor(Protocol):
    """Rows {question, category, answer, normalized_answer} -> as many answers, in order; None where there is nothing to read."""

    def __call__(self, rows: Sequence[Row]) -> list[Answer]: ...


def by_itself(rows: Sequence[Row]) -> list[Answer]:
    """The rows' own ``normalized_answer``."""
    return [row.get("normalized_answer") for row in rows]


def by_rules(rows: Sequence[Row]) -> list[Answer]:
    """``extract`` on every text."""
    return [extract(_text(row, "question"), _text(row, "answer"), row.get("category")) for row in rows]


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _by_llm(**options: Any) -> Extractor:
    from smolrgpt.evaluation.llm import LLMExtractor

    return LLMExtractor(**options)


#: Name -> what makes the back end of its options.
EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "self": lambda: by_itself,
    "rules": lambda: by_rules,
    "llm": _by_llm,
}


def make_extractors(names: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Extractor]:
    """The named back ends; options: name -> arguments of that one. Raises ValueError for a name that there is not."""
    unknown = [name for name in names if name not in EXTRACTORS]
    if unknown:
        raise ValueError(f"no extractor {unknown[0]!r}; expected some of {', '.join(EXTRACTORS)}")
    return {name: EXTRACTORS[name](**(options or {}).get(name, {})) for name in names}
