"""The extractor "rules": the rules by which the Task of a question reads free text."""

from __future__ import annotations

from collections.abc import Sequence

from smolrgpt.evaluation.extractors.base import Row, task_of, text_of
from smolrgpt.tasks import NormalizedAnswer


def read_by_rules(rows: Sequence[Row]) -> list[NormalizedAnswer]:
    """Read the text of each row by the rules of its kind of question."""
    return [task_of(row).read(text_of(row, "question"), text_of(row, "answer")) for row in rows]
