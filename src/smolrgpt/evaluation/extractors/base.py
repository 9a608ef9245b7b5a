"""The Extractor protocol, and the fields of a row that extractors read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from smolrgpt.tasks import NormalizedAnswer, Task, recognise, task_named
from smolrgpt.tasks.units import METRE

#: A prediction; its values come from files of any program and are not checked.
Row = Mapping[str, Any]


class Extractor(Protocol):
    """Reads short answers out of the texts of predictions."""

    def __call__(self, rows: Sequence[Row]) -> list[NormalizedAnswer]:
        """Return one answer per row {question, category, answer, normalized_answer, unit}, None where there is nothing to read.

        Lengths are returned in metres.

        Never raises because of the contents of a row.
        """
        ...


def row_text(row: Row, name: str) -> str:
    """Return a text of the row, "" where there is none.

    Half of a surrogate pair, which JSON can hold and tokenizers refuse, becomes "?".
    """
    value = row.get(name)
    return value.encode("utf-8", errors="replace").decode("utf-8") if isinstance(value, str) else ""


def with_answer(row: Row, answer: NormalizedAnswer) -> dict[str, Any]:
    """Return the row with the normalised answer that an extractor read, lengths in metres."""
    return {**row, "normalized_answer": answer, "unit": METRE if answer is not None and row_task(row).is_length else None}


def row_task(row: Row) -> Task:
    """Return the kind of question that the row's category names; without a category, the kind recognised from the question's words."""
    category = row_text(row, "category")
    return task_named(category) if category else recognise(row_text(row, "question"))
