"""The extractor "self": the normalised answer that a row already has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smolrgpt.evaluation.extractors.base import Row
from smolrgpt.tasks import NormalizedAnswer

#: A longer text is no short answer.
MAX_CHARS = 100
#: A larger number is no short answer.
MAX_NUMBER = 1e9


def stored_answers(rows: Sequence[Row]) -> list[NormalizedAnswer]:
    """Return the ``normalized_answer`` of each row where it is a short text or a finite number, else None."""
    return [_short_answer(row.get("normalized_answer")) for row in rows]


def _short_answer(value: Any) -> NormalizedAnswer:
    if isinstance(value, str):
        return value if len(value) <= MAX_CHARS else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= MAX_NUMBER else None
