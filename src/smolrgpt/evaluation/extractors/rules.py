"""The extractor "rules": the rules by which the Task of a question reads free text."""

from __future__ import annotations

from collections.abc import Sequence

from smolrgpt.evaluation.extractors.base import Row, row_task, row_text
from smolrgpt.tasks import NormalizedAnswer


def read_by_rules(rows: Sequence[Row]) -> list[NormalizedAnswer]:
    """Read the text of each row by the rules of its kind of question."""
    return [row_task(row).read(row_text(row, "question"), row_text(row, "answer")) for row in rows]
