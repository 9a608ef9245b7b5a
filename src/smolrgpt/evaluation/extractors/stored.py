"""The extractor "self": the normalised answer that a row already has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smolrgpt.evaluation.extractors.base import Row, row_task
from smolrgpt.tasks import NormalizedAnswer, Task
from smolrgpt.tasks.units import in_metres

#: A longer text is no short answer.
MAX_CHARS = 100
#: A larger number is no short answer.
MAX_NUMBER = 1e9


def stored_answers(rows: Sequence[Row]) -> list[NormalizedAnswer]:
    """Return the ``normalized_answer`` of each row where it is a short text or a finite number, else None.

    A length in another ``unit`` of the row is converted to metres.
    """
    return [_short_answer(stored_value(row, row_task(row))) for row in rows]


def stored_value(row: Row, task: Task) -> Any:
    """Return the ``normalized_answer`` of a row; a length in metres, whatever the row's ``unit``, and None where that is no unit."""
    value = row.get("normalized_answer")
    return in_metres(value, row.get("unit")) if task.is_length else value


def _short_answer(value: Any) -> NormalizedAnswer:
    if isinstance(value, str):
        return value if len(value) <= MAX_CHARS else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= MAX_NUMBER else None
